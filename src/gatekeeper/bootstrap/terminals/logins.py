"""The terminal plane's database logins: sessions of the database plane, asked for and ended."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import structlog

from gatekeeper.databases import errors
from gatekeeper.databases.model import NewSession, Session
from gatekeeper.kernel.errors import ErrorCode, Refusal, UnavailableError
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.terminals.ports import BoundLogin

if TYPE_CHECKING:
    from datetime import timedelta

    from gatekeeper.databases.model import Target
    from gatekeeper.databases.ports import SessionStore
    from gatekeeper.databases.service import SessionService
    from gatekeeper.databases.web.watch import SessionWatch
    from gatekeeper.kernel.identity import Principal
    from gatekeeper.kernel.ids import SessionId
    from gatekeeper.kernel.policy import Decision
    from gatekeeper.terminals.model import Terminal

log = structlog.get_logger("gatekeeper.terminals")

WAIT_SECONDS: Final = 10.0
"""For a login to be made; then the launch is tried again, while there is time for it."""
BECAUSE: Final = "its terminal ended"
_CODES: Final = frozenset(ErrorCode)


class DatabaseLogins:
    """The `Logins` port. A terminal's login is found by its idempotency key, `terminal:<id>`."""

    def __init__(
        self, *, service: SessionService, store: SessionStore, watch: SessionWatch
    ) -> None:
        self._service = service
        self._store = store
        self._watch = watch

    def decide(
        self, principal: Principal, target: str, role: str, ttl: timedelta, reason: str
    ) -> Decision | Refusal:
        """Say whether a login that lives as long as the terminal may be had; changes nothing."""
        found = self._service.target(target)
        if isinstance(found, Refusal):
            return found
        if role not in found.roles:
            return errors.unknown_role(role, found)
        if (refusal := errors.ttl_out_of_bounds(ttl, found)) is not None:
            return refusal
        return self._service.decide(principal, target, role, ttl, reason)

    async def issue(self, terminal: Terminal, verifier: str) -> BoundLogin | Refusal:
        """Ask for a terminal's login, decided once more for its requester, and wait for it.

        Repeated with the same verifier it returns the same login, whatever the requester's
        limits say by then; another verifier is another password, and is refused. Raises
        `UnavailableError` while the login is being made.
        """
        session = await self._asked_before(terminal, verifier)
        if session is None:
            session = await self._service.create(terminal.principal, _wanted(terminal, verifier))
        if isinstance(session, Refusal):
            return session
        session = await self._watch.until_settled(session, seconds=WAIT_SECONDS)
        target = self._service.target(session.target)
        if isinstance(target, Refusal):
            return target
        if session.status is SessionStatus.PENDING:
            msg = "the database login is not made yet"
            raise UnavailableError(msg)
        if session.status is not SessionStatus.READY:
            return _not_made(session)
        return _bound(session, target)

    async def find(self, terminal: Terminal) -> SessionId | None:
        """Return the login that was asked for a terminal, also when nobody heard the answer."""
        bound = await self._store.find_key(terminal.requester, _key(terminal))
        return None if bound is None else bound[1]

    async def end(self, session: SessionId, correlation_id: str) -> None:
        """Have a login ended, as the end of its terminal; one that has ended is left as it is."""
        ended = await self._service.end(session, correlation_id, because=BECAUSE)
        if isinstance(ended, Refusal):
            log.error("a terminal's database session is not in the store", session=session)

    async def _asked_before(self, terminal: Terminal, verifier: str) -> Session | Refusal | None:
        bound = await self._store.find_key(terminal.requester, _key(terminal))
        if bound is None:
            return None
        if bound[0] != _body_sha256(terminal, verifier):
            return _made_for_another_password()
        return await self._store.get(bound[1]) or errors.no_such_session(bound[1])


def _wanted(terminal: Terminal, verifier: str) -> NewSession:
    if terminal.database is None:
        msg = "a login is asked for a terminal that has none"
        raise RuntimeError(msg)
    return NewSession(
        target=terminal.database.target,
        role=terminal.database.role,
        ttl=terminal.ttl,
        reason=terminal.reason,
        verifier=verifier,
        idempotency_key=_key(terminal),
        body_sha256=_body_sha256(terminal, verifier),
        correlation_id=terminal.correlation_id,
    )


def _key(terminal: Terminal) -> str:
    return f"terminal:{terminal.id}"


def _body_sha256(terminal: Terminal, verifier: str) -> str:
    """Tell one launch of a terminal from another. No request's body begins with a zero byte."""
    return sha256(b"\0" + json.dumps([terminal.id, verifier]).encode()).hexdigest()


def _bound(session: Session, target: Target) -> BoundLogin:
    return BoundLogin(
        session=session.id,
        host=target.host,
        port=target.port,
        database=target.database,
        sslmode=target.sslmode,
        username=session.username,
    )


def _not_made(session: Session) -> Refusal:
    error = session.error
    if error is None:
        return Refusal(
            code=ErrorCode.STATE_CONFLICT,
            detail=f"the terminal's database login is {session.status} already",
        )
    code = ErrorCode(error.code) if error.code in _CODES else ErrorCode.INTERNAL_ERROR
    return Refusal(code=code, detail=f"the database login could not be made: {error.message}")


def _made_for_another_password() -> Refusal:
    return Refusal(
        code=ErrorCode.STATE_CONFLICT,
        detail="the terminal's database login was made for a password that is gone",
        hint="ask for a new terminal",
    )
