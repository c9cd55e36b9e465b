"""The list of points at which a process dies, and how it is made to die there.

No line of the product knows of them: a test's process wraps the named functions before it
starts, and the wrapper kills whoever the armed order names, itself perhaps, with SIGKILL.
"""

import inspect
import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Any, Final, Literal

from acceptance.faults.processes import Role
from gatekeeper.databases.adapters.agents.executor import AgentExecutor
from gatekeeper.databases.adapters.postgresql.provider import PostgreSQLProvider
from gatekeeper.databases.adapters.postgresql.revocation import Revocation
from gatekeeper.databases.adapters.store.unit import Unit
from gatekeeper.databases.jobs import ending, issuing
from gatekeeper.databases.service import SessionService
from gatekeeper.platform.audit.sequencer import Sequencer
from gatekeeper.platform.queue.worker import Worker

Way = Literal["issue", "revoke", "expire"]

LEASE_SECONDS: Final = 1.5
"""A killed worker's jobs are free after this long: the product's 30 s would be waited for."""


@dataclass(frozen=True)
class Point:
    """A place in the code of one process, just before or just after a function runs."""

    name: str
    process: Role
    owner: Any
    function: str
    ways: tuple[Way, ...]
    before: bool = False


CP: Final[Role] = "control-plane"
AGENT: Final[Role] = "agent"
ISSUE: Final[tuple[Way, ...]] = ("issue",)
REVOKE: Final[tuple[Way, ...]] = ("revoke",)
EXPIRE: Final[tuple[Way, ...]] = ("expire",)
END: Final[tuple[Way, ...]] = ("revoke", "expire")

POINTS: Final = (
    Point("create: written, not committed", CP, SessionService, "_open", ISSUE),
    Point("create: committed, not answered", CP, SessionService, "create", ISSUE),
    Point("issue: job claimed", CP, issuing.Issuing, "__call__", ISSUE, before=True),
    Point("issue: agent not called yet", CP, issuing.Issuing, "_still_wanted", ISSUE),
    Point("issue: job received", AGENT, AgentExecutor, "_create", ISSUE, before=True),
    Point("issue: login made", AGENT, PostgreSQLProvider, "create_ephemeral_user", ISSUE),
    Point("issue: result signed, not sent", AGENT, AgentExecutor, "handle", ISSUE),
    Point("issue: result received", CP, issuing, "answers_of", ISSUE),
    Point("issue: ready, not committed", CP, issuing, "_make_ready", ISSUE),
    Point("issue: ready, committed", CP, issuing.Issuing, "_apply", ISSUE),
    Point("evidence: linked, not committed", CP, Sequencer, "_sign", ISSUE + REVOKE),
    Point("revoke: written, not committed", CP, Unit, "record", REVOKE),
    Point("revoke: committed, not answered", CP, SessionService, "revoke", REVOKE),
    Point("end: job claimed", CP, ending.Ending, "__call__", END, before=True),
    Point("end: expired, not committed", CP, ending, "_expire", EXPIRE),
    Point("end: agent not called yet", CP, ending.Ending, "_begin", END),
    Point("end: job received", AGENT, AgentExecutor, "_revoke", END, before=True),
    Point("end: login off", AGENT, Revocation, "_switch_off", END),
    Point("end: connections ended", AGENT, Revocation, "_see_backends_gone", END),
    Point("end: objects released", AGENT, Revocation, "_release_objects", END),
    Point("end: role dropped", AGENT, Revocation, "_drop", END),
    Point("end: proven, not reported", AGENT, AgentExecutor, "_revoke", END),
    Point("end: result received", CP, ending.Ending, "_revoke", END),
    Point("end: cleaned, not committed", CP, ending, "_cleaned", END),
    Point("end: cleaned, committed", CP, ending.Ending, "_apply_gone", END),
)


def arm(order: Path, point: Point, pids: list[int]) -> None:
    """Have these processes killed when the point is reached for the first time."""
    written = order.with_suffix(".new")
    written.write_text(json.dumps({"point": point.name, "kill": pids}))
    written.rename(order)


def set_traps(order: Path, role: Role) -> None:
    """Wrap every point, in the process that is to start."""
    for point in POINTS:
        function = inspect.getattr_static(point.owner, point.function)
        static = isinstance(function, staticmethod)
        reached = partial(_reached, order, point.name)
        trapped = _trapped(function.__func__ if static else function, reached, point.before)
        setattr(point.owner, point.function, staticmethod(trapped) if static else trapped)
    shorten_leases(role)


def shorten_leases(_role: Role) -> None:
    """Have what a killed worker held found soon."""
    defaults = Worker.__init__.__kwdefaults__
    assert defaults is not None
    defaults["lease_seconds"] = LEASE_SECONDS


def _trapped(
    function: Callable[..., Any], reached: Callable[[], None], before: bool
) -> Callable[..., Any]:
    if not inspect.iscoroutinefunction(function):

        @wraps(function)
        def plain(*values: Any, **named: Any) -> Any:
            result = function(*values, **named)
            reached()
            return result

        return plain

    @wraps(function)
    async def trapped(*values: Any, **named: Any) -> Any:
        if before:
            reached()
        result = await function(*values, **named)
        if not before:
            reached()
        return result

    return trapped


def _reached(order: Path, point: str) -> None:
    try:
        armed = json.loads(order.read_text())
    except FileNotFoundError:
        return
    if armed["point"] != point:
        return
    order.unlink()
    for pid in armed["kill"]:
        os.kill(pid, signal.SIGKILL)
