"""The two requests of the first MVP, for callers that still send them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from pydantic import Field

from gatekeeper.kernel.ids import ROLE_NAME
from gatekeeper.wire.base import WHOLE, Request, Response
from gatekeeper.wire.sessions import MAX_TTL_MINUTES, PRINTABLE, LoginStatus, RoleText, TargetText

MAX_REQUESTED_BY_CHARS: Final = 200


class MvpCreateSession(Request):
    """`requestedBy` is a note for the evidence: the requester is the authenticated caller."""

    db: TargetText
    role: RoleText
    ttl_minutes: Annotated[int, Field(ge=1, le=MAX_TTL_MINUTES), WHOLE]
    requested_by: Annotated[str, Field(max_length=MAX_REQUESTED_BY_CHARS, pattern=PRINTABLE)] = ""


class MvpDropSession(Request):
    db: TargetText
    username: Annotated[str, Field(pattern=f"^{ROLE_NAME.pattern}$")]


class MvpSession(Response):
    status: LoginStatus
    dsn: str | None = None
    expires_at: datetime | None = None
    username: str | None = None
