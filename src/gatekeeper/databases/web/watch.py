"""Waiting for a session to change, and the stream of all changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatekeeper.databases.model import Session, SessionChange
from gatekeeper.databases.web import translate
from gatekeeper.platform.http.watch import Watch

if TYPE_CHECKING:
    from gatekeeper.databases.ports import SessionStore


class SessionWatch(Watch[Session, SessionChange]):
    """Lets requests wait for changes of sessions."""

    def __init__(self, store: SessionStore) -> None:
        super().__init__(
            event="session",
            look=lambda session: store.get(session.id),
            changes=store.changes,
            shown=lambda change: translate.session_event(change).model_dump_json(by_alias=True),
        )
