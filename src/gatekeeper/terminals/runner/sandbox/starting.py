"""What every tier does around a start: a user, a control group, and neither left behind."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from gatekeeper.terminals.errors import SandboxUnavailableError
from gatekeeper.terminals.runner.sandbox.owners import hand_over
from gatekeeper.terminals.runner.sandbox.steps import check_environment, check_steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatekeeper.terminals.runner.sandbox.cgroups import Cgroup, Cgroups
    from gatekeeper.terminals.runner.sandbox.held import Held
    from gatekeeper.terminals.runner.sandbox.interface import Wanted
    from gatekeeper.terminals.runner.sandbox.owners import Owner, Owners


async def start_with(
    wanted: Wanted,
    cgroups: Cgroups,
    owners: Owners,
    spawn: Callable[[Owner, Cgroup | None], Held],
) -> Held:
    """Start something, and return it when it says that it runs."""
    check_steps(wanted.steps)
    check_environment(wanted.environment)
    held = await _spawned(wanted, cgroups, owners, spawn)
    try:
        await held.started()
    except BaseException:
        await held.end()
        os.close(held.terminal_fd)
        raise
    return held


async def _spawned(
    wanted: Wanted,
    cgroups: Cgroups,
    owners: Owners,
    spawn: Callable[[Owner, Cgroup | None], Held],
) -> Held:
    owner, cgroup = owners.take(), None
    try:
        for folder in (wanted.doors, wanted.work):
            if folder is not None:
                await asyncio.to_thread(hand_over, folder, owner.uid)
        cgroup = cgroups.make(wanted)
        return spawn(owner, cgroup)
    except BaseException as error:
        if cgroup is not None:
            cgroup.remove()
        owner.release()
        if isinstance(error, OSError):
            message = f"A terminal cannot be started: {error.strerror or error}"
            raise SandboxUnavailableError(message) from error
        raise
