"""Between the plane's values and what is said to a runner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatekeeper.terminals.errors import RunnerRejectedError
from gatekeeper.terminals.model import Ended, Ending
from gatekeeper.terminals.ports import Gone, Launched
from gatekeeper.wire import runner as wire

if TYPE_CHECKING:
    from gatekeeper.terminals.model import Bundle, Profile
    from gatekeeper.terminals.ports import Launch


def launch_order(launch: Launch) -> wire.LaunchOrder:
    terminal, profile = launch.terminal, launch.profile
    return wire.LaunchOrder(
        id=f"launch:{terminal.instance}",
        correlation_id=terminal.correlation_id,
        terminal=terminal.id,
        instance=terminal.instance,
        command=terminal.command,
        shell=terminal.shell,
        prompt=terminal.prompt,
        bundle=None if terminal.bundle is None else _bundle(terminal.bundle),
        database=terminal.database is not None,
        columns=terminal.size.columns,
        rows=terminal.size.rows,
        seconds_left=launch.seconds_left,
        network=profile.network,
        record_input=profile.record_input,
        limits=_limits(profile),
    )


def launched(result: wire.LaunchedResult) -> Launched:
    return Launched(
        instance=result.instance,
        address=result.address,
        sandbox=result.sandbox,
        already=result.already,
        verifier=result.verifier,
        signed=result.receipt,
    )


def gone(result: wire.GoneResult) -> Gone:
    return Gone(
        existed=result.existed,
        gone=result.gone,
        processes_ended=result.processes_ended,
        ended=None if result.ended is None else _ended(result.ended),
        left=result.left,
        signed=result.receipt,
    )


def _ended(said: wire.EndedView) -> Ended:
    if said.ending not in set(Ending):
        msg = "the runner cannot be believed: it names an ending that there is not"
        raise RunnerRejectedError(msg)
    return Ended(
        ending=Ending(said.ending),
        exit_code=said.exit_code,
        signal=said.signal,
        last_screen=said.last_screen,
        recording_head=said.recording_head,
        recording_bytes=said.recording_bytes,
        output_bytes=said.output_bytes,
    )


def _bundle(bundle: Bundle) -> wire.BundleOrder:
    return wire.BundleOrder(url=bundle.url, sha256=bundle.sha256, install=bundle.install)


def _limits(profile: Profile) -> wire.Limits:
    return wire.Limits(
        memory_bytes=profile.memory_bytes,
        processes=profile.processes,
        cpu_percent=profile.cpu_percent,
        disk_bytes=profile.disk_bytes,
        output_bytes=profile.output_bytes,
        idle_seconds=int(profile.idle.total_seconds()),
    )
