"""The protocol of ttyd: what its clients say, and what nobody should."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.terminals.protocol import ttyd

SAID = {
    b'{"AuthToken":"","columns":120,"rows":40}': ttyd.Start(120, 40),
    b'{"AuthToken":"x"}': ttyd.Start(None, None),
    b'{"columns":0,"rows":99999}': ttyd.Start(None, None),
    b"0ls\r": ttyd.Input(b"ls\r"),
    b"0": ttyd.Input(b""),
    b'1{"columns":90,"rows":30}': ttyd.Resize(90, 30),
    b"2": ttyd.Pause(),
    b"3": ttyd.Resume(),
}
NONSENSE = [b"", b"4", b"x", b"\xff", b"{", b"[]", b"{]", b"1", b"1[]", b'1{"columns":-1,"rows":2}',
            b'1{"columns":true,"rows":2}', b"1" + b" " * 5_000, b"0" + b"x" * 65_537,
            b"{" + b'"a":{' * 800]  # fmt: skip


@pytest.mark.parametrize("message", SAID)
def test_what_clients_say_is_understood(message: bytes) -> None:
    assert ttyd.read_client(message) == SAID[message]
    assert ttyd.read_client(message.decode()) == SAID[message]


@pytest.mark.parametrize("message", NONSENSE)
def test_nonsense_is_refused_in_words(message: bytes) -> None:
    with pytest.raises(ttyd.TtydError):
        ttyd.read_client(message)


@given(st.binary(max_size=100) | st.text(max_size=100))
def test_anything_is_understood_or_refused(message: bytes | str) -> None:
    with contextlib.suppress(ttyd.TtydError):
        ttyd.read_client(message)


def test_a_title_has_nothing_that_a_terminal_would_obey() -> None:
    assert ttyd.title("a\x1b]52;c;x\x07b") == b"1a]52;c;xb"
