"""Limits of each process of a terminal, set on the first before it becomes anything.

They hold without control groups too, but for each process alone, not for all together.
"""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gatekeeper.terminals.runner.sandbox.interface import Wanted

OPEN_FILES: Final = 4_096
QUEUED_SIGNALS: Final = 4_096
MESSAGE_QUEUE_BYTES: Final = 819_200
LOCKED_BYTES: Final = 65_536
NO_CORE: Final = 1
"""Not 0: at 1 byte a kernel that pipes core dumps to a program on the host does not either
(core(5), "Piping core dumps to a program")."""


def limits(wanted: Wanted) -> dict[int, int]:
    return {
        resource.RLIMIT_CORE: NO_CORE,
        resource.RLIMIT_FSIZE: wanted.disk_bytes,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_SIGPENDING: QUEUED_SIGNALS,
        resource.RLIMIT_MSGQUEUE: MESSAGE_QUEUE_BYTES,
        resource.RLIMIT_MEMLOCK: LOCKED_BYTES,
        resource.RLIMIT_NICE: 0,
        resource.RLIMIT_RTPRIO: 0,
    }


def apply(pid: int, wanted: Wanted) -> None:
    """Lower what a process may; none is raised."""
    for kind, most in limits(wanted).items():
        _, hard = resource.prlimit(pid, kind)
        value = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.prlimit(pid, kind, (value, value))
