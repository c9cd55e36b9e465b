"""Which sandbox this machine offers: found by starting a terminal in each."""

from __future__ import annotations

import asyncio
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.errors import GatekeeperError
from gatekeeper.terminals.errors import SandboxUnavailableError
from gatekeeper.terminals.runner.sandbox import landlock
from gatekeeper.terminals.runner.sandbox.bubblewrap import Bubblewrap
from gatekeeper.terminals.runner.sandbox.cgroups import Cgroups
from gatekeeper.terminals.runner.sandbox.interface import TierReport, Wanted
from gatekeeper.terminals.runner.sandbox.landlock import Landlock
from gatekeeper.terminals.runner.sandbox.owners import Owners
from gatekeeper.terminals.runner.sandbox.plain import Plain
from gatekeeper.terminals.runner.sandbox.signals import let_children_hear_signals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatekeeper.terminals.runner.sandbox.interface import Sandbox

_MEBIBYTE: Final = 1_048_576
_TRY_SECONDS: Final = 15.0


def choose(*, allow_unsandboxed: bool) -> Sandbox:
    """Return the best tier that works. Raises `SandboxUnavailableError` where none may be used."""
    let_children_hear_signals()
    cgroups, owners = Cgroups(), Owners()
    cgroups.sweep()
    reasons = []
    for tier in _tiers(cgroups, owners):
        why_not = _try(tier)
        if why_not is None:
            return tier
        reasons.append(f"{tier.name}: {why_not}")
    if allow_unsandboxed:
        return Plain(cgroups=cgroups, owners=owners)
    owners.close()
    raise SandboxUnavailableError("; ".join(reasons))


def report() -> Sequence[TierReport]:
    """Tell of every tier whether it works here, and what does not hold in it.

    It starts a terminal in each (a tenth of a second): to be asked now and then, not for every
    request.
    """
    cgroups, owners = Cgroups(), Owners()
    try:
        return tuple(_report_of(tier, cgroups) for tier in _tiers(cgroups, owners))
    finally:
        owners.close()


def _tiers(cgroups: Cgroups, owners: Owners) -> tuple[Sandbox, ...]:
    return (
        Bubblewrap(cgroups=cgroups, owners=owners),
        Landlock(cgroups=cgroups, owners=owners),
    )


def _report_of(tier: Sandbox, cgroups: Cgroups) -> TierReport:
    why_not = _try(tier)
    if why_not is not None:
        return TierReport(name=tier.name, works=False, detail=why_not)
    return TierReport(name=tier.name, works=True, detail="it works", gaps=_gaps(tier, cgroups))


def _gaps(tier: Sandbox, cgroups: Cgroups) -> tuple[str, ...]:
    gaps = []
    if not cgroups.version:
        gaps.append(f"memory and CPU are not limited: {cgroups.why_not}")
    if os.geteuid() != 0:
        gaps.append("terminals are of the runner's own user")
    if tier.name == "landlock":
        gaps += landlock.gaps(landlock.version())
    return tuple(gaps)


def _try(tier: Sandbox) -> str | None:
    """Start a terminal that ends at once; return why that did not work."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, _start_and_end(tier)).result()


async def _start_and_end(tier: Sandbox) -> str | None:
    with tempfile.TemporaryDirectory(prefix="gatekeeper-try-") as folder:
        try:
            async with asyncio.timeout(_TRY_SECONDS):
                return await _run_nothing(tier, Path(folder))
        except GatekeeperError as error:
            return error.detail
        except (OSError, TimeoutError) as error:
            return f"it cannot be started: {error}"


async def _run_nothing(tier: Sandbox, folder: Path) -> str | None:
    running = await tier.start(
        Wanted(
            terminal=f"try-{os.getpid()}-{folder.name[-8:]}",
            steps=(("true",),),
            environment={},
            columns=80,
            rows=24,
            network=False,
            memory_bytes=64 * _MEBIBYTE,
            processes=16,
            cpu_percent=100,
            disk_bytes=_MEBIBYTE,
            work=None,
            doors=folder,
        )
    )
    try:
        ended = await running.wait()
    finally:
        os.close(running.terminal_fd)
    if ended.code == 0 and not running.left():
        return None
    return f"a terminal that was tried ended with {ended.code or ended.signal}"
