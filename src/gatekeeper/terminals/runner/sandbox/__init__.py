"""Where a terminal's command runs: the best sandbox that this machine offers.

interface.py    what is asked for, what runs, how it ended
bubblewrap.py   tier 1: namespaces, a root of its own, no capability, a system call filter
landlock.py     tier 2, where user namespaces are blocked: Landlock, the filter, limits
plain.py        tier 3: nothing; only where the settings allow it
choice.py       which of them works here, found by trying

starting.py     around every start: a user (owners.py), a control group (cgroups.py), a PTY (pty.py)
confined.py     starting behind keeper.py, the program that keeps what bubblewrap does not
root.py         the file system inside             seccomp.py      the filter of system calls
limits.py       of each process                    signals.py      none is ignored inside
steps.py        what is run, as arguments          status.py       what is heard of it
held.py         what runs, until it is gone        accounting.py   the proof, from /proc
folders.py      how large what it wrote is, and removing that
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
