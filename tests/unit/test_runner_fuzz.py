"""Both protocols, and the emulator, on a million mutated messages: understood, or refused."""

from __future__ import annotations

from hashlib import shake_128
from typing import TYPE_CHECKING

import pytest

from gatekeeper.kernel.terminal import term
from gatekeeper.terminals.protocol import ttyd
from gatekeeper.terminals.runner.screen.emulator import Emulator
from gatekeeper.terminals.runner.screen.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNT = 1_000_000
SAID = [
    b'{"type":"attach","offset":12,"columns":80,"rows":24}', b'{"type":"ack","offset":65536}',
    b'{"type":"resize","columns":80,"rows":24}', b'{"type":"ping","t":1}', b'{"type":"take"}', b"\x00ls -l\r",
    b'{"AuthToken":"","columns":80,"rows":24}', b'1{"columns":80,"rows":24}', b"0ls\r", b"2", b"3",
]  # fmt: skip
DRAWN = [
    b"\x1b[?1049h\x1b[2J\x1b[3;5Hfile \xe6\x97\xa5\xe6\x9c\xac\x1b[38;5;200mred\x1b[0m\x1b[K", b"\x1b]2;title\x07",
    b"\x1b[2;4r\x1bM\x1b[3L\x1b[2P\x1b(0qqx\x1b(B", b"\x1bP$qm\x1b\\\x1b[6n\x1b[10b\x1b[?6h\x1b[5S\x1b7\x1b8\x1b[?7l",
]  # fmt: skip


def mutated(seeds: list[bytes], count: int) -> Iterator[bytes]:
    """Yield the seeds with bytes changed, put in, taken out, and doubled: always the same."""
    for block in range(0, count, 1_000):
        drawn = shake_128(block.to_bytes(4, "big")).digest(8_000)
        for at in range(0, 8_000, 8):
            data = bytearray(seeds[drawn[at] % len(seeds)])
            for n in (1, 3, 5):
                place, byte = drawn[at + n] % (len(data) + 1), drawn[at + n + 1]
                match byte % 4:
                    case 0:
                        data[place:place] = bytes([drawn[at + 7]])
                    case 1:
                        data[place : place + 1] = bytes([drawn[at + 7]])
                    case 2:
                        del data[place : place + drawn[at + 7] % 8]
                    case _:
                        data[place:place] = data[: drawn[at + 7] % 16]
            yield bytes(data)


@pytest.mark.slow
def test_a_million_messages_are_understood_or_refused() -> None:
    refused = 0
    for data in mutated(SAID, COUNT):
        for message in (data, data.decode("latin-1")):
            for read in (term.read_client, ttyd.read_client):
                try:
                    read(message)
                except (term.TermError, ttyd.TtydError):
                    refused += 1
    assert 0 < refused < 4 * COUNT


@pytest.mark.slow
def test_a_terminal_shows_whatever_is_written_to_it() -> None:
    screen, other = Emulator(20, 5), Emulator(20, 5)
    for number, data in enumerate(mutated(DRAWN, 200_000)):
        screen.feed(data)
        if number % 100 == 0:
            other.feed(snapshot(screen))
            assert other.lines() == screen.lines()
