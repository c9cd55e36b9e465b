"""Sessions, targets and policy answers, as the API speaks them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal, Self
from urllib.parse import quote

from pydantic import ConfigDict, Field, WithJsonSchema, model_validator

from gatekeeper.kernel.scram import MAX_VERIFIER_CHARS, VERIFIER
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.kernel.ttl import MAX_TTL_TEXT_CHARS, PARTS
from gatekeeper.wire.base import WHOLE, Request, Response

MAX_REASON_CHARS: Final = 256
MAX_IDEMPOTENCY_KEY_CHARS: Final = 128
MAX_TTL_MINUTES: Final = 1440
MAX_WAIT_SECONDS: Final = 30
DEFAULT_PAGE_ITEMS: Final = 50
MAX_PAGE_ITEMS: Final = 200

PRINTABLE: Final = r"^[^\x00-\x1f\x7f]*$"
"""No control characters: they could forge lines in a terminal, and a store refuses NUL."""

NameText = Annotated[str, Field(min_length=1, max_length=63, pattern=PRINTABLE)]
TargetText = NameText
RoleText = NameText
# Described, and not enforced by Pydantic: what reads these says it better than "match pattern".
TtlText = Annotated[
    str,
    Field(
        max_length=MAX_TTL_TEXT_CHARS,
        description="A duration: 90s, 15m, 4h, 1h30m; at most a year.",
        json_schema_extra={"minLength": 1, "pattern": f"^{PARTS.pattern}$"},
    ),
]
VerifierText = Annotated[
    str,
    Field(max_length=MAX_VERIFIER_CHARS, json_schema_extra={"pattern": f"^{VERIFIER.pattern}$"}),
]
ReasonText = Annotated[str, Field(max_length=MAX_REASON_CHARS, pattern=PRINTABLE)]


Plane = Literal["databases", "terminals"]
"""What a grant of a policy is about."""

LoginStatus = Annotated[
    SessionStatus,
    WithJsonSchema(
        {"type": "string", "enum": [one for one in SessionStatus if one is not SessionStatus.ENDED]}
    ),
]
"""A database login never comes to its end by itself."""


class ScramCredential(Request):
    """The caller made a password and sends only its verifier."""

    kind: Literal["scram-sha-256"]
    verifier: VerifierText


class CreateSession(Request):
    """Ask for a database login. The requester is the authenticated caller, never a field."""

    model_config = ConfigDict(
        json_schema_extra={
            "not": {
                "required": ["ttl", "ttlMinutes"],
                "properties": {"ttl": {"type": "string"}, "ttlMinutes": {"type": "integer"}},
            }
        }
    )

    target: TargetText
    role: RoleText
    ttl: TtlText | None = None
    ttl_minutes: Annotated[int, Field(ge=1, le=MAX_TTL_MINUTES), WHOLE] | None = None
    reason: ReasonText = ""
    credential: ScramCredential | Literal["generated"]

    @model_validator(mode="after")
    def _one_ttl(self) -> Self:
        if self.ttl is not None and self.ttl_minutes is not None:
            msg = "give ttl or ttlMinutes, not both"
            raise ValueError(msg)
        return self


class ExtendSession(Request):
    """Move the end of a session to `ttl` from now."""

    ttl: TtlText


class ConnectionView(Response):
    """Where a login is used. A DSN is built from this and the password at the caller's side."""

    host: str
    port: int
    database: str
    sslmode: str


def dsn(place: ConnectionView, *, session: str, username: str, password: str) -> str:
    """Write the URL that logs in (PostgreSQL documentation, section 32.1.1.2)."""
    host = f"[{place.host}]" if ":" in place.host else place.host
    return (
        f"postgresql://{username}:{quote(password, safe='')}@{host}:{place.port}"
        f"/{quote(place.database, safe='')}?sslmode={place.sslmode}"
        f"&application_name={quote(f'gk/{session}', safe='')}"
    )


class SessionError(Response):
    code: str
    message: str
    retryable: bool = False


class SessionView(Response):
    """One session. `dsn` only for a generated credential, to its requester, while ready."""

    session_id: str
    status: LoginStatus
    target: str
    role: str
    requester: str
    reason: str
    created_at: datetime
    ttl_seconds: int
    username: str | None = None
    expires_at: datetime | None = None
    ended_at: datetime | None = None
    cleaned_at: datetime | None = None
    connection: ConnectionView | None = None
    dsn: str | None = None
    error: SessionError | None = None
    correlation_id: str | None = None


class SessionPage(Response):
    """One page, newest first; `next` is the cursor of the following page."""

    items: tuple[SessionView, ...]
    next: str | None = None


class SessionEvent(Response):
    """One change of a session, as `GET /sessions/events` streams it (`id:` is `seq`)."""

    seq: int
    session_id: str
    status: LoginStatus
    at: datetime
    target: str
    role: str


class RoleView(Response):
    """A role pack at a target, and whether the caller may have it."""

    role: str
    allowed: bool
    max_ttl: str | None = None
    reasons: tuple[str, ...] = ()


class TargetView(Response):
    target: str
    engine: str
    min_ttl: str
    max_ttl: str
    roles: tuple[RoleView, ...]


class TargetList(Response):
    items: tuple[TargetView, ...]


class RoleEntry(Response):
    target: str
    role: str
    allowed: bool
    max_ttl: str | None = None
    reasons: tuple[str, ...] = ()


class RoleList(Response):
    items: tuple[RoleEntry, ...]


class ExplainRequest(Request):
    """Ask what the policy would answer the caller.

    In plane `terminals` the target is the runner, and the role a profile.
    """

    plane: Plane = "databases"
    target: TargetText
    role: RoleText
    ttl: TtlText | None = None
    reason: ReasonText = ""


class Explanation(Response):
    allowed: bool
    needs_approval: bool = False
    grant: str | None = None
    ttl: str | None = None
    max_ttl: str | None = None
    reasons: tuple[str, ...] = ()
    alternatives: tuple[str, ...] = ()


class CheckView(Response):
    name: str
    status: Literal["ok", "warning", "failed"]
    detail: str
    fix: str | None = None


class DoctorReport(Response):
    target: str
    checks: tuple[CheckView, ...]


class DriftView(Response):
    """One difference between a target and the store, and what reconcile does about it."""

    target: str
    username: str
    session_id: str
    kind: str
    detail: str
    action: str
    problem: str | None = None
    """Why a repair has not succeeded yet."""


class ReconcileRequest(Request):
    target: TargetText | None = None
    """None: every target."""
    plan: bool = True
    """True only reports; false also repairs."""


class UnseenTarget(Response):
    """A target that could not be compared, or not to the end, and why."""

    target: str
    code: str
    message: str


class ReconcileReport(Response):
    applied: bool
    items: tuple[DriftView, ...]
    unseen: tuple[UnseenTarget, ...] = ()


class WhoAmI(Response):
    issuer: str
    subject: str
    kind: str
    email: str | None = None
    groups: tuple[str, ...] = ()


class Health(Response):
    status: Literal["ok", "degraded", "down"]
    version: str
    checks: dict[str, str] = Field(default_factory=dict)
