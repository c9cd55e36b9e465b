"""What a runner's terminals are made of: bundles, and doors to databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatekeeper.kernel.errors import ErrorCode, GatekeeperError
from gatekeeper.terminals.errors import BundleRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gatekeeper.terminals.model import Bundle
    from gatekeeper.terminals.runner.parts import Door, Fetch
    from gatekeeper.terminals.settings import RunnerSettings


def fetch_from(settings: RunnerSettings) -> Fetch:
    """Make what fetches bundles from where the settings allow."""
    del settings

    async def fetch(
        bundle: Bundle,
        *,
        into: Path,
        progress: Callable[[str], None],
        fetched: Callable[[], None],
        verified: Callable[[], None],
    ) -> None:
        del bundle, into, progress, fetched, verified
        msg = "this runner fetches no bundles"
        raise BundleRefusedError(msg)

    return fetch


def make_door(folder: Path) -> Door:
    """Make the way from a terminal to its database."""
    del folder
    raise GatekeeperError(ErrorCode.RUNNER_REJECTED, "this runner has no database logins")
