"""What a runner's terminals are made of: bundles, and doors to databases."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gatekeeper.terminals.errors import BundleRefusedError
from gatekeeper.terminals.runner.door import Door as DatabaseDoor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gatekeeper.terminals.model import Bundle, Stage
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
        reached: Callable[[Stage], None],
    ) -> None:
        del bundle, into, progress, reached
        msg = "this runner fetches no bundles"
        raise BundleRefusedError(msg)

    return fetch


def make_door(folder: Path, *, roots: Path | None = None) -> Door:
    """Make the way from a terminal to its database. The sandbox's user gets the folder later."""
    return DatabaseDoor(folder, os.geteuid(), roots=roots)
