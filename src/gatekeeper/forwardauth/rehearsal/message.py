"""A request as its client sent it, read from a text (RFC 9112) or from its parts. Strict."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from gatekeeper.forwardauth.config.recorded import CLIENT, RecordedRequest
from gatekeeper.forwardauth.model import Rejected

MAX_MESSAGE_BYTES: Final = 65_536

# RFC 9112 section 3, in origin form or absolute form.
_LINE: Final = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([\x21-\x7e]{1,16384}) HTTP/1\.[01]"
)
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}):[ \t]*(.*?)[ \t]*")
_ABSOLUTE: Final = re.compile(r"(https?)://([^/?#@\s]{1,260})(/[^#\s]*|\?[^#\s]*)?", re.IGNORECASE)


class Message(NamedTuple):
    """A request on its way to a proxy. Header names are in lower case; Host is in `host`."""

    method: str
    scheme: str
    host: str
    target: str
    headers: list[tuple[bytes, bytes]]
    client: str


def read_message(text: bytes, *, scheme: str = "https", client: str = CLIENT) -> Message | Rejected:
    """Read the text of a request. What follows the first empty line is its body: not looked at.

    `scheme` is that of a request in origin form. Lines end in CRLF, or all of them in LF, as
    editors write them.
    """
    if len(text) > MAX_MESSAGE_BYTES:
        return Rejected(400, f"the request has more than {MAX_MESSAGE_BYTES} bytes")
    end = b"\r\n" if b"\r\n" in text else b"\n"
    head = text.split(end + end, 1)[0].removesuffix(end)
    first, *rest = head.split(end)
    if end == b"\r\n" and (b"\n" in head.replace(end, b"") or b"\r" in head.replace(end, b"")):
        return Rejected(400, "lines end in CRLF and in something else")
    line = _LINE.fullmatch(first)
    if line is None:
        return Rejected(400, "line 1: expected METHOD, target and HTTP/1.1")
    headers: list[tuple[bytes, bytes]] = []
    for number, field in enumerate(rest, 2):
        match = _FIELD.fullmatch(field)
        if match is None:
            return Rejected(400, f"line {number}: expected a header: name, colon, value")
        headers.append((match[1].lower(), match[2]))
    method, target = line[1].decode("ascii"), line[2].decode("ascii")
    hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
    if target.startswith("/") and len(hosts) == 1:
        url = f"{scheme}://{hosts[0]}{target}"
    elif target.startswith("/"):
        return Rejected(400, "expected exactly one Host")
    else:
        url = target
    message = _message(method, url, headers, client)
    if isinstance(message, Message) and any(h.lower() != message.host.lower() for h in hosts):
        return Rejected(400, "Host and the target name different hosts")
    return message


def message_of(request: RecordedRequest | str) -> Message | Rejected:
    """Make a request of its parts, or of its text."""
    if isinstance(request, str):
        return read_message(request.encode())
    headers = [
        (name.lower().encode(), value.strip(" \t").encode())
        for name, given in request.headers.items()
        for value in (given if isinstance(given, list) else [given])
    ]
    return _message(request.method, request.url, headers, request.client)


def _message(
    method: str, url: str, headers: list[tuple[bytes, bytes]], client: str
) -> Message | Rejected:
    match = _ABSOLUTE.fullmatch(url)
    if match is None:
        return Rejected(400, "expected a URL like https://app.example/path")
    scheme, host, target = match[1].lower(), match[2], match[3] or "/"
    if target.startswith("?"):
        target = "/" + target
    return Message(
        method, scheme, host, target, [one for one in headers if one[0] != b"host"], client
    )
