"""Which processes there are, as /proc tells it: the proof that none is left.

Processes come and go while /proc is read; what cannot be read any more is gone.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PROC = Path("/proc")


def all_processes() -> Iterator[int]:
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            yield int(entry.name)


def children(pid: int) -> list[int]:
    """Return the direct children that are alive or not yet reaped."""
    with suppress(OSError):
        found = (PROC / f"{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in found]
    return []


def descendants(pid: int) -> list[int]:
    """Return all that came of it and are still below it."""
    found, open_ = [], [pid]
    while open_:
        below = children(open_.pop())
        found += below
        open_ += below
    return found


def pid_namespace(pid: int) -> int | None:
    """Return the number of the namespace that a process lives in."""
    with suppress(OSError):
        return (PROC / f"{pid}/ns/pid").stat().st_ino
    return None


def in_namespace(number: int) -> list[int]:
    return [pid for pid in all_processes() if pid_namespace(pid) == number]


def of_owner(uid: int) -> list[int]:
    """Return the processes whose real, effective or saved user this is."""
    return [pid for pid in all_processes() if uid in _owners(pid)]


def state(pid: int) -> str:
    """Return the letter of a process's state; X when there is none."""
    with suppress(OSError, IndexError):
        return (PROC / f"{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return "X"


def lives(pid: int) -> bool:
    """Tell whether there is more of it than the word of its end, which its parent is to fetch.

    The first of a namespace gets there only when all others in it are gone.
    """
    return state(pid) not in "ZX"


def kill_all(pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _owners(pid: int) -> tuple[int, ...]:
    with suppress(OSError):
        for line in (PROC / f"{pid}/status").read_text().splitlines():
            if line.startswith("Uid:"):
                return tuple(int(word) for word in line.split()[1:4])
    return ()
