"""What a runner's terminals are made of: bundles, and doors to databases."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gatekeeper.terminals.runner import bundles
from gatekeeper.terminals.runner.door import Door as DatabaseDoor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gatekeeper.terminals.model import Bundle, Stage
    from gatekeeper.terminals.runner.parts import Door, Fetch
    from gatekeeper.terminals.settings import RunnerSettings


def fetch_from(settings: RunnerSettings) -> Fetch:
    """Make what fetches bundles from where the settings allow."""
    cache = settings.folder / "bundles"

    async def fetch(
        bundle: Bundle,
        *,
        into: Path,
        progress: Callable[[str], None],
        reached: Callable[[Stage], None],
    ) -> None:
        await bundles.fetch(
            bundle,
            settings=settings.bundles,
            cache=cache,
            progress=progress,
            into=into,
            reached=reached,
        )

    return fetch


def make_door(folder: Path, *, roots: Path | None = None) -> Door:
    """Make the way from a terminal to its database. The sandbox's user gets the folder later."""
    return DatabaseDoor(folder, os.geteuid(), roots=roots)
