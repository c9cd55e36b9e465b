"""What runs: heard through its status pipe, ended with all that came of it, proven gone."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from gatekeeper.terminals.errors import SandboxUnavailableError
from gatekeeper.terminals.runner.sandbox import accounting
from gatekeeper.terminals.runner.sandbox.interface import Exit
from gatekeeper.terminals.runner.sandbox.status import StatusPipe

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from gatekeeper.terminals.runner.sandbox.cgroups import Cgroup
    from gatekeeper.terminals.runner.sandbox.folders import Watched
    from gatekeeper.terminals.runner.sandbox.interface import TierName
    from gatekeeper.terminals.runner.sandbox.owners import Owner

START_SECONDS: Final = 10.0
END_SECONDS: Final = 10.0
"""A process that the kernel does not let die (state D) is told of as left."""
WATCH_SECONDS: Final = 2.0
WATCH_PART: Final = 20
"""A folder that takes long to look through is looked at for this part of the time."""
KEEPER_SECONDS: Final = 3.0
_ROUND_SECONDS: Final = 0.002
_LONGEST_ROUND_SECONDS: Final = 0.1
_STOP_TRIES: Final = 50
_SIGNAL_BITS: Final = 0x7F
"""Of a status as `wait` gives it; the next bit says that there is a core file."""


class Held:
    """One running sandbox, made on the loop that it lives on.

    The kernel kills it when the thread that started it ends.
    """

    def __init__(
        self,
        *,
        name: TierName,
        process: subprocess.Popen[bytes],
        master: int,
        status: int,
        owner: Owner,
        cgroup: Cgroup | None,
        clean: Callable[[], None] = lambda: None,
        keeper: bool = False,
        watched: Watched | None = None,
    ) -> None:
        """`keeper`: the process is one that ends the rest by itself when it is told to.

        `watched`: a folder of the host that it may write to.
        """
        self.name = name
        self.terminal_fd = master
        self.uid = owner.uid
        self._process = process
        self._owner = owner
        self._cgroup = cgroup
        self._clean = clean
        self._keeper = keeper
        self._namespace: int | None = None
        self._gone = False
        self._complaint = ""
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[Exit] = self._loop.create_future()
        self._ended = asyncio.Event()
        self._finishing: asyncio.Task[None] | None = None
        self._status = StatusPipe(status, self._loop)
        self._pidfd = os.pidfd_open(process.pid)
        self._loop.add_reader(self._pidfd, self._exited)
        self._watching: asyncio.Task[None] | None = None
        if watched is not None:
            self._watching = self._loop.create_task(self._watch(watched))

    @property
    def steps_done(self) -> int:
        return self._status.steps_done

    @property
    def complaint(self) -> str:
        return self._complaint or self._status.complaint

    def on_step(self, heard: Callable[[int], None]) -> None:
        self._status.on_step = heard
        for done in range(self.steps_done):
            heard(done + 1)

    async def started(self) -> None:
        """Wait until what is inside says so. Raises when it ended before that."""
        self._over.add_done_callback(lambda _: self._status.heard.set())
        with suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                await self._status.heard.wait()
        if not self._status.started:
            await self.end()
            message = f"The sandbox did not start: {self.complaint or 'it said nothing'}"
            raise SandboxUnavailableError(message)
        self._namespace = self._find_namespace()

    async def wait(self) -> Exit:
        return await asyncio.shield(self._over)

    async def end(self) -> int:
        if self._over.done():
            return 0
        found = len(await self._members())
        self._finish()
        await self.wait()
        return found

    def left(self) -> tuple[str, ...]:
        if self._gone:
            return ()
        left = [f"process {pid}" for pid in self._scan()]
        if self._cgroup is not None:
            left += self._cgroup.left()
        return tuple(left)

    async def _watch(self, watched: Watched) -> None:
        """End it when the folder has become too large; the more there is, the more rarely look."""
        while True:
            began = self._loop.time()
            if not await watched.fits(await self._members()):
                self._complaint = "There is too much in the work folder"
                self._finish()
                return
            took = self._loop.time() - began
            await asyncio.sleep(max(WATCH_SECONDS, WATCH_PART * took))

    def _exited(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._ended.set()
        self._finish()

    def _finish(self) -> None:
        if self._finishing is None:
            self._finishing = self._loop.create_task(self._kill_until_gone())

    async def _kill_until_gone(self) -> None:
        """Kill until nothing is left: what is killed may have started more in between."""
        deadline, pause = self._loop.time() + END_SECONDS, _ROUND_SECONDS
        if self._keeper:
            await self._ask_keeper()
        self._halt()
        while self._loop.time() < deadline:
            members = await self._members()
            accounting.kill_all(members)
            if self._process.poll() is None:
                self._process.kill()
            elif not members and (self._cgroup is None or self._cgroup.remove()):
                self._gone = True
                break
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_ROUND_SECONDS)
        await self._close()

    async def _ask_keeper(self) -> None:
        self._process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(KEEPER_SECONDS):
                await self._ended.wait()

    def _halt(self) -> None:
        """Stop what starts the rest, so that it starts nothing that is not seen."""
        for _ in range(_STOP_TRIES):
            if self._process.poll() is not None:
                return
            self._process.send_signal(signal.SIGSTOP)
            if accounting.state(self._process.pid) in "TtZX":
                return

    async def _close(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._status.close()
        if self._watching is not None:
            self._watching.cancel()
        if self._gone:
            self._owner.release()
            await asyncio.to_thread(self._clean)
        self._over.set_result(self._how())

    def _how(self) -> Exit:
        step, code = self.steps_done, self._process.returncode
        if code is None:
            return Exit(code=None, signal=None, step=step)
        if code < 0:
            return Exit(code=None, signal=-code, step=step)
        if self._status.signalled:
            return Exit(code=None, signal=code & _SIGNAL_BITS, step=step)
        return Exit(code=code, signal=None, step=step)

    async def _members(self) -> list[int]:
        """Return everything alive that belongs to it, but its outermost process."""
        if self._cgroup is not None:
            return [pid for pid in self._cgroup.processes() if pid != self._process.pid]
        return await asyncio.to_thread(self._scan)

    def _scan(self) -> list[int]:
        found = set(accounting.descendants(self._process.pid))
        if self._cgroup is not None:
            found.update(self._cgroup.processes())
        if self._namespace is not None:
            found.update(accounting.in_namespace(self._namespace))
        if self._owner.own:
            found.update(accounting.of_owner(self.uid))
        found.discard(self._process.pid)
        return sorted(pid for pid in found if accounting.lives(pid))

    def _find_namespace(self) -> int | None:
        """Return the process namespace of what is inside, if that is not the runner's own."""
        mine = accounting.pid_namespace(os.getpid())
        for pid in accounting.children(self._process.pid):
            if (number := accounting.pid_namespace(pid)) != mine:
                return number
        return None
