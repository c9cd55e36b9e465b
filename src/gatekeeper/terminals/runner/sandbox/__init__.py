"""Where a terminal's command runs: the best sandbox that this machine offers.

interface.py    what is asked for, what runs, how it ended
bubblewrap.py   tier 1: namespaces, a root of its own, no capability, a system call filter
landlock.py     tier 2, where user namespaces are blocked: Landlock, the filter, limits
plain.py        tier 3: nothing; only where the settings allow it
"""

from gatekeeper.terminals.runner.sandbox.choice import choose, report
from gatekeeper.terminals.runner.sandbox.folders import discard
from gatekeeper.terminals.runner.sandbox.interface import (
    DOORS,
    HOME,
    WORK,
    Exit,
    Sandbox,
    Sandboxed,
    TierReport,
    Wanted,
)

__all__ = [
    "DOORS",
    "HOME",
    "WORK",
    "Exit",
    "Sandbox",
    "Sandboxed",
    "TierReport",
    "Wanted",
    "choose",
    "discard",
    "report",
]
