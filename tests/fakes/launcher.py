"""A runner in memory, behind the `Launcher` port, whose world a test can change."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gatekeeper.kernel import ids, scram
from gatekeeper.kernel.errors import ErrorCode, GatekeeperError
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.random import SystemRandom
from gatekeeper.terminals.errors import RunnerRejectedError, RunnerUnreachableError
from gatekeeper.terminals.model import Ended, Ending, Size
from gatekeeper.terminals.ports import Gone, Launched, Runner
from gatekeeper.terminals.reporting import Report, Reported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatekeeper.kernel.ids import TerminalId
    from gatekeeper.terminals.ports import BoundLogin, Launch
    from gatekeeper.terminals.reporting import Answer, Told

VERIFIER = scram.make_verifier(Secret("canary"), b"s" * scram.SALT_BYTES, 64)


@dataclass
class FakeTerminal:
    launch: Launch
    lines: list[str] = field(default_factory=list)
    typed: str = ""
    login: BoundLogin | None = None
    ended: Ended | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class FakeLauncher:
    """Holds terminals of which nothing runs.

    `stuck` are instances that cannot be proven gone, `gate` is what a launch waits for.
    """

    name: str = "local"
    capacity: int = 100
    boot: str = "a" * 20
    live: dict[str, FakeTerminal] = field(default_factory=dict)
    over: dict[str, Ended | None] = field(default_factory=dict)
    stopped: set[str] = field(default_factory=set)
    """Instances that an order ended."""
    started: int = 0
    crowded: int = 0
    """How often a terminal came for which there was no place."""
    reachable: bool = True
    stuck: set[str] = field(default_factory=set)
    fail_next: list[GatekeeperError] = field(default_factory=list)
    lose_answers: int = 0
    gate: asyncio.Event | None = None
    dies_at_bind: bool = False
    told: dict[str, list[Told]] = field(default_factory=dict)
    """By instance, what is to be reported and was not taken yet."""
    taken: dict[str, int] = field(default_factory=dict)

    # -- the port ----------------------------------------------------------------------

    async def launch(self, launch: Launch) -> Launched:
        await self._answer()
        instance = launch.terminal.instance
        if instance in self.stopped:
            msg = "this terminal was ended here"
            raise RunnerRejectedError(msg)
        already = instance in self.live or instance in self.over
        if not already:
            if len(self.live) >= self.capacity:
                self.crowded += 1
                msg = "every place is taken"
                raise RunnerRejectedError(msg, retryable=True)
            self.live[instance] = FakeTerminal(launch)
            self.started += 1
        if self.gate is not None:
            await self.gate.wait()
        self._lose()
        return Launched(
            instance=instance,
            address=f"unix:/run/{self.name}.sock",
            sandbox="none",
            already=already,
            verifier=None if launch.terminal.database is None else VERIFIER,
            signed="a.b.c",
        )

    async def end(self, terminal: TerminalId, instance: str, why: str) -> Gone:
        await self._answer()
        found = self.live.get(instance)
        if instance in self.stuck:
            return Gone(
                existed=True, gone=False, processes_ended=0, ended=None, left=("process 7",)
            )
        ended = self.over.get(instance)
        if found is not None:
            ended = found.ended or Ended(
                ending=Ending(why), last_screen="\n".join(found.lines), output_bytes=7
            )
            del self.live[instance]
            found.changed.set()
        self.over[instance] = ended
        self.stopped.add(instance)
        self._lose()
        return Gone(
            existed=found is not None,
            gone=True,
            processes_ended=0 if found is None else 1,
            ended=ended,
            signed="a.b.c",
        )

    async def bind(self, terminal: TerminalId, instance: str, login: BoundLogin) -> None:
        if self.dies_at_bind:
            self.dies_at_bind = False
            self.die()
            msg = "the connection was reset"
            raise RunnerUnreachableError(msg)
        await self._answer()
        if instance not in self.over:
            self._found(terminal, instance).login = login
        self._lose()

    async def send_input(self, terminal: TerminalId, instance: str, data: str) -> None:
        await self._answer()
        found = self._found(terminal, instance)
        found.typed += data
        self.write(instance, *data.splitlines())  # what is typed is echoed

    async def screen(self, terminal: TerminalId, instance: str) -> tuple[Sequence[str], Size]:
        await self._answer()
        found = self._found(terminal, instance)
        size = found.launch.terminal.size
        return tuple(line[: size.columns] for line in found.lines[-size.rows :]), size

    async def wait_for_text(
        self, terminal: TerminalId, instance: str, pattern: str, seconds: float
    ) -> bool:
        await self._answer()
        found = self._found(terminal, instance)
        try:
            async with asyncio.timeout(seconds):
                while not any(pattern in line for line in found.lines):
                    found.changed.clear()
                    await found.changed.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Nothing is held."""

    # -- the world ---------------------------------------------------------------------

    def write(self, instance: str, *lines: str) -> None:
        """Have the command write to its terminal."""
        found = self.live[instance]
        found.lines += lines
        found.changed.set()

    def finish(self, instance: str, ended: Ended) -> None:
        """Have a terminal end by itself; the next report tells."""
        found = self.live.pop(instance)
        self.over[instance] = found.ended = ended
        found.changed.set()
        self.tell(instance, ended)

    def die(self) -> None:
        """Kill the runner: what it held and knew is gone, and another one begins."""
        self.live.clear()
        self.over.clear()
        self.stopped.clear()
        self.told.clear()
        self.taken.clear()
        self.boot = ids.instance_id(SystemRandom().bytes(ids.RANDOM_BYTES))

    def tell(self, instance: str, *events: Told) -> None:
        self.told.setdefault(instance, []).extend(events)

    def report(self, *terminals: tuple[TerminalId, str]) -> Report:
        """Say who is here and what is new; `terminals` are those that are over by now."""
        here = [(found.launch.terminal.id, name) for name, found in self.live.items()]
        return Report(
            runner=Runner(name=self.name, boot=self.boot, sandbox="none", capacity=self.capacity),
            terminals=tuple(
                Reported(
                    terminal=terminal,
                    instance=instance,
                    live=instance in self.live,
                    first=self.taken.get(instance, 0) + 1,
                    events=tuple(self.told.get(instance, ())),
                )
                for terminal, instance in dict.fromkeys((*here, *terminals))
            ),
        )

    def heard(self, answer: Answer) -> None:
        """Forget what was taken."""
        for instance, last in answer.taken.items():
            new = last - self.taken.get(instance, 0)
            self.told[instance] = self.told.get(instance, [])[new:]
            self.taken[instance] = last

    def _found(self, terminal: TerminalId, instance: str) -> FakeTerminal:
        found = self.live.get(instance)
        if found is None or found.launch.terminal.id != terminal:
            msg = "there is no such terminal here"
            raise GatekeeperError(ErrorCode.NOT_FOUND, msg)
        return found

    async def _answer(self) -> None:
        if not self.reachable:
            msg = "the runner does not answer"
            raise RunnerUnreachableError(msg)
        if self.fail_next:
            raise self.fail_next.pop(0)

    def _lose(self) -> None:
        """Carry a call out and lose its answer, as a network does."""
        if self.lose_answers:
            self.lose_answers -= 1
            msg = "the answer was lost"
            raise RunnerUnreachableError(msg)
