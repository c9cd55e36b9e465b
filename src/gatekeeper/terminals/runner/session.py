"""One terminal, from its launch to the proof that nothing of it is left."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import structlog

from gatekeeper.kernel.terminal.recording import Header, encode_header
from gatekeeper.terminals.errors import BundleRefusedError
from gatekeeper.terminals.model import Ended, Ending, Stage
from gatekeeper.terminals.runner.equipment import environment, steps
from gatekeeper.terminals.runner.ledger import Ledger
from gatekeeper.terminals.runner.pty import Pty
from gatekeeper.terminals.runner.recording import Recording, SegmentFiles
from gatekeeper.terminals.runner.sandbox import Wanted
from gatekeeper.terminals.runner.stream import Stream
from gatekeeper.wire.runner import EndedEvent, EndedView, SegmentEvent
from gatekeeper.wire.terminals import MAX_SCREEN_CHARS

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from gatekeeper.kernel.terminal.recording import Segment
    from gatekeeper.terminals.model import Bundle
    from gatekeeper.terminals.ports import BoundLogin
    from gatekeeper.terminals.runner.equipment import Equipment, Place
    from gatekeeper.terminals.runner.parts import Door
    from gatekeeper.terminals.runner.sandbox import Exit, Sandboxed
    from gatekeeper.wire.runner import LaunchOrder

log = structlog.get_logger("gatekeeper.runner")

LOOK_SECONDS: Final = 1.0
"""How often idleness is looked at, and the screen taken in."""
PROMPT_SECONDS: Final = 1.0
"""After the command began, when it writes nothing first."""
LINGER_SECONDS: Final = 30.0
"""After its end clients, also those who lost their cable, may get the rest; and a launch that is
asked for again is answered, for as long as any is (`LAUNCH_DEADLINE`)."""
END_SECONDS: Final = 15.0
"""For everything inside to be gone; what is left then is told of."""


class Session:
    """Runs one command. Whoever ends it first says why; it ends once."""

    def __init__(
        self,
        order: LaunchOrder,
        *,
        bundle: Bundle | None,
        door: Door | None,
        place: Place,
        equipment: Equipment,
    ) -> None:
        self.order = order
        self.verifier = door.make_login() if door else None
        self._bundle = bundle
        self._door = door
        self._place = place
        self._equipment = equipment
        self._loop = asyncio.get_running_loop()
        self.began = self._loop.time()
        self.deadline = self.began + order.seconds_left
        self.ledger = Ledger(self._loop.time, equipment.wake)
        secrets = self._secrets()
        self.recording = self._recorder(secrets)
        self.stream = Stream(
            columns=order.columns,
            rows=order.rows,
            recording=self.recording,
            secrets=secrets,
            record_input=order.record_input,
            most_output=order.limits.output_bytes,
            over_limit=lambda: self.end_soon(Ending.OUTPUT_LIMIT),
            first_byte=lambda: self.reached(Stage.FIRST_BYTE),
            ledger=self.ledger,
        )
        self._steps = steps(order, bundle)
        self._bound = asyncio.Event()
        self._sandboxed: Sandboxed | None = None
        self._exit: Exit | None = None
        self._ending: asyncio.Task[None] | None = None
        self.ended: EndedView | None = None
        self.processes_ended = 0
        self.left: tuple[str, ...] = ()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def live(self) -> bool:
        return self.ended is None

    @property
    def sandbox(self) -> str:
        return self._equipment.sandbox.name

    def reached(self, stage: Stage) -> None:
        self.ledger.reached(stage)
        self.stream.tell_stage(stage, self._loop.time() - self.began)

    async def start(self) -> None:
        """Start at once what needs nothing first; raises when that fails."""
        self.reached(Stage.STARTED)
        if self._bundle is None and self._door is None:
            await self._begin()
        self._run("terminal", self._live())
        self._run("watch", self._watch())

    async def bind(self, login: BoundLogin) -> None:
        """Open the door to the database; the command may begin."""
        if self._door is None or self._bound.is_set():
            return
        await self._door.open(login)
        self._bound.set()

    def end_soon(self, ending: Ending) -> asyncio.Task[None]:
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(ending), name="end of a terminal")
        return self._ending

    async def end(self, ending: Ending) -> None:
        """End it, and wait until it is proven; an earlier end stands."""
        await asyncio.shield(self.end_soon(ending))
        if self.left and self._sandboxed is not None:
            self.processes_ended += await self._sandboxed.end()
            self.left = self._sandboxed.left()

    def _run(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _live(self) -> None:
        """Prepare, run, and wait for the command."""
        try:
            if self._sandboxed is None:
                await self._prepare()
                await self._begin()
            assert self._sandboxed is not None  # noqa: S101  # begun
            self._exit = await self._sandboxed.wait()
        except BundleRefusedError as error:
            self.stream.say(f"The bundle is refused: {error.detail}")
            self.end_soon(Ending.BUNDLE_REFUSED)
        except Exception:
            log.exception("a terminal could not be started", terminal=self.order.terminal)
            self.stream.say("The command could not be started.")
            self.end_soon(Ending.LAUNCH_FAILED)
        else:
            last = len(self._steps) - 1
            installed = self._exit.step >= last
            self.end_soon(Ending.EXITED if installed else Ending.INSTALL_FAILED)

    async def _prepare(self) -> None:
        if self._bundle is not None:
            await self._equipment.fetch(
                self._bundle,
                into=self._place.work,
                progress=self.stream.say,
                reached=self.reached,
            )
        if self._door is not None:
            await self._bound.wait()

    async def _begin(self) -> None:
        order, limits = self.order, self.order.limits
        size = self.stream.size
        self._sandboxed = await self._equipment.sandbox.start(
            Wanted(
                terminal=order.terminal,
                steps=self._steps,
                environment=environment(self._door),
                columns=size.columns,
                rows=size.rows,
                network=order.network,
                memory_bytes=limits.memory_bytes,
                processes=limits.processes,
                cpu_percent=limits.cpu_percent,
                disk_bytes=limits.disk_bytes,
                work=self._place.work if self._bundle else None,
                doors=self._place.doors,
            )
        )
        self._sandboxed.on_step(self._step_done)
        if len(self._steps) == 1:
            self._command_began()
        self.stream.open(Pty(self._sandboxed.terminal_fd, self._loop, self.stream.heard))

    def _step_done(self, done: int) -> None:
        if done == len(self._steps) - 1:
            self.reached(Stage.INSTALLED)
            self._command_began()

    def _command_began(self) -> None:
        self.stream.expecting = True
        if self.order.prompt:
            self._run("prompt", self._type_prompt(self.order.prompt))

    async def _type_prompt(self, prompt: str) -> None:
        """Type what was given, when the command has shown itself, or after a moment."""
        await self.stream.wait_for_output(PROMPT_SECONDS)
        text = prompt.replace("\r\n", "\n").removesuffix("\n").replace("\n", "\r") + "\r"
        self.stream.type(text.encode())

    async def _watch(self) -> None:
        """Look at the clock: the deadline, idleness; and keep the picture from falling behind."""
        idle = self.order.limits.idle_seconds
        while True:
            now = self._loop.time()
            if now >= self.deadline:
                self.end_soon(Ending.EXPIRED)
                return
            if idle and now - self.stream.active_at >= idle:
                self.end_soon(Ending.IDLE)
                return
            await asyncio.sleep(min(LOOK_SECONDS, self.deadline - now))
            await self.stream.screen.catch_up()

    async def _end(self, ending: Ending) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._safely(self._end_sandbox())
        await self._safely(self.stream.finish(self._exit))
        if self._door is not None:
            await self._safely(self._door.close())
        await self._safely(asyncio.to_thread(self._place.clear))
        exited = self._exit if ending in {Ending.EXITED, Ending.INSTALL_FAILED} else None
        ended = Ended(
            ending=ending,
            exit_code=exited.code if exited else None,
            signal=exited.signal if exited else None,
            last_screen=await self.stream.last_screen(MAX_SCREEN_CHARS),
            recording_head=self.recording.head,
            recording_bytes=self.recording.size,
            output_bytes=self.stream.written,
        )
        self.ended = _view(ended)
        self._equipment.counters.ended(ended)
        self.ledger.note(EndedEvent(ended=self.ended))
        self.stream.over(ended)
        self._loop.call_later(LINGER_SECONDS, self.stream.sharing.ring.clear)
        log.info("terminal ended", terminal=self.order.terminal, ending=ending.value)

    async def _safely(self, work: Coroutine[Any, Any, None]) -> None:
        """Do one part of an end: whatever fails, the others are done, and the end is told."""
        try:
            await work
        except Exception:
            log.exception("a terminal's end has a fault", terminal=self.order.terminal)

    async def _end_sandbox(self) -> None:
        if self._sandboxed is None:
            return
        try:
            async with asyncio.timeout(END_SECONDS):
                self.processes_ended += await self._sandboxed.end()
            self.left = self._sandboxed.left()
        except TimeoutError:
            self.left = self._sandboxed.left() or ("what is inside did not end in time",)

    def _secrets(self) -> tuple[str, ...]:
        """Return what is to be in nothing that is kept."""
        of_door = self._door.secrets() if self._door else ()
        return (*self._equipment.redact, *(secret.reveal() for secret in of_door))

    def _recorder(self, secrets: Sequence[str]) -> Recording:
        order = self.order
        header = encode_header(
            Header(
                columns=order.columns,
                rows=order.rows,
                timestamp=self._equipment.timestamp(),
                title=order.terminal,
            )
        )
        return Recording(
            SegmentFiles(self._place.recording, header),
            secrets=secrets,
            closed=self._segment_closed,
            failed=lambda: self.end_soon(Ending.RECORDING_FAILED),
            resumed=lambda: self.stream.read_on(),  # noqa: PLW0108  # made after this
        )

    def _segment_closed(self, segment: Segment) -> None:
        self.ledger.note(
            SegmentEvent(number=segment.number, head=segment.head, bytes=segment.bytes)
        )


def _view(ended: Ended) -> EndedView:
    return EndedView(
        ending=ended.ending.value,
        exit_code=ended.exit_code,
        signal=ended.signal,
        last_screen=ended.last_screen,
        recording_head=ended.recording_head,
        recording_bytes=ended.recording_bytes,
        output_bytes=ended.output_bytes,
    )
