"""Following a terminal from a command: until it ends or somebody leaves, and what that means."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from gatekeeper.client import operations
from gatekeeper.client.api import ApiError
from gatekeeper.client.attaching import Attaching, Closed
from gatekeeper.client.following import Following
from gatekeeper.client.recordings import opened
from gatekeeper.entrypoints.cli.caller import Exit, note
from gatekeeper.entrypoints.cli.console import Console, on_signals
from gatekeeper.kernel.errors import ErrorCode, GatekeeperError
from gatekeeper.kernel.terminal.closing import CloseCode
from gatekeeper.kernel.terminal.term import Mode
from gatekeeper.wire.terminals import AttachRequest

if TYPE_CHECKING:
    from gatekeeper.client.api import Client
    from gatekeeper.wire.terminals import TerminalView, TicketView

ENDS_US: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
OVER_SECONDS: Final = 5.0
"""How long after the last word of a terminal its state may still be on its way."""
LOOK_SECONDS: Final = 0.1
LIVE: Final = frozenset({"pending", "ready"})
GONE: Final = frozenset(
    {ErrorCode.STATE_CONFLICT, ErrorCode.NOT_FOUND, ErrorCode.TICKET_REFUSED,
     ErrorCode.SERVICE_UNAVAILABLE, ErrorCode.RUNNER_UNREACHABLE}
)  # fmt: skip
"""Refusals to attach that may mean that there is nothing left to attach to."""

WORDS: Final = {
    "expired": "its time was over",
    "idle": "nothing was typed and nothing was written for too long",
    "revoked": "somebody ended it",
    "output_limit": "it wrote more than a terminal may",
    "bundle_refused": "its bundle was refused",
    "install_failed": "the installation of its bundle failed",
    "runner_lost": "the machine that held it is gone",
    "launch_failed": "it could not be started",
}
"""Why a terminal is no longer there: its `ending`."""

_BY_CODE: Final = {
    CloseCode.EXPIRED: "expired",
    CloseCode.IDLE: "idle",
    CloseCode.REVOKED: "revoked",
    CloseCode.RUNNER_LOST: "runner_lost",
}
_SAID: Final = {
    CloseCode.NORMAL: "the connection was closed",
    CloseCode.FORBIDDEN: "that is not allowed to who watches",
    CloseCode.TAKEN_OVER: "somebody else has the input now",
    CloseCode.PROTOCOL_ERROR: "this gk and the server do not understand each other",
    CloseCode.TOO_LARGE: "this gk sent more than the server takes at a time",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How following ended: by the terminal's end, or because we left."""

    following: Following
    closed: Closed | None = None
    """None: we left, by a key or by `signal`."""
    signal: int | None = None
    error: GatekeeperError | None = None
    """Why it could not be attached to, at first or again."""


class Signals:
    """Holds what would end us until it is known what has to be ended with us."""

    def __init__(self) -> None:
        self._held: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._previous = {number: signal.getsignal(number) for number in ENDS_US}
        self.hold()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def hold(self) -> None:
        for number in ENDS_US:
            signal.signal(number, self._note)

    def release(self) -> None:
        """End now by what came meanwhile, or by what comes."""
        for number in ENDS_US:
            signal.signal(number, _leave)
        if self._held is not None:
            _leave(self._held, None)

    def _note(self, number: int, _frame: object) -> None:
        self._held = number


