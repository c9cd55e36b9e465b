"""Recordings, as they are read, counted and deleted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from gatekeeper.kernel.ids import TerminalId


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRecording:
    """A recording, or what is left of one, as it lies there."""

    terminal: TerminalId
    bytes: int


class Recordings(Protocol):
    """Where recordings are kept: they outlive their terminals."""

    def read(self, terminal: TerminalId) -> AsyncGenerator[bytes]:
        """Yield an asciicast v3 file. Raises `InputError` (NOT_FOUND) where there is none."""
        ...

    def held(self) -> AsyncGenerator[Sequence[HeldRecording]]:
        """Yield all that are there, some at a time."""
        ...

    async def delete(self, terminal: TerminalId) -> None:
        """Delete one, or what an earlier try left of it. Not checked: whether it may go.

        Raises `UnavailableError` for one that is still there.
        """
        ...
