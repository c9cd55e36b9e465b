"""What everything that starts a real PostgreSQL for a test shares."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import pytest

from gatekeeper.kernel.errors import UnavailableError
from gatekeeper.platform.postgres.embedded import Binaries, find_binaries

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

SETTINGS: Final[Mapping[str, str]] = MappingProxyType(
    {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}
)
"""Fast, and safe but for a power cut, which no test survives."""

NEWEST: Final = [
    "18",
    *(pytest.param(major, marks=pytest.mark.slow) for major in ("15", "16")),
]
"""For `target_server`, where a test waits long for what every version does: the others are slow."""

TEMPLATE: Final = "gk_template"
APPLICATION_PASSWORD: Final = "of-this-run-alone"


def binaries(major: int) -> Binaries:
    """Return the binaries of one major version; skip the test where they are not installed."""
    try:
        return find_binaries(major)
    except UnavailableError as error:
        pytest.skip(error.detail)


def run(coroutine: Coroutine[Any, Any, object]) -> None:
    """Run outside of every test's event loop, and without becoming the current one."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(coroutine)
