"""The terminal that `gk` itself runs in: raw while another one is in it, and right afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import threading
import tty
from typing import TYPE_CHECKING, Any, Final, Self

from gatekeeper.client.sequences import Modes, Sieve, Text, clipboard
from gatekeeper.entrypoints.cli.caller import note
from gatekeeper.kernel.terminal.term import MAX_COLUMNS, MAX_INPUT_BYTES, MAX_ROWS, Input

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from gatekeeper.client.attaching import Outbox

READ_BYTES: Final = 16_384
END_OF_INPUT: Final = b"\x04"
DETACH: Final = b"\x1d"
"""Ctrl-]."""
KITTY_DETACH: Final = b"\x1b[93;5u"
"""The same key, as terminals say it that tell all keys apart."""
INTERRUPT: Final = b"\x03"
FIRST_WORD_SECONDS: Final = 2.0
"""How long a command may take to say something before it is told what stands in a pipe: a shell
that is not ready to read yet would lose it."""
SETTLE_SECONDS: Final = 0.1
QUIET_SECONDS: Final = (1.0, 2.0, 4.0, 8.0)
"""After so much silence the end of the input is told again: a shell that was between two commands
did not see it."""


class Console:
    """Draws, and hears keys. Its terminal is given back as it was, however it ends."""

    def __init__(self, *, detach: bytes | None = DETACH, raw: bool = False) -> None:
        """`detach` is the key that leaves; `raw` keeps every byte where nobody looks on."""
        self.typed_at = os.isatty(0)
        self.seen = os.isatty(1)
        self._detach = detach
        self._before: list[Any] | None = None
        self._modes = Modes()
        self._filter: Callable[[bytes], bytes] = (
            Sieve(clipboard).feed if self.seen else bytes if raw else Text().feed
        )
        self.drew = asyncio.Event()

    def __enter__(self) -> Self:
        if self.typed_at:
            self._before = termios.tcgetattr(0)
            self.raw()
        return self

    def __exit__(self, *_: object) -> None:
        if self.seen:
            os.write(1, self._modes.undo())
        if self._before is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self._before)
            self._before = None

    def raw(self) -> None:
        if self._before is not None:
            tty.setraw(0, termios.TCSADRAIN)

    def size(self) -> tuple[int, int] | None:
        for descriptor in (1, 2, 0):
            with contextlib.suppress(OSError):
                found = os.get_terminal_size(descriptor)
                if found.columns and found.lines:
                    return min(found.columns, MAX_COLUMNS), min(found.lines, MAX_ROWS)
        return None

    async def draw(self, data: bytes) -> None:
        """Write to standard output; in a thread, so that a slow one stops nothing else."""
        shown = self._filter(data)
        self.drew.set()
        if self.seen:
            self._modes.feed(shown)
        if shown:
            await asyncio.to_thread(_write, shown)

    def note(self, text: str) -> None:
        if self._before is None:
            note(text)
        else:  # a raw terminal does not begin a new line by itself
            sys.stderr.write(f"\r\n[gk: {_plain(text)}]\r\n")
            sys.stderr.flush()

    def listen(self, outbox: Outbox | None, left: Callable[[], None]) -> None:
        """Send what is typed, or read, until the loop ends; without an outbox only look on.

        `left` is called for the detach key, and for Ctrl-C where nothing is sent.
        """
        loop = asyncio.get_running_loop()
        if self.typed_at:
            loop.add_reader(0, self._typed, outbox, left)
        elif outbox is not None:
            reader = _Reader(outbox, loop, self.drew)
            threading.Thread(target=reader.run, name="standard input", daemon=True).start()

    def deafen(self) -> None:
        if self.typed_at:
            asyncio.get_running_loop().remove_reader(0)

    def _typed(self, outbox: Outbox | None, left: Callable[[], None]) -> None:
        data = os.read(0, READ_BYTES)
        keys = [self._detach, KITTY_DETACH] if self._detach else []
        keys += [] if outbox else [INTERRUPT]
        at = min((data.find(key) for key in keys if key in data), default=len(data))
        if outbox is not None and at:
            outbox.put(Input(data[:at]))
        if at < len(data) or not data:
            left()


class _Reader:  # in a thread: a pipe has no other way that works for files as well
    """Reads a pipe or a file as fast as it is taken."""

    def __init__(
        self, outbox: Outbox, loop: asyncio.AbstractEventLoop, drew: asyncio.Event
    ) -> None:
        self._outbox = outbox
        self._loop = loop
        self._drew = drew

    def run(self) -> None:
        with contextlib.suppress(Exception):  # the loop is gone: the terminal has ended
            self._wait(self._first_word())
            last = b"\n"
            while data := os.read(0, min(READ_BYTES, MAX_INPUT_BYTES)):
                self._say(data)
                last = data[-1:]
            self._say(END_OF_INPUT if last == b"\n" else b"\n" + END_OF_INPUT)
            for seconds in QUIET_SECONDS:
                self._wait(self._silence(seconds, seconds))
                self._say(END_OF_INPUT)

    def _say(self, data: bytes) -> None:
        self._loop.call_soon_threadsafe(self._outbox.put, Input(data))
        self._wait(self._outbox.emptied())

    def _wait(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result()

    async def _first_word(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_WORD_SECONDS):
                await self._silence(FIRST_WORD_SECONDS, SETTLE_SECONDS)

    async def _silence(self, first: float, more: float) -> None:
        """Wait for output for so long, and when there is some, until no more comes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(first):
                await self._drew.wait()
            while True:
                self._drew.clear()
                async with asyncio.timeout(more):
                    await self._drew.wait()


def on_signals(
    stop: Callable[[int], None], resized: Callable[[], None], raw: Callable[[], None]
) -> None:
    """Stop for what ends a process, and follow the size."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    loop.add_signal_handler(signal.SIGWINCH, resized)
    loop.add_signal_handler(signal.SIGCONT, raw)


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
