"""Tier 3: no sandbox at all. Only where the settings say that this is meant."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from gatekeeper.terminals.runner.sandbox import confined
from gatekeeper.terminals.runner.sandbox.owners import Owner, make_mount_points
from gatekeeper.terminals.runner.sandbox.starting import start_with

if TYPE_CHECKING:
    from gatekeeper.terminals.runner.sandbox.cgroups import Cgroup, Cgroups
    from gatekeeper.terminals.runner.sandbox.held import Held
    from gatekeeper.terminals.runner.sandbox.interface import Wanted
    from gatekeeper.terminals.runner.sandbox.owners import Owners


class Plain:
    """Starts terminals that nothing confines; their limits hold as far as they do anywhere."""

    name: Literal["none"] = "none"

    def __init__(self, *, cgroups: Cgroups, owners: Owners) -> None:
        self._cgroups = cgroups
        self._owners = owners
        if os.geteuid() == 0:
            make_mount_points()

    async def start(self, wanted: Wanted) -> Held:
        def spawn(owner: Owner, cgroup: Cgroup | None) -> Held:
            return confined.spawn(self.name, wanted, owner, cgroup, lambda *_: None)

        return await start_with(wanted, self._cgroups, self._owners, spawn)
