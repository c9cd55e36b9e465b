"""The opening handshake (RFC 6455 section 4), on both sides of a gateway.

Of a client: `GET /attach/{terminal}`, with the subprotocol that is to be spoken and the ticket
as a second entry. To a runner goes a request of our own, which holds nothing of the client's:
no ticket, no cookie, no extension.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.errors import ErrorCode
from gatekeeper.kernel.ids import TERMINAL_ID
from gatekeeper.kernel.terminal import term
from gatekeeper.terminals.protocol import attachment, ticket

if TYPE_CHECKING:
    from gatekeeper.terminals.protocol.http import RequestHead, ResponseHead

PATH: Final = "/attach/"
RUNNER_PATH: Final = "/terminals/"
TTYD: Final = "tty"
PROTOCOLS: Final = (term.SUBPROTOCOL, TTYD)
MAX_ENTRIES: Final = 4
"""Of `Sec-WebSocket-Protocol`."""
KEY_BYTES: Final = 16

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY: Final = re.compile(r"[A-Za-z0-9+/]{21}[AQgw]==")
"""16 bytes in Base64, as only one way to write them."""
_MAX_ORIGIN_CHARS: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Why a request is not taken, as the client is told: a status and a problem (RFC 9457)."""

    status: int
    code: ErrorCode
    detail: str
    retry_after: float | None = None
    headers: tuple[str, ...] = ()
    """More header lines, for 405 and 426."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """What a client asks for. Nothing of it is believed yet."""

    terminal: str
    protocol: str
    unverified_ticket: str
    origin: str | None
    key: str

    def __repr__(self) -> str:
        return f"Upgrade({self.terminal})"


def read_upgrade(head: RequestHead) -> Upgrade | Refused:
    headers = head.headers
    terminal = head.target.removeprefix(PATH)
    if not head.target.startswith(PATH) or not TERMINAL_ID.fullmatch(terminal):
        return Refused(status=404, code=ErrorCode.NOT_FOUND, detail="there is nothing here")
    if head.method != "GET":
        return Refused(
            status=405,
            code=ErrorCode.METHOD_NOT_ALLOWED,
            detail="expected GET",
            headers=("Allow: GET",),
        )
    if (fault := _framing_fault(head)) is not None:
        return fault
    offered = [entry.strip(" \t") for entry in headers["sec-websocket-protocol"].split(",")]
    tickets = [one for one in offered if one.startswith(ticket.ENTRY)]
    protocol = next((one for one in offered if one in PROTOCOLS), None)
    if len(offered) > MAX_ENTRIES or protocol is None:
        return _malformed(f"expected one of the subprotocols {', '.join(PROTOCOLS)}")
    if len(tickets) != 1:
        return ticket_refused("expected one ticket, as a second subprotocol")
    origin = headers.get("origin")
    if origin is not None and not 0 < len(origin) <= _MAX_ORIGIN_CHARS:
        return _malformed("expected an Origin that a browser sends")
    return Upgrade(
        terminal=terminal,
        protocol=protocol,
        unverified_ticket=tickets[0].removeprefix(ticket.ENTRY),
        origin=origin,
        key=headers["sec-websocket-key"],
    )


def _framing_fault(head: RequestHead) -> Refused | None:
    """Say what makes a request no upgrade (RFC 6455 section 4.2.1)."""
    headers = head.headers
    if headers.keys() & {"content-length", "transfer-encoding", "expect"}:
        return _malformed("an upgrade has no body")
    if not headers.get("host"):
        return _malformed("expected a Host")
    connection = [one.strip(" \t").lower() for one in headers.get("connection", "").split(",")]
    if headers.get("upgrade", "").lower() != "websocket" or "upgrade" not in connection:
        return _upgrade_required("expected an upgrade to websocket")
    if headers.get("sec-websocket-version") != "13":
        return _upgrade_required("expected version 13 of WebSocket")
    if not _KEY.fullmatch(headers.get("sec-websocket-key", "")):
        return _malformed("expected a Sec-WebSocket-Key of 16 bytes")
    if "sec-websocket-protocol" not in headers:
        return ticket_refused("expected a ticket, as a second subprotocol")
    return None


def ticket_refused(detail: str) -> Refused:
    return Refused(status=401, code=ErrorCode.TICKET_REFUSED, detail=detail)


def _malformed(detail: str) -> Refused:
    return Refused(status=400, code=ErrorCode.VALIDATION_ERROR, detail=detail)


def _upgrade_required(detail: str) -> Refused:
    return Refused(
        status=426,
        code=ErrorCode.VALIDATION_ERROR,
        detail=detail,
        headers=("Upgrade: websocket", "Sec-WebSocket-Version: 13"),
    )


def accept_value(key: str) -> str:
    digest = hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def accepted(upgrade: Upgrade) -> bytes:
    """Write the 101 for a client. The ticket is not in it, and no extension is."""
    return _head(
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_value(upgrade.key)}",
        f"Sec-WebSocket-Protocol: {upgrade.protocol}",
    )


def refusal(refused: Refused, *, correlation_id: str) -> bytes:
    """Write a problem, after which the connection is closed."""
    body = json.dumps(
        {
            "type": f"urn:gatekeeper:problem:{refused.code}",
            "title": refused.code.replace("_", " ").capitalize(),
            "status": refused.status,
            "code": refused.code,
            "detail": refused.detail,
            "correlationId": correlation_id,
            "retryable": refused.retry_after is not None,
        }
    ).encode()
    after = refused.retry_after
    retry = () if after is None else (f"Retry-After: {max(1, math.ceil(after))}",)
    head = _head(
        f"HTTP/1.1 {refused.status} {HTTPStatus(refused.status).phrase}",
        "Content-Type: application/problem+json",
        f"Content-Length: {len(body)}",
        "Connection: close",
        "Cache-Control: no-store",
        *retry,
        *refused.headers,
    )
    return head + body


def runner_request(*, terminal: str, protocol: str, key: str, sealed: str) -> bytes:
    """Write the upgrade for a runner. `sealed` says who the client is: see `attachment.py`."""
    return _head(
        f"GET {RUNNER_PATH}{terminal} HTTP/1.1",
        "Host: runner",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
        f"Sec-WebSocket-Protocol: {protocol}",
        f"{attachment.HEADER}: {sealed}",
    )


def new_key(random: bytes) -> str:
    """Make a Sec-WebSocket-Key of `KEY_BYTES` random bytes."""
    return base64.b64encode(random).decode()


def runner_fault(head: ResponseHead, *, key: str, protocol: str) -> str | None:
    """Say why a runner's answer is not the one that was asked for (RFC 6455 section 4.1)."""
    headers = head.headers
    connection = [one.strip(" \t").lower() for one in headers.get("connection", "").split(",")]
    if head.status != HTTPStatus.SWITCHING_PROTOCOLS:
        return f"it answered with status {head.status}"
    if headers.get("upgrade", "").lower() != "websocket" or "upgrade" not in connection:
        return "it did not switch to WebSocket"
    if headers.get("sec-websocket-accept") != accept_value(key):
        return "its accept value does not fit the key"
    if headers.get("sec-websocket-protocol") != protocol:
        return "it speaks another subprotocol"
    if headers.get("sec-websocket-extensions"):
        return "it uses an extension that nobody offered"
    return None


def _head(*lines: str) -> bytes:
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
