"""What this machine can hold terminals with, found by trying."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatekeeper.terminals.runner import sandbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatekeeper.terminals.runner.sandbox import TierReport


def report_sandboxes() -> Sequence[TierReport]:
    """Start a terminal in each tier; tell which works, and what does not hold in it."""
    return sandbox.report()
