"""Folders that somebody hostile may write to: how large they are, and how they are removed.

What is in them is not walked with paths of any length or by recursion of any depth: a tree can be
made deeper than either can bear.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gatekeeper.terminals.runner.sandbox.interface import Wanted

MAX_PATH_BYTES: Final = 3_500
MAX_ENTRIES: Final = 500_000
REMOVE_SECONDS: Final = 60
_BLOCK_BYTES: Final = 512


@dataclass(slots=True)
class Measured:
    bytes: int = 0
    entries: int = 0
    whole: bool = True
    """False: it is too deep or has too much in it to be measured."""


def measure(folder: Path) -> Measured:
    """Add up what files take on the disk, links not followed; a file of two names counts once."""
    found, open_, seen = Measured(), [os.fspath(folder)], set[int]()
    while open_ and found.whole:
        path = open_.pop()
        if len(os.fsencode(path)) > MAX_PATH_BYTES:
            found.whole = False
            break
        with suppress(OSError), os.scandir(path) as entries:  # it may be gone by now
            for entry in entries:
                _count(entry, found, seen)
                if found.entries > MAX_ENTRIES:
                    found.whole = False
                    break
                if entry.is_dir(follow_symlinks=False):
                    open_.append(entry.path)
    return found


def _count(entry: os.DirEntry[str], found: Measured, seen: set[int]) -> None:
    found.entries += 1
    with suppress(OSError):
        status = entry.stat(follow_symlinks=False)
        if status.st_nlink > 1:
            if status.st_ino in seen:
                return
            seen.add(status.st_ino)
        found.bytes += status.st_blocks * _BLOCK_BYTES


def unnamed(pids: Iterable[int], device: int) -> int:
    """Add up what files take on a device that processes have open, or mapped, without a name.

    Not found: one that is under way in a socket, where no process has it.
    """
    found: dict[int, int] = {}
    for pid in pids:
        for kind in ("fd", "map_files"):
            with suppress(OSError), os.scandir(f"/proc/{pid}/{kind}") as entries:
                for entry in entries:
                    with suppress(OSError):
                        status = entry.stat()
                        if status.st_dev == device and not status.st_nlink:
                            found[status.st_ino] = status.st_blocks * _BLOCK_BYTES
    return sum(found.values())


def _device_of_files(folder: Path) -> int:
    """Return what files in it have as their device: on overlays another than their folder has."""
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_dev


class Watched:
    """A folder, and what it may grow by from what it is at first."""

    def __init__(self, folder: Path, *, growth_bytes: int) -> None:
        self._folder = folder
        self._growth = growth_bytes
        self._device = _device_of_files(folder)
        self._first: int | None = None

    async def fits(self, pids: Iterable[int]) -> bool:
        """Tell whether it is not too large, with what these processes have removed and hold."""
        found = await asyncio.to_thread(measure, self._folder)
        if self._first is None:
            self._first = found.bytes
        held = await asyncio.to_thread(unnamed, pids, self._device)
        return found.whole and found.bytes + held <= self._first + self._growth


def watched_work(wanted: Wanted) -> Watched | None:
    if wanted.work is None:
        return None
    return Watched(wanted.work, growth_bytes=wanted.disk_bytes)


def discard(folder: Path) -> bool:
    """Remove a folder with all in it; tell whether it is gone.

    By a program: Python's own removal is a recursion, which a deep tree ends with an error.
    """
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(  # noqa: S603
            ["/bin/rm", "-rf", "--one-file-system", "--", os.fspath(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=REMOVE_SECONDS,
            check=False,
        )
    return not folder.exists()
