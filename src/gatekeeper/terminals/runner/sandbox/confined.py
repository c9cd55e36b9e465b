"""Starts terminals behind the keeper: what Landlock's tier and no tier have in common."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gatekeeper.terminals.runner.sandbox import limits, root
from gatekeeper.terminals.runner.sandbox.folders import discard, watched_work
from gatekeeper.terminals.runner.sandbox.held import Held
from gatekeeper.terminals.runner.sandbox.interface import DOORS, HOME, WORK
from gatekeeper.terminals.runner.sandbox.owners import MOUNT_POINTS
from gatekeeper.terminals.runner.sandbox.pty import open_pty
from gatekeeper.terminals.runner.sandbox.steps import init_arguments

if TYPE_CHECKING:
    from gatekeeper.terminals.runner.sandbox.cgroups import Cgroup
    from gatekeeper.terminals.runner.sandbox.interface import TierName, Wanted
    from gatekeeper.terminals.runner.sandbox.owners import Owner

Confine = Callable[[dict[str, Any], "Places", str], None]
"""Adds to a plan what confines, given the folders and the terminal's path."""
KEEPER: Final = Path(__file__).with_name("keeper.py")


class Places:
    """Where a terminal's folders are, for who it is on the host.

    For root: in a mount namespace of its own, the home and /tmp in memory and bounded. For
    others: where they are, and a home among the temporary files.
    """

    def __init__(self, wanted: Wanted, owner: Owner) -> None:
        self._wanted = wanted
        self._made: Path | None = None
        if owner.own:
            self.home, self.doors = MOUNT_POINTS.home, MOUNT_POINTS.doors
            self.work = wanted.work and MOUNT_POINTS.work
        else:
            self._made = Path(tempfile.mkdtemp(prefix="gatekeeper-home-"))
            self.home, self.doors, self.work = self._made, wanted.doors, wanted.work
        self._uid = owner.uid

    @property
    def temporary(self) -> Path:
        return self.home if self._made is not None else Path(root.TEMPORARY)

    def mounts(self) -> list[dict[str, Any]]:
        if self._made is not None:
            return []
        wanted, uid = self._wanted, self._uid
        mounts = [{"from": str(wanted.doors), "at": str(self.doors), "read_only": True}]
        if self.work is not None:
            mounts.append({"from": str(wanted.work), "at": str(self.work), "read_only": False})
        options = f"size={wanted.disk_bytes},uid={uid},gid={uid},mode=0700"
        return [
            *mounts,
            {"from": None, "at": str(self.home), "options": options},
            {"from": None, "at": root.TEMPORARY, "options": options},
        ]

    def environment(self) -> dict[str, str]:
        """Return the environment, with the folders where they are."""
        seen = {DOORS: self.doors, HOME: self.home, WORK: self.work or self.home}
        given = root.DEFAULTS | {"TMPDIR": str(self.temporary)} | dict(self._wanted.environment)
        return {name: _moved(value, seen) for name, value in given.items()}

    def remove(self) -> None:
        if self._made is not None:
            discard(self._made)


def _moved(value: str, seen: dict[str, Path]) -> str:
    for inside, outside in seen.items():
        if value == inside or value.startswith(f"{inside}/"):
            return f"{outside}{value[len(inside) :]}"
    return value


def plan_for(wanted: Wanted, owner: Owner, places: Places) -> dict[str, Any]:
    """Return what the keeper is told, without what confines."""
    hold = wanted.processes if owner.own else None
    return {
        "mounts": places.mounts(),
        "remove": None if owner.own else str(places.home),
        "uid": owner.uid if owner.own else None,
        "limits": list(limits.limits(wanted).items()),
        "folder": str(places.work or places.home),
        "command": init_arguments(wanted.steps, processes=hold),
        "environment": places.environment(),
        "landlock": None,
        "seccomp": None,
    }


def spawn(
    name: TierName,
    wanted: Wanted,
    owner: Owner,
    cgroup: Cgroup | None,
    confine: Confine,
) -> Held:
    """Start a keeper, bound it, and hand it its plan. `confine` adds to the plan."""
    with ExitStack() as stack:
        pty = open_pty(columns=wanted.columns, rows=wanted.rows, owner=owner.uid)
        stack.callback(os.close, pty.slave)
        on_failure = stack.enter_context(ExitStack())
        on_failure.callback(os.close, pty.master)
        places = Places(wanted, owner)
        on_failure.callback(places.remove)
        plan = plan_for(wanted, owner, places)
        confine(plan, places, os.ttyname(pty.slave))
        status, told = os.pipe()
        stack.callback(os.close, told)
        on_failure.callback(os.close, status)
        process = _keeper(pty.slave, told)
        on_failure.callback(process.wait)
        on_failure.callback(process.kill)
        if cgroup is not None:
            cgroup.add(process.pid)
        _hand(process, plan)
        held = Held(
            name=name,
            process=process,
            master=pty.master,
            status=status,
            owner=owner,
            cgroup=cgroup,
            clean=places.remove,
            keeper=True,
            watched=watched_work(wanted),
        )
        on_failure.pop_all()
        return held


def _keeper(terminal: int, told: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-I", "-S", str(KEEPER), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=terminal,
        stderr=told,
        env={"PATH": root.PATH},
        cwd="/",
        start_new_session=True,
    )


def _hand(process: subprocess.Popen[bytes], plan: dict[str, Any]) -> None:
    """Write the plan. The keeper reads all of it before it does anything else."""
    if process.stdin is not None:
        with process.stdin as pipe:
            pipe.write(json.dumps(plan).encode())