def _leave(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def follow(
    client: Client, terminal: str, mode: Mode, *, console: Console, take: bool = False
) -> Outcome:
    """Attach, and follow until it is over or somebody leaves."""
    return asyncio.run(_follow(client, terminal, mode, console, take=take))


async def _follow(
    client: Client, terminal: str, mode: Mode, console: Console, *, take: bool
) -> Outcome:
    async def ticket() -> TicketView:
        body = AttachRequest(mode=mode.value)
        return await asyncio.to_thread(client.call, operations.attach_terminal(terminal, body))

    def resized() -> None:
        if (size := console.size()) is not None:
            attaching.outbox.put(*following.resized(*size))

    def stop(number: int | None = None) -> None:
        left.append(number)
        task.cancel()

    left: list[int | None] = []
    following = Following(mode, size=console.size(), take=take)
    attaching = Attaching(following, console, ticket)
    task = asyncio.create_task(attaching.run(), name="terminal")
    on_signals(stop, resized, console.raw)
    console.listen(None if mode is Mode.READ else attaching.outbox, stop)
    try:
        return Outcome(following, await task)
    except GatekeeperError as error:
        return Outcome(following, error=error)
    except asyncio.CancelledError:
        return Outcome(following, signal=next((n for n in left if n is not None), None))
    finally:
        console.deafen()


def result(client: Client, terminal: str, outcome: Outcome, console: Console) -> int:
    """Say how it ended, unless its command did so well; return what gk exits with.

    Raises `GatekeeperError` when it is there and cannot be attached to.
    """
    if outcome.error is not None:
        return _unattached(client, terminal, outcome, console)
    if outcome.closed is None:
        return Exit.OK if outcome.signal is None else 128 + outcome.signal
    said = outcome.following.exit
    if said is not None and said.ending == "exited":
        return exit_code(said.code, said.signal)
    code = outcome.closed.code
    ending = said.ending if said is not None else _BY_CODE.get(_known(code))
    if ending is not None:
        return _ended(ending)
    if code != CloseCode.ENDED:
        words = _SAID.get(_known(code), f"the connection was closed with {code}")
        note(f"{words}: {outcome.closed.reason}" if outcome.closed.reason else words)
        return Exit.ERROR
    # It was cut before the runner had told of the end: what it had left to say is recorded.
    view = wait_until_over(client, terminal)
    return show_missed(client, view, console, outcome.following.offset or 0)


def _unattached(client: Client, terminal: str, outcome: Outcome, console: Console) -> int:
    """Tell of a terminal that may have ended while nobody was attached."""
    assert outcome.error is not None  # noqa: S101  # asked by the caller
    if outcome.error.code not in GONE:
        raise _in_our_words(outcome.error)
    view = wait_until_over(client, terminal)
    if view.status in LIVE:
        raise outcome.error
    return show_missed(client, view, console, outcome.following.offset or 0)


def _in_our_words(error: GatekeeperError) -> GatekeeperError:
    """Say by which options of this command the modes are asked for that a refusal names."""
    if not isinstance(error, ApiError) or error.code is not ErrorCode.POLICY_DENIED:
        return error
    hint = f"{error.problem.hint or 'another mode'}: here these are --read and --take"
    return ApiError(error.problem.model_copy(update={"hint": hint}))


def show_missed(client: Client, view: TerminalView, console: Console, offset: int = 0) -> int:
    """Show what was written while nobody could look, and how it ended."""
    asyncio.run(_draw_missed(client, view, console, offset))
    return over(view)


def over(view: TerminalView) -> int:
    """Say how a terminal ended that nobody was there to see the end of."""
    if view.ending == "exited":
        return exit_code(view.exit_code, view.signal)
    if view.error is not None:
        note(f"{view.error.message} ({view.error.code})")
    return _ended(view.ending or view.status)


def exit_code(code: int | None, number: int | None) -> int:
    """Return a command's exit code, as a shell tells it."""
    if number is not None:
        return 128 + number
    return Exit.ERROR if code is None else code


def wait_until_over(client: Client, terminal: str) -> TerminalView:
    deadline = time.monotonic() + OVER_SECONDS
    while True:
        view = client.call(operations.get_terminal(terminal))
        if view.status not in LIVE or time.monotonic() > deadline:
            return view
        time.sleep(LOOK_SECONDS)


async def _draw_missed(client: Client, view: TerminalView, console: Console, offset: int) -> None:
    """Draw what a terminal wrote before anybody could look: from its recording, or its screen."""
    try:
        with opened(client, view.terminal_id) as (_, events):
            text = "".join(event.data for event in events if event.code == "o").encode()
    except GatekeeperError:
        text = (view.last_screen or "").replace("\n", "\r\n").encode()
    with contextlib.suppress(BrokenPipeError):
        await console.draw(text[offset:])


def _known(code: int) -> CloseCode:
    return CloseCode(code) if code in set(CloseCode) else CloseCode.INTERNAL


def _ended(ending: str) -> int:
    note(WORDS.get(ending, f"it is {ending}"))
    return Exit.TIMED_OUT if ending in {"expired", "idle"} else Exit.ERROR
