"""The control planes' clock is the store's, whatever this machine's says."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from gatekeeper.kernel.errors import UnavailableError
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.postgres import clock
from gatekeeper.platform.postgres.clock import StoreClock
from gatekeeper.platform.postgres.pool import Pool


async def test_it_tells_the_stores_time_and_goes_on_counting(store_dsn: str) -> None:
    pool = Pool(Secret(store_dsn), name="test")
    await pool.open()
    store_clock = StoreClock(pool)
    await store_clock.read()
    first, second = store_clock.now(), store_clock.now()
    await pool.close()

    assert abs(first - datetime.now(UTC)) < timedelta(minutes=1)  # noqa: TID251
    assert first < second


async def test_a_store_that_is_away_leaves_it_as_it_was(
    store_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "READ_SECONDS", 0.01)
    pool = Pool(Secret(store_dsn), name="test")
    await pool.open()
    store_clock = StoreClock(pool)
    await store_clock.read()
    before = store_clock.now()
    await pool.close()
    with pytest.raises(UnavailableError):
        await store_clock.read()
    reading = asyncio.create_task(store_clock.run())
    await asyncio.sleep(0.05)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)

    assert reading.cancelled()
    assert before < store_clock.now()


async def test_before_it_was_read_it_tells_nothing(store_dsn: str) -> None:
    with pytest.raises(RuntimeError, match="not read yet"):
        StoreClock(Pool(Secret(store_dsn), name="test")).now()
