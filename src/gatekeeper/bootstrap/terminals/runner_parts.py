"""What a runner's terminals are made of: bundles, and doors to databases."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from gatekeeper.terminals.runner.bundles import fetch
from gatekeeper.terminals.runner.door import DatabaseDoor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gatekeeper.terminals.model import Bundle, Stage
    from gatekeeper.terminals.runner.parts import Door, Fetch
    from gatekeeper.terminals.settings import RunnerSettings


CACHE: Final = "cache"
"""Of a runner's folder: bundles by their hash."""


def fetch_from(settings: RunnerSettings) -> Fetch:
    """Make what fetches bundles from where the settings allow."""

    async def fetch_bundle(
        bundle: Bundle,
        *,
        into: Path,
        progress: Callable[[str], None],
        reached: Callable[[Stage], None],
    ) -> None:
        await fetch(
            bundle,
            settings=settings.bundles,
            cache=settings.folder / CACHE,
            progress=progress,
            into=into,
            reached=reached,
        )

    return fetch_bundle


def make_door(folder: Path, *, roots: Path | None = None) -> Door:
    """Make the way from a terminal to its database. The sandbox's user gets the folder later."""
    return DatabaseDoor(folder, os.geteuid(), roots=roots)
