"""The `Recordings` port on the folder that a runner writes to: `<folder>/<terminal>/*.cast`.

Segments are closed one after the other and then never change: a recording is all of them in
the order of their numbers. The last one may be open still; of it whole lines are read.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.errors import ErrorCode, InputError
from gatekeeper.terminals.protocol.asciicast import OPEN_SUFFIX

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from pathlib import Path

    from gatekeeper.kernel.ids import TerminalId

PART_BYTES: Final = 65_536
_SEGMENT: Final = re.compile(rf"\d{{1,12}}\.cast({re.escape(OPEN_SUFFIX)})?", re.ASCII)


class FolderRecordings:
    """Reads recordings; whoever writes them is somebody else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def read(self, terminal: TerminalId) -> AsyncGenerator[bytes]:
        for segment in await asyncio.to_thread(self._segments, terminal):
            if segment.name.endswith(OPEN_SUFFIX):
                yield await asyncio.to_thread(_whole_lines, segment)
                return
            with await asyncio.to_thread(segment.open, "rb") as file:
                while part := await asyncio.to_thread(file.read, PART_BYTES):
                    yield part

    def _segments(self, terminal: TerminalId) -> Sequence[Path]:
        """Raise `InputError` (NOT_FOUND) where there are none."""
        try:
            names = list((self._folder / terminal).iterdir())
        except OSError:
            names = []
        found = sorted((p for p in names if _SEGMENT.fullmatch(p.name)), key=_number)
        if not found:
            msg = f"there is no recording of terminal {terminal!r}"
            raise InputError(msg, ErrorCode.NOT_FOUND)
        return found


def _number(segment: Path) -> int:
    return int(segment.name.partition(".")[0])


def _whole_lines(segment: Path) -> bytes:
    """Read an open segment, which may be closed, and so renamed, just now."""
    try:
        data = segment.read_bytes()
    except FileNotFoundError:
        data = segment.with_suffix("").read_bytes()
    return data[: data.rfind(b"\n") + 1]
