"""Tier 2: Landlock, a system call filter, limits; for root also a user and mounts of its own.

For machines where user namespaces are blocked, or bubblewrap is missing. The host's processes
are seen but cannot be touched; paths that no rule names cannot be opened.
"""

from __future__ import annotations

import ctypes
import os
from enum import IntFlag
from typing import TYPE_CHECKING, Any, Final, Literal

from gatekeeper.terminals.errors import SandboxUnavailableError
from gatekeeper.terminals.runner.sandbox import confined, root, seccomp
from gatekeeper.terminals.runner.sandbox.keeper import LANDLOCK_CREATE_RULESET
from gatekeeper.terminals.runner.sandbox.owners import make_mount_points
from gatekeeper.terminals.runner.sandbox.starting import start_with

if TYPE_CHECKING:
    from gatekeeper.terminals.runner.sandbox.cgroups import Cgroup, Cgroups
    from gatekeeper.terminals.runner.sandbox.confined import Places
    from gatekeeper.terminals.runner.sandbox.held import Held
    from gatekeeper.terminals.runner.sandbox.interface import Wanted
    from gatekeeper.terminals.runner.sandbox.owners import Owner, Owners

_VERSION_QUESTION: Final = 1


class Access(IntFlag):
    """LANDLOCK_ACCESS_FS_* of <linux/landlock.h>."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


_KNOWN_SINCE: Final = ((5, 16), (3, 15), (2, 14), (1, 13))
"""From which version on how many of the rights are known."""
NETWORK_VERSION: Final = 4
SCOPE_VERSION: Final = 6
_BIND_AND_CONNECT: Final = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS: Final = 0b11
READ: Final = Access.EXECUTE | Access.READ_FILE | Access.READ_DIR
DEVICE: Final = Access.READ_FILE | Access.WRITE_FILE | Access.IOCTL_DEV
OWN: Final = Access(0xFFFF) & ~(Access.MAKE_CHAR | Access.MAKE_BLOCK | Access.IOCTL_DEV)

_PROGRAMS: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC: Final = ("passwd", "group", "nsswitch.conf", "profile", "profile.d", "bash.bashrc", "hosts")
_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")
_PROC: Final = ("cpuinfo", "meminfo", "stat", "uptime", "loadavg", "version", "filesystems")


def version() -> int:
    """Return the version of Landlock that the kernel speaks; 0: none."""
    libc = ctypes.CDLL(None, use_errno=True)
    found: int = libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, _VERSION_QUESTION)
    return max(0, found)


class Landlock:
    """Starts terminals that Landlock confines."""

    name: Literal["landlock"] = "landlock"

    def __init__(self, *, cgroups: Cgroups, owners: Owners) -> None:
        self._cgroups = cgroups
        self._owners = owners
        self._version = version()
        if os.geteuid() == 0:
            make_mount_points()

    async def start(self, wanted: Wanted) -> Held:
        if not self._version:
            message = "This kernel has no Landlock"
            raise SandboxUnavailableError(message)

        def spawn(owner: Owner, cgroup: Cgroup | None) -> Held:
            return confined.spawn(self.name, wanted, owner, cgroup, self._confine(wanted))

        return await start_with(wanted, self._cgroups, self._owners, spawn)

    def _confine(self, wanted: Wanted) -> confined.Confine:
        def confine(plan: dict[str, Any], places: Places, terminal: str) -> None:
            plan["landlock"] = ruleset(self._version, wanted, places, terminal)
            plan["seccomp"] = seccomp.program(internet=wanted.network, shared=True).hex()

        return confine


def ruleset(known: int, wanted: Wanted, places: Places, terminal: str) -> dict[str, Any]:
    """Return what the keeper makes its rules of: what is not named cannot be opened."""
    rights = next(count for since, count in _KNOWN_SINCE if known >= since)
    scoped = known >= SCOPE_VERSION
    return {
        "version": known,
        "handled_fs": (1 << rights) - 1,
        "handled_net": _BIND_AND_CONNECT if known >= NETWORK_VERSION and not wanted.network else 0,
        "scoped": _ABSTRACT_SOCKETS_AND_SIGNALS if scoped else 0,
        "paths": _paths(wanted, places, terminal),
    }


def _paths(wanted: Wanted, places: Places, terminal: str) -> list[tuple[str, int]]:
    shown = (*root.SHOWN, *_ETC, *(root.SHOWN_WITH_NETWORK if wanted.network else ()))
    readable = [
        *_PROGRAMS,
        *(f"/etc/{name}" for name in shown),
        *(f"/proc/{name}" for name in _PROC),
        str(places.doors),
    ]
    own = {str(places.home), str(places.temporary), *((str(places.work),) if places.work else ())}
    return [
        *((path, int(READ)) for path in readable),
        *((f"/dev/{name}", int(DEVICE)) for name in _DEVICES),
        (terminal, int(DEVICE)),
        *((path, int(OWN)) for path in sorted(own)),
    ]


def gaps(known: int) -> tuple[str, ...]:
    """Tell what this kernel's Landlock does not stop."""
    found = []
    if known < SCOPE_VERSION:
        found.append("abstract sockets of the machine can be reached")
    if os.geteuid() != 0:
        found += [
            "the number of processes and the size of the home are not limited",
            "modes and times of the runner's user's files can be changed, and its sockets reached",
        ]
    return tuple(found)
