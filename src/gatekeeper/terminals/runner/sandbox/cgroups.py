"""Memory, processes and CPU of one terminal, held by control groups of either version.

v1: one folder in each of memory, pids and cpu; v2: one folder in the unified tree.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gatekeeper.terminals.errors import SandboxUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatekeeper.terminals.runner.sandbox.interface import Wanted

TREE: Final = Path("/sys/fs/cgroup")
PARENT: Final = "gatekeeper"
_V1: Final = ("memory", "pids", "cpu")
_V2: Final = ("cpu", "memory", "pids")
CPU_PERIOD_MICROSECONDS: Final = 100_000
MIN_QUOTA_MICROSECONDS: Final = 1_000
"""The kernel takes no less."""
SWEEP_SECONDS: Final = 60
_SAFE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The folders of one terminal."""

    folders: tuple[Path, ...]

    def add(self, pid: int) -> None:
        """Put a process in, and with it all that it will start."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def processes(self) -> list[int]:
        found: set[int] = set()
        for folder in self.folders:
            with suppress(OSError):
                found.update(int(pid) for pid in (folder / "cgroup.procs").read_text().split())
        return sorted(found)

    def remove(self) -> bool:
        """Remove the folders; False while a process is in one."""
        for folder in self.folders:
            try:
                folder.rmdir()
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno == errno.EBUSY:
                    return False
                raise
        return True

    def left(self) -> tuple[str, ...]:
        return tuple(f"control group {folder}" for folder in self.folders if folder.exists())


class Cgroups:
    """Makes control groups. `version` 0: there are none that can be used here."""

    def __init__(self, tree: Path = TREE) -> None:
        self._tree = tree
        self.version, self.why_not = _usable(tree)

    def make(self, wanted: Wanted) -> Cgroup | None:
        """Make one with the limits of a terminal. Nothing half made is left behind."""
        if not self.version:
            return None
        if not _SAFE_NAME.fullmatch(wanted.terminal):
            message = "The terminal's name is none that a control group can have"
            raise SandboxUnavailableError(message)
        made = Cgroup(tuple(parent / wanted.terminal for parent in self._parents()))
        try:
            for folder in made.folders:
                folder.mkdir(exist_ok=False)
            self._limit(made, wanted)
        except OSError as error:
            with suppress(OSError):
                made.remove()
            message = f"Control groups cannot be made: {error.strerror}"
            raise SandboxUnavailableError(message) from error
        return made

    def sweep(self) -> None:
        """Remove what runners that were killed left behind: old folders that hold no process."""
        if self.version:
            for parent in self._parents():
                with suppress(OSError):
                    _sweep(parent)

    def _parents(self) -> tuple[Path, ...]:
        if self.version == 1:
            return tuple(self._tree / controller / PARENT for controller in _V1)
        return (self._tree / PARENT,)

    def _limit(self, made: Cgroup, wanted: Wanted) -> None:
        if self.version == 1:
            for folder, limits in zip(made.folders, _limits_v1(wanted), strict=True):
                _write(folder, limits)
        else:
            _write(made.folders[0], _limits_v2(wanted))


def _sweep(parent: Path) -> None:
    """Remove the old empty ones; a young one may be about to be filled."""
    measure = parent / f".now-{os.getpid()}"
    measure.mkdir()
    now = measure.stat().st_mtime
    measure.rmdir()
    for folder in parent.iterdir():
        if folder.is_dir() and now - folder.stat().st_mtime > SWEEP_SECONDS:
            with suppress(OSError):
                folder.rmdir()


def _limits_v1(wanted: Wanted) -> tuple[Mapping[str, str], ...]:
    memory = str(wanted.memory_bytes)
    return (
        # With swap after memory: it may not be less.
        {"memory.limit_in_bytes": memory, "?memory.memsw.limit_in_bytes": memory},
        {"pids.max": str(wanted.processes)},
        {
            "cpu.cfs_period_us": str(CPU_PERIOD_MICROSECONDS),
            "cpu.cfs_quota_us": str(_quota(wanted)),
        },
    )


def _limits_v2(wanted: Wanted) -> Mapping[str, str]:
    return {
        "memory.max": str(wanted.memory_bytes),
        "?memory.swap.max": "0",
        "pids.max": str(wanted.processes),
        "cpu.max": f"{_quota(wanted)} {CPU_PERIOD_MICROSECONDS}",
    }


def _quota(wanted: Wanted) -> int:
    return max(MIN_QUOTA_MICROSECONDS, wanted.cpu_percent * CPU_PERIOD_MICROSECONDS // 100)


def _write(folder: Path, limits: Mapping[str, str]) -> None:
    """Write each limit; those with a question mark only where the kernel has them."""
    for name, value in limits.items():
        file = folder / name.removeprefix("?")
        if name.startswith("?") and not file.exists():
            continue
        file.write_text(value)


def _usable(tree: Path) -> tuple[int, str]:
    """Find the version whose controllers we may use, by making our parent folder in them."""
    try:
        if (tree / "cgroup.controllers").exists():
            return _prepare_v2(tree)
        if all((tree / controller / "cgroup.procs").exists() for controller in _V1):
            for controller in _V1:
                (tree / controller / PARENT).mkdir(exist_ok=True)
                if not os.access(tree / controller / PARENT, os.W_OK):
                    return 0, "their folder belongs to another user"
            return 1, ""
    except OSError as error:
        return 0, f"they may not be made here: {error.strerror}"
    return 0, "the controllers memory, pids and cpu are not mounted"


def _prepare_v2(tree: Path) -> tuple[int, str]:
    """Hand the controllers down to our parent folder, and to what is in it."""
    offered = (tree / "cgroup.controllers").read_text().split()
    if missing := [name for name in _V2 if name not in offered]:
        return 0, f"there is no controller {', '.join(missing)}"
    parent = tree / PARENT
    parent.mkdir(exist_ok=True)
    for folder in (tree, parent):
        control = folder / "cgroup.subtree_control"
        handed = control.read_text().split() if control.exists() else []
        if not set(_V2) <= set(handed):
            control.write_text(" ".join(f"+{name}" for name in _V2))
    return 2, ""
