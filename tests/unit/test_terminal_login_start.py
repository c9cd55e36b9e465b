"""What a relay reads of a PostgreSQL connection's beginning, from either side."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.terminals.protocol import postgresql as pg
from gatekeeper.terminals.protocol.postgresql import Cancel, EncryptionAsked, StartError

LOGIN: dict[str, str] = {"username": "gk_a", "database": "shop"}
OFFER = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"


def start(*pairs: bytes, code: int = 196_608) -> bytes:
    body = b"".join(field + b"\0" for field in pairs) + b"\0"
    return pg.HEAD.pack(8 + len(body), code) + body


def read(packet: bytes) -> Any:
    return pg.read_packet(packet)


def test_what_a_client_asks_first_is_told_apart() -> None:
    assert isinstance(read(pg.TLS_REQUEST), EncryptionAsked)
    assert isinstance(read(pg.HEAD.pack(8, 80_877_104)), EncryptionAsked)
    assert isinstance(read(pg.HEAD.pack(16, 80_877_102) + b"8 bytes."), Cancel)
    asked = read(start(b"user", b"gk_a", b"database", b"shop", b"application_name", b"\xff"))
    assert asked.parameters == (
        (b"user", b"gk_a"), (b"database", b"shop"), (b"application_name", b"\xff"),
    )  # fmt: skip
    pg.check_login(asked, **LOGIN)


@pytest.mark.parametrize(
    "packet",
    [
        start(b"user", b"gk_a"),
        start(b"user", b"postgres", b"database", b"shop"),
        start(b"user", b"gk_a", b"database", b"postgres"),
        start(b"user", b"postgres", b"user", b"gk_a", b"database", b"shop"),
        start(b"user", b"gk_a", b"database", b"shop", b"database", b"postgres"),
        start(b"user", b"GK_A", b"database", b"shop"),
        start(),
    ],
)
def test_no_login_passes_but_the_terminals_own(packet: bytes) -> None:
    with pytest.raises(StartError, match="and nothing else"):
        pg.check_login(read(packet), **LOGIN)


@pytest.mark.parametrize(
    "packet",
    [
        start(b"user", code=196_608),
        start(b"", b"user"),
        start(b"user", b"gk_a") + b"\0",
        start(b"user", b"gk_a")[:-1],
        pg.HEAD.pack(8, 196_608),
        start(b"user", b"gk_a", code=131_072),
        pg.HEAD.pack(8, 0x47455420),  # "GET "
    ],
)
def test_a_first_packet_that_a_server_might_read_otherwise_is_refused(packet: bytes) -> None:
    with pytest.raises(StartError):
        read(packet)


@given(st.binary(max_size=64), st.sampled_from([196_608, 196_610, 80_877_102, 80_877_103]))
def test_any_bytes_are_read_or_refused(body: bytes, code: int) -> None:
    with suppress(StartError):
        read(pg.HEAD.pack(8 + len(body), code) + body)


@pytest.mark.parametrize("length", [0, 7, pg.MAX_PACKET_BYTES + 1, 2**32 - 1])
def test_a_packets_length_is_bounded(length: int) -> None:
    with pytest.raises(StartError):
        pg.packet_length(pg.HEAD.pack(length, 196_608))


def test_channel_binding_is_left_out_of_an_offer_because_the_channel_ends_here() -> None:
    message, last = pg.read_greeting(b"R", OFFER)

    assert last
    assert message == b"R\0\0\0\x17" + b"\0\0\0\x0aSCRAM-SHA-256\0\0"
    assert pg.read_greeting(b"R", b"\0\0\0\0") == (b"R\0\0\0\x08\0\0\0\0", True)
    assert pg.read_greeting(b"v", b"any") == (b"v\0\0\0\x07any", False)
    assert pg.read_greeting(b"E", b"any") == (b"E\0\0\0\x07any", True)


@pytest.mark.parametrize(
    "body",
    [
        b"\0\0\0\x03",  # the password itself
        b"\0\0\0\x05salt",  # its MD5
        b"\0\0\0\x07",  # GSSAPI
        b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0\0",
        b"",
    ],
)
def test_a_server_is_never_shown_the_password(body: bytes) -> None:
    with pytest.raises(StartError, match="would show it"):
        pg.read_greeting(b"R", body)


@pytest.mark.parametrize("head", [b"HTTP/", b"R\0\0\0\x03", b"R\xff\xff\xff\xff", b"Z\0\0\0\x05"])
def test_what_is_no_greeting_is_refused_before_it_is_read(head: bytes) -> None:
    with pytest.raises(StartError, match="not PostgreSQL"):
        pg.greeting_length(head)
