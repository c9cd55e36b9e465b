"""Recordings, as they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from gatekeeper.kernel.ids import TerminalId


class Recordings(Protocol):
    """Where recordings are kept: they outlive their terminals."""

    def read(self, terminal: TerminalId) -> AsyncGenerator[bytes]:
        """Yield an asciicast v3 file. Raises `InputError` (NOT_FOUND) where there is none."""
        ...
