"""Waiting for a text costs the runner little, whatever a terminal writes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from gatekeeper.terminals.runner import programs
from gatekeeper.terminals.runner.screen import Look

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


class Noisy:
    """Writes whenever it is looked at."""

    ended = None

    @property
    def screen(self) -> Noisy:
        return self

    write: Callable[[], None]

    def listen(self, listener: Callable[[bytes], None]) -> Callable[[], None]:
        self.write = lambda: listener(b"noise")
        return lambda: None

    async def look(self) -> Look:
        self.write()
        return Look(offset=0, columns=1, rows=1, lines=("",), drawing=b"")


async def test_what_is_slow_to_look_through_is_looked_through_rarely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = []

    def slow(_self: object, text: str) -> bool:
        looks.append(text)
        time.sleep(0.03)
        return False

    monkeypatch.setattr(programs._Written, "has", slow)
    stream: Any = Noisy()
    assert not await programs.wait_for_text(stream, "never", 2)
    assert len(looks) <= 4
