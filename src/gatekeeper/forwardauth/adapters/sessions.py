"""The port `Sessions`: asks a Gatekeeper, with the caller's own token, for the caller's sessions.

So PassCtrl sees nothing that the caller does not, and needs no credential of its own there.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from pydantic import ValidationError

from gatekeeper.forwardauth.model import LiveSession, Rejected
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.platform.outbound.client import NoAnswer
from gatekeeper.wire.sessions import MAX_PAGE_ITEMS, SessionPage, SessionView

if TYPE_CHECKING:
    from gatekeeper.kernel.clock import Clock
    from gatekeeper.platform.outbound.client import OutboundClient

ASK_SECONDS: Final = 5.0
"""For all pages."""
MAX_PAGES: Final = 10
MAX_PAGE_BYTES: Final = 1_048_576


class GatekeeperSessions:
    """Live sessions, as the API of a Gatekeeper lists them."""

    def __init__(self, server: str, *, client: OutboundClient, clock: Clock) -> None:
        """`server` is the address of its API, without a slash at the end."""
        self._server = server.rstrip("/")
        self._client = client
        self._clock = clock

    async def live(self, token: str) -> tuple[LiveSession, ...] | Rejected:
        """Return the sessions that can be used now, or why they are not known."""
        if not token:
            return Rejected(401, "there is no token to ask for sessions with")
        try:
            async with asyncio.timeout(ASK_SECONDS):
                return await self._all(token)
        except TimeoutError:
            return _unknown(f"no answer within {ASK_SECONDS:g} s")

    async def _all(self, token: str) -> tuple[LiveSession, ...] | Rejected:
        found: list[SessionView] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await self._page(token, cursor)
            if isinstance(page, Rejected):
                return page
            found += page.items
            cursor = page.next
            if cursor is None:
                now = self._clock.now()
                return tuple(live for view in found if (live := _live(view, now)) is not None)
        return _unknown(f"there are more than {MAX_PAGES * MAX_PAGE_ITEMS} sessions")

    async def _page(self, token: str, cursor: str | None) -> SessionPage | Rejected:
        asked = {"status": SessionStatus.READY, "mine": "true", "limit": str(MAX_PAGE_ITEMS)}
        query = urlencode(asked if cursor is None else asked | {"cursor": cursor})
        answer = await self._client.send(
            "GET",
            f"{self._server}/sessions?{query}",
            headers=(("authorization", f"Bearer {token}"), ("accept", "application/json")),
            max_bytes=MAX_PAGE_BYTES,
        )
        if isinstance(answer, NoAnswer):
            return _unknown(answer.reason)
        if answer.status in {401, 403}:
            return Rejected(answer.status, "Gatekeeper does not take the token")
        if answer.status != 200:  # noqa: PLR2004  # OK
            return _unknown(f"it answered {answer.status}")
        try:
            return SessionPage.model_validate_json(answer.body)
        except ValidationError:
            return _unknown("its answer is not one of Gatekeeper's")


def _live(view: SessionView, now: datetime) -> LiveSession | None:
    """Translate a session that can be used: one whose end has come may still be listed."""
    ends = view.expires_at
    if view.status is not SessionStatus.READY or ends is None or ends.tzinfo is None or ends <= now:
        return None
    return LiveSession(
        id=view.session_id,
        target=view.target,
        role=view.role,
        expires_at=ends.astimezone(UTC).isoformat().replace("+00:00", "Z"),
    )


def _unknown(why: str) -> Rejected:
    return Rejected(503, f"Gatekeeper's sessions are not known: {why}")
