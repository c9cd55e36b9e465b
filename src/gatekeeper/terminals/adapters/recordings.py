"""The `Recordings` port on the folder that a runner writes to: `<folder>/<terminal>/*.cast`.

Segments are closed one after the other and then never change: a recording is all of them in
the order of their names, and its chain of hashes has a head for each.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.errors import ErrorCode, InputError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from pathlib import Path

    from gatekeeper.kernel.ids import TerminalId

PART_BYTES: Final = 65_536
GENESIS: Final = bytes(32)
"""What stands before the first segment."""
_SEGMENT: Final = re.compile(r"\d{1,12}\.cast", re.ASCII)


class FolderRecordings:
    """Reads recordings; whoever writes them is somebody else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def read(self, terminal: TerminalId) -> AsyncGenerator[bytes]:
        for segment in await asyncio.to_thread(self._segments, terminal):
            with await asyncio.to_thread(segment.open, "rb") as file:
                while part := await asyncio.to_thread(file.read, PART_BYTES):
                    yield part

    async def heads(self, terminal: TerminalId) -> Sequence[str]:
        return await asyncio.to_thread(self._heads, terminal)

    def _segments(self, terminal: TerminalId) -> Sequence[Path]:
        """Raise `InputError` (NOT_FOUND) where there are none."""
        folder = self._folder / terminal
        try:
            found = sorted(
                (path for path in folder.iterdir() if _SEGMENT.fullmatch(path.name)),
                key=lambda path: int(path.stem),
            )
        except OSError:
            found = []
        if not found:
            msg = f"there is no recording of terminal {terminal!r}"
            raise InputError(msg, ErrorCode.NOT_FOUND)
        return found

    def _heads(self, terminal: TerminalId) -> Sequence[str]:
        heads, head = [], GENESIS
        for segment in self._segments(terminal):
            digest = hashlib.sha256(head)
            with segment.open("rb") as file:
                while part := file.read(PART_BYTES):
                    digest.update(part)
            head = digest.digest()
            heads.append(head.hex())
        return heads
