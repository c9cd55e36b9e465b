"""Path and query of the original request, in one spelling or not at all."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from gatekeeper.forwardauth.model import Rejected

MAX_TARGET_BYTES: Final = 8_192
"""Of path and query together; nginx takes lines of 8 KiB by default."""

# Visible ASCII without "#" (a fragment is never sent, RFC 9110 section 4.2.5; what some cut off
# others do not, CVE-2026-41059). Anything else must be percent-encoded (RFC 3986 section 2.1).
_QUERY: Final = bytes(byte for byte in range(0x21, 0x7F) if byte != ord("#"))
_PATH: Final = bytes(byte for byte in _QUERY if byte not in b"\\?")
_PLAIN: Final = bytes(byte for byte in _QUERY if byte not in b"\\%;")
"""A target of these alone has one spelling, when no segment is empty or begins with a dot."""

_TRIPLET: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_TWICE: Final = re.compile(rb"%25[0-9A-Fa-f]{2}")
_SLASH: Final = re.compile(rb"%2[Ff]")

# What applications, and the servers before them, do not agree upon, in a decoded path:
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DOTS: Final = re.compile(r"/ *\.{1,2} *(?:[/;]|\Z)")
"""Also `..;` (servlet containers drop what follows the semicolon) and `.. ` (Windows)."""
_EMPTY: Final = re.compile(r"//|/ *;")
"""Merged by some, an authority to others (CVE-2026-26205)."""


Target = tuple[str, str, str]
"""Path, raw path and raw query. The path is decoded exactly once; only `%2F` stays, where it is
kept."""


def read_target(sent: bytes, *, keep_encoded_slashes: bool) -> Target | Rejected:
    """Read a target in origin form, split at the first `?` (CVE-2026-32811).

    The other forms (RFC 9112 section 3.2) are refused: `*` and an authority ask about no
    resource, and an absolute URL names a host a second time.
    """
    if len(sent) > MAX_TARGET_BYTES:
        return Rejected(414, f"the target has more than {MAX_TARGET_BYTES} bytes")
    raw_path, _, raw_query = sent.partition(b"?")
    if raw_path[:1] != b"/":
        return Rejected(400, "the target does not begin with a slash")
    if sent.translate(None, _PLAIN) or b"//" in raw_path or b"/." in raw_path:
        if raw_query.translate(None, _QUERY):
            return Rejected(400, "the query has a byte that must be encoded")
        path = _decode(raw_path, keep_encoded_slashes=keep_encoded_slashes)
        if isinstance(path, Rejected):
            return path
        return path, raw_path.decode("ascii"), raw_query.decode("ascii")
    path = raw_path.decode("ascii")
    return path, path, raw_query.decode("ascii")


def _decode(raw: bytes, *, keep_encoded_slashes: bool) -> str | Rejected:
    if raw.translate(None, _PATH):
        return Rejected(400, "the path has a byte that must be encoded")
    if _TRIPLET.search(raw):
        return Rejected(400, "the path has a malformed percent triplet")
    if _TWICE.search(raw):
        return Rejected(400, "the path is encoded twice")
    if not keep_encoded_slashes and _SLASH.search(raw):
        return Rejected(400, "the path has an encoded slash")
    try:
        whole = unquote_to_bytes(raw).decode("utf-8")
        path = unquote_to_bytes(_SLASH.sub(b"%252F", raw)).decode("utf-8")
    except UnicodeDecodeError:
        return Rejected(400, "the path is not UTF-8")
    if _CONTROL.search(whole) or "\\" in whole:
        return Rejected(400, "the path has a control character or a backslash")
    # Dots count also between slashes that were encoded: an application may decode them.
    if _DOTS.search(whole):
        return Rejected(400, "the path has a dot segment")
    if _EMPTY.search(path):
        return Rejected(400, "the path has an empty segment")
    return path
