"""What the terminal plane needs from the world. Each port has a module, and its values with it.

store.py       `TerminalStore`, and `TerminalUnit`: one transaction   adapters/store/
launcher.py    `Launcher`: starts and ends terminals                  adapters/launchers/
recordings.py  `Recordings`: reads and deletes what was recorded      adapters/recordings.py
tickets.py     `Tickets`: signs them                                  adapters/tickets.py
logins.py      `Logins`: the database plane, in a few words           the composition root
policy.py      `PolicySource`: the policy in force                    the platform

To the right: who implements it.
"""

from gatekeeper.terminals.ports.launcher import Gone, Launch, Launched, Launcher
from gatekeeper.terminals.ports.logins import BoundLogin, Logins
from gatekeeper.terminals.ports.policy import PolicySource
from gatekeeper.terminals.ports.recordings import HeldRecording, Recordings
from gatekeeper.terminals.ports.store import (
    Move,
    OverdueRecording,
    Runner,
    RunnerClaim,
    TerminalClaim,
    TerminalStore,
    TerminalUnit,
)
from gatekeeper.terminals.ports.tickets import Tickets

__all__ = [
    "BoundLogin",
    "Gone",
    "HeldRecording",
    "Launch",
    "Launched",
    "Launcher",
    "Logins",
    "Move",
    "OverdueRecording",
    "PolicySource",
    "Recordings",
    "Runner",
    "RunnerClaim",
    "TerminalClaim",
    "TerminalStore",
    "TerminalUnit",
    "Tickets",
]
