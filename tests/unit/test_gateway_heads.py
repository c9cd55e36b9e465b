"""Heads and handshakes: what is no honest upgrade is found, however its bytes arrive."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.kernel.errors import ErrorCode
from gatekeeper.terminals.protocol import handshake
from gatekeeper.terminals.protocol.handshake import Refused, Upgrade
from gatekeeper.terminals.protocol.http import (
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    HeadReader,
    Malformed,
    RequestHead,
    read_request,
    read_response,
)

TERMINAL = "trm_" + "a" * 20
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
HEAD = (
    f"GET /attach/{TERMINAL} HTTP/1.1\r\nHost: g\r\nUpgrade: WebSocket\r\n"
    "Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Protocol: gk.term.v1,ticket.a.b.c\r\n"
    "Cookie: a=b\r\nCookie: c=d\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
).encode()


def collected(chunks: list[bytes]) -> object:
    """Feed chunks; return the first answer that is no wait."""
    reader = HeadReader()
    for number, chunk in enumerate(chunks):
        found = reader.feed(chunk)
        if found is not None:
            rest = b"".join(chunks[number + 1 :])
            return found if isinstance(found, Malformed) else (found[0], found[1] + rest)
    return None


@given(st.lists(st.integers(0, len(HEAD) + 5), max_size=12))
def test_a_head_is_the_same_however_it_is_cut(cuts: list[int]) -> None:
    data = HEAD + b"frame"
    edges = [0, *sorted(cuts), len(data)]
    chunks = [data[start:end] for start, end in pairwise(edges)]
    assert collected(chunks) == (HEAD, b"frame")


def test_an_upgrade_is_read_whole() -> None:
    head = read_request(HEAD)
    assert isinstance(head, RequestHead)
    assert head.headers["cookie"] == "a=b, c=d"
    upgrade = handshake.read_upgrade(head)
    assert isinstance(upgrade, Upgrade)
    assert (upgrade.terminal, upgrade.protocol, upgrade.origin) == (TERMINAL, "gk.term.v1", None)
    assert upgrade.unverified_ticket == "a.b.c"
    assert "a.b.c" not in repr(upgrade)
    answer = handshake.accepted(upgrade)
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer  # RFC 6455, 1.3
    assert b"ticket" not in answer
    assert b"xtensions" not in answer


def test_a_head_has_limits() -> None:
    endless = HeadReader()
    assert endless.feed(b"GET / HTTP/1.1\r\n") is None
    answers = [endless.feed(b"x: " + b"y" * 1_000) for _ in range(17)]
    first = next(answer for answer in answers if answer is not None)
    assert isinstance(first, Malformed)
    assert first.status == 431
    fields = b"".join(b"x-%d: y\r\n" % number for number in range(MAX_HEADERS + 1))
    many = read_request(b"GET / HTTP/1.1\r\n" + fields + b"\r\n")
    assert isinstance(many, Malformed)
    assert many.status == 431


@pytest.mark.parametrize("bad", [b"\n", b"\r", b"\x00", b"\x0b", b"\x7f"])
def test_a_stray_byte_ends_a_head_before_its_end(bad: bytes) -> None:
    answer = collected([b"GET / HTTP/1.1\r\nX: a", bad, b"b"])
    assert isinstance(answer, Malformed)
    assert answer.status == 400


def response(*lines: str) -> bytes:
    return ("\r\n".join(["HTTP/1.1 101 Switching Protocols", *lines]) + "\r\n\r\n").encode()


def test_only_the_answer_that_was_asked_for_is_a_runners() -> None:
    good = (
        "Upgrade: websocket", "Connection: upgrade",
        f"Sec-WebSocket-Accept: {handshake.accept_value(KEY)}", "Sec-WebSocket-Protocol: tty",
    )  # fmt: skip

    def fault(*lines: str) -> str | None:
        head = read_response(response(*lines))
        assert not isinstance(head, Malformed)
        return handshake.runner_fault(head, key=KEY, protocol="tty")

    assert fault(*good) is None
    assert fault(*good, "Sec-WebSocket-Extensions: x") is not None
    for number in range(len(good)):
        assert fault(*good[:number], *good[number + 1 :]) is not None
    assert isinstance(read_response(response(*good, "Upgrade: other")), Malformed)
    assert isinstance(read_response(b"HTTP/1.0 101 x\r\n\r\n"), Malformed)


def test_a_refusal_is_a_problem_and_says_when_to_come_again() -> None:
    refused = Refused(
        status=503, code=ErrorCode.SERVICE_UNAVAILABLE, detail='not "now"', retry_after=0.2
    )
    text = handshake.refusal(refused, correlation_id="cor_x").decode()
    head, _, body = text.partition("\r\n\r\n")
    assert "Retry-After: 1" in head
    assert f"Content-Length: {len(body)}" in head
    assert '"retryable": true' in body
    assert 'not \\"now\\"' in body


NAMES = st.sampled_from(
    ["Host", "Origin", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Protocol",
     "Sec-WebSocket-Version", "Content-Length", "Transfer-Encoding", "X", "", " Host", "Ho st"]
)  # fmt: skip
VALUES = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["websocket", "Upgrade", "13", KEY, "gk.term.v1, ticket.a.b.c", "tty", ","]),
)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=12)


@settings(max_examples=300)
@given(FIELDS, st.sampled_from([f"/attach/{TERMINAL}", "/", "/attach/", "*", "/attach/../x"]))
def test_any_fields_are_an_upgrade_or_a_refusal(fields: list[tuple[str, str]], target: str) -> None:
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogatepass")
    request = read_request(head)
    if isinstance(request, Malformed):
        assert request.status in (400, 414, 431)
        return
    upgrade = handshake.read_upgrade(request)
    if isinstance(upgrade, Upgrade):
        assert upgrade.protocol in handshake.PROTOCOLS
        handshake.accepted(upgrade).decode("ascii")
    assert len(head) <= MAX_HEAD_BYTES
