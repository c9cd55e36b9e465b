"""Waiting for a terminal to change, and the stream of all changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatekeeper.platform.http.watch import Watch
from gatekeeper.terminals.model import Terminal, TerminalChange
from gatekeeper.terminals.web import translate

if TYPE_CHECKING:
    from gatekeeper.terminals.ports import TerminalStore


class TerminalWatch(Watch[Terminal, TerminalChange]):
    """Lets requests wait for changes of terminals."""

    def __init__(self, store: TerminalStore) -> None:
        super().__init__(
            event="terminal",
            look=lambda terminal: store.get(terminal.id),
            changes=store.changes,
            shown=lambda change: translate.change_view(change).model_dump_json(by_alias=True),
        )
