"""Agent 2, admission & raw state: which credentials a request carries, and whether it is judged.

Only what the endpoint allows is looked at. Several may be there at once; which of them counts
is for the rules to say. A credential that is broken is none.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gatekeeper.forwardauth.model import Credential, OriginalRequest, Rejected
from gatekeeper.forwardauth.request import views

if TYPE_CHECKING:
    from gatekeeper.forwardauth.config.endpoint import Authentication

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_NO_CREDENTIAL: Final = Rejected(401, "no credential that this endpoint allows")


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Which credentials to look for, compiled."""

    basic: bool
    bearer: bool
    headers: tuple[tuple[str, bytes], ...]
    query: tuple[str, ...]
    cookies: tuple[str, ...]
    required: bool

    @classmethod
    def of(cls, config: Authentication) -> Admission:
        allow = config.allow
        return cls(
            basic="basic" in allow.authorization,
            bearer="bearer" in allow.authorization,
            headers=tuple((name, name.encode("ascii")) for name in allow.header),
            query=tuple(allow.query),
            cookies=tuple(allow.cookie),
            required=config.required and not allow.none,
        )


def admit(plan: Admission, request: OriginalRequest) -> tuple[Credential, ...] | Rejected:
    """Collect the allowed credentials; refuse when there is none and one is required."""
    found: list[Credential] = []
    if plan.bearer or plan.basic:
        value = request.fields.get(b"authorization")
        if value is not None:
            credential = _authorization(plan, value)
            if credential is not None:
                found.append(credential)
    for name, field in plan.headers:
        value = request.fields.get(field)
        if value:
            found.append(Credential("header", name, value.decode("latin-1")))
    if plan.query and request.raw_query:
        query = views.query(request)
        found += [Credential("query", name, query[name]) for name in plan.query if query.get(name)]
    if plan.cookies and b"cookie" in request.fields:
        cookies = views.cookies(request)
        found += [
            Credential("cookie", name, cookies[name]) for name in plan.cookies if cookies.get(name)
        ]
    if not found and plan.required:
        return _NO_CREDENTIAL
    return tuple(found)


def _authorization(plan: Admission, value: bytes) -> Credential | None:
    scheme, _, rest = value.partition(b" ")
    kind = scheme.lower()
    if plan.bearer and kind == b"bearer":
        token = rest.strip(b" ")
        if token and b" " not in token and b"\t" not in token:  # else it is more than a token
            return Credential("bearer", value=token.decode("latin-1"))
        return None
    if plan.basic and kind == b"basic":
        return _basic(rest.strip(b" "))
    return None


def _basic(encoded: bytes) -> Credential | None:
    """Read user and password (RFC 7617 section 2): neither has a control character, and a colon
    in the password is part of it.
    """
    try:
        text = base64.b64decode(encoded, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    user, colon, password = text.partition(":")
    if not colon or _CONTROL.search(text):
        return None
    return Credential("basic", value=password, user=user)
