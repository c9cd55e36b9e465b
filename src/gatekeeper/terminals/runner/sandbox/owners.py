"""A user of its own for each terminal, on the host, when the runner is root.

Users are taken from a range that nothing else uses, above those of containers (systemd's
UIDS-GIDS). A lock on a file holds each: it goes with the process that took it, however that ends,
so several runners share one machine.
"""

from __future__ import annotations

import fcntl
import os
from collections import deque
from pathlib import Path
from typing import Final, NamedTuple

from gatekeeper.terminals.errors import SandboxUnavailableError
from gatekeeper.terminals.runner.sandbox import accounting

FIRST_UID: Final = 1_900_000_000
COUNT: Final = 10_000
FOLDER: Final = Path("/run/gatekeeper-sandbox")


class _MountPoints(NamedTuple):
    doors: Path
    work: Path
    home: Path


MOUNT_POINTS: Final = _MountPoints(FOLDER / "doors", FOLDER / "work", FOLDER / "home")
"""Empty. In a mount namespace of each terminal, its folders are seen there by any user."""


class Owner:
    """Who a terminal is for the host. `pool` None: whoever the runner is."""

    def __init__(self, uid: int, pool: deque[int] | None) -> None:
        self.uid = uid
        self.own = pool is not None
        """Whether no other terminal has this user."""
        self._pool = pool

    def release(self) -> None:
        """Give the user back. Nothing may be left that has it."""
        if self._pool is not None:
            self._pool.append(self.uid)
            self._pool = None


class Owners:
    """Hands out users, each to one terminal at a time.

    One that was given back is known to have no process left, and stays this runner's.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder / "users"
        self._next = 0
        self._free: deque[int] = deque()
        self._locks: list[int] = []

    def take(self) -> Owner:
        if os.geteuid() != 0:
            return Owner(os.geteuid(), None)
        if self._free:
            return Owner(self._free.popleft(), self._free)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        while self._next < COUNT:
            uid = FIRST_UID + self._next
            self._next += 1
            if self._lock(uid):
                return Owner(uid, self._free)
        message = "Every user that terminals may have is taken"
        raise SandboxUnavailableError(message)

    def close(self) -> None:
        """Let go of the users; the end of the process does it too."""
        while self._locks:
            os.close(self._locks.pop())

    def _lock(self, uid: int) -> bool:
        """Make a user this runner's, unless it is another's or has processes nobody ended."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(self._folder / str(uid), flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return False
        if any(accounting.lives(pid) for pid in accounting.of_owner(uid)):
            os.close(fd)
            return False
        self._locks.append(fd)
        return True


def hand_over(folder: Path, uid: int) -> None:
    """Make a folder and all in it a user's. Links are not followed."""
    if uid == os.geteuid():
        return
    for root, folders, files, fd in os.fwalk(folder, follow_symlinks=False):
        del root
        os.fchown(fd, uid, uid)
        for name in (*folders, *files):
            os.chown(name, uid, uid, dir_fd=fd, follow_symlinks=False)


def make_mount_points() -> None:
    FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
    for point in MOUNT_POINTS:
        point.mkdir(mode=0o755, exist_ok=True)
