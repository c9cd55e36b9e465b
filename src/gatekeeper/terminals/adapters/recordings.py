"""The `Recordings` port on the folder that a runner writes to: `<folder>/<terminal>/*.cast`.

Segments are closed one after the other and then never change: a recording is all of them in
the order of their numbers. The last one may be open still; of it whole lines are read.

To delete them a control plane has to be the runner's user, or be allowed to write to its folder.
"""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.errors import ErrorCode, InputError, UnavailableError
from gatekeeper.kernel.ids import TERMINAL_ID, TerminalId
from gatekeeper.terminals.ports import HeldRecording
from gatekeeper.terminals.protocol.asciicast import OPEN_SUFFIX

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from pathlib import Path

PART_BYTES: Final = 65_536
MOST_AT_A_TIME: Final = 200
"""Recordings that are looked at, and deleted, in one go."""
_SEGMENT: Final = re.compile(rf"\d{{1,12}}\.cast({re.escape(OPEN_SUFFIX)})?", re.ASCII)


class FolderRecordings:
    """Reads recordings, and deletes them; whoever writes them is somebody else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def read(self, terminal: TerminalId) -> AsyncGenerator[bytes]:
        found = await asyncio.to_thread(self._segments, terminal)
        if not found:
            raise _none(terminal)
        for segment in found:
            try:
                if segment.name.endswith(OPEN_SUFFIX):
                    yield await asyncio.to_thread(_whole_lines, segment)
                    return
                with await asyncio.to_thread(segment.open, "rb") as file:
                    while part := await asyncio.to_thread(file.read, PART_BYTES):
                        yield part
            except FileNotFoundError as error:  # it was deleted just now
                raise _none(terminal) from error

    async def held(self) -> AsyncGenerator[Sequence[HeldRecording]]:
        try:
            names = await asyncio.to_thread(self._terminals)
        except OSError as error:
            msg = f"the recordings cannot be looked at: {error.strerror}"
            raise UnavailableError(msg) from error
        for start in range(0, len(names), MOST_AT_A_TIME):
            yield await asyncio.to_thread(self._measured, names[start : start + MOST_AT_A_TIME])

    async def delete(self, terminal: TerminalId) -> None:
        try:
            await asyncio.to_thread(self._delete, terminal)
        except OSError as error:
            msg = f"the recording of terminal {terminal!r} cannot be deleted: {error.strerror}"
            raise UnavailableError(msg) from error

    def _terminals(self) -> Sequence[TerminalId]:
        try:
            with os.scandir(self._folder) as entries:
                return [
                    TerminalId(entry.name)
                    for entry in entries
                    if TERMINAL_ID.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
                ]
        except FileNotFoundError:  # no runner was here yet
            return []

    def _measured(self, terminals: Sequence[TerminalId]) -> Sequence[HeldRecording]:
        return [
            HeldRecording(terminal=one, bytes=sum(map(_size, self._segments(one))))
            for one in terminals
        ]

    def _delete(self, terminal: TerminalId) -> None:
        """Delete segments and their folder; where something else is in it, that is an error."""
        for segment in self._segments(terminal):
            segment.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            (self._folder / terminal).rmdir()

    def _segments(self, terminal: TerminalId) -> Sequence[Path]:
        try:
            names = list((self._folder / terminal).iterdir())
        except OSError:
            names = []
        return sorted((p for p in names if _SEGMENT.fullmatch(p.name)), key=_number)


def _none(terminal: TerminalId) -> InputError:
    return InputError(f"there is no recording of terminal {terminal!r}", ErrorCode.NOT_FOUND)


def _number(segment: Path) -> int:
    return int(segment.name.partition(".")[0])


def _size(segment: Path) -> int:
    try:
        return segment.stat().st_size
    except OSError:  # it was closed, or deleted, just now
        return 0


def _whole_lines(segment: Path) -> bytes:
    """Read an open segment, which may be closed, and so renamed, just now."""
    try:
        data = segment.read_bytes()
    except FileNotFoundError:
        data = segment.with_suffix("").read_bytes()
    return data[: data.rfind(b"\n") + 1]
