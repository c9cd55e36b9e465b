"""Answers under envelopes are read as they come: never unpacked, and no further than a limit."""

import gzip
from collections.abc import AsyncIterator

import httpx
import pytest

from gatekeeper.platform.http.envelopes import read_within

MOST = 5_000


class Body(httpx.AsyncByteStream):
    """Sends the same part again and again, and counts what was taken."""

    def __init__(self, part: bytes, times: int) -> None:
        self._part = part
        self._times = times
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(self._times):
            self.taken += len(self._part)
            yield self._part


@pytest.mark.parametrize(("times", "text"), [(5, "x" * MOST), (6, None)])
async def test_an_answer_is_read_up_to_its_limit(times: int, text: str | None) -> None:
    response = httpx.Response(200, stream=Body(b"x" * 1_000, times))

    assert await read_within(response, MOST) == text


async def test_what_is_too_large_is_not_read_to_its_end() -> None:
    body = Body(b"x" * 1_000, 1_000)

    assert await read_within(httpx.Response(200, stream=body), MOST) is None
    assert body.taken == MOST + 1_000


async def test_nothing_is_unpacked() -> None:
    packed = gzip.compress(b"x" * 1_000_000)
    headers = {"Content-Encoding": "gzip"}

    text = await read_within(httpx.Response(200, headers=headers, stream=Body(packed, 1)), MOST)

    assert text == packed.decode("latin-1")
