"""What every `SharedCache` promises, on the fake and on a real server; then what only one can do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import redis.asyncio as redis
import structlog

from factories.certificates import self_signed
from fakes.shared_cache import FakeSharedCache
from gatekeeper.forwardauth.adapters.shared_cache import shared_cache
from gatekeeper.forwardauth.config.server import Valkey
from gatekeeper.platform.valkey.client import (
    COMPLAINT_SECONDS,
    MAX_CONNECTIONS,
    MAX_VALUE_BYTES,
    PAUSE_SECONDS,
    ValkeyCache,
)
from valkey_server import ValkeyServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from gatekeeper.forwardauth.ports import SharedCache

PATIENT_SECONDS = 20.0
SHORT_SECONDS = 0.2


class Watch:
    """A clock that a test moves."""

    seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


class Rig(Protocol):
    @property
    def cache(self) -> SharedCache: ...

    async def forget(self, seconds: float) -> None:
        """Let so much time pass."""
        ...


class FakeRig:
    def __init__(self) -> None:
        self.cache = self._fake = FakeSharedCache()

    async def forget(self, seconds: float) -> None:
        self._fake.seconds += seconds


class RealRig:
    def __init__(self, cache: ValkeyCache) -> None:
        self.cache = cache

    async def forget(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with ValkeyServer(tmp_path_factory.mktemp("valkey")) as running:
        yield running


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """Give a server that a test may kill."""
    with ValkeyServer(tmp_path) as running:
        yield running


@pytest.fixture
async def cache(server: ValkeyServer) -> AsyncIterator[ValkeyCache]:
    settings = {"address": f"127.0.0.1:{server.port}", "timeout": "20s"}
    made = shared_cache(Valkey.model_validate(settings))
    yield made
    await made.close()


@pytest.fixture(params=["fake", "real"])
def rig(request: pytest.FixtureRequest) -> Rig:
    if request.param == "fake":
        return FakeRig()
    return RealRig(request.getfixturevalue("cache"))


KEY, OTHER = b"k" * 32, b"\x00\xff\r\n$5\r\n" + b"o" * 24


async def test_what_was_put_is_got_by_its_key_alone(rig: Rig) -> None:
    await rig.cache.put(KEY, b"one", 60.0)
    await rig.cache.put(OTHER, b"\x00\r\n", 60.0)
    await rig.cache.put(b"empty", b"", 60.0)

    assert await rig.cache.get(KEY) == b"one"
    assert await rig.cache.get(OTHER) == b"\x00\r\n"
    assert await rig.cache.get(b"empty") == b""
    assert await rig.cache.get(b"never put") is None


async def test_the_last_put_counts(rig: Rig) -> None:
    await rig.cache.put(KEY, b"one", 60.0)
    await rig.cache.put(KEY, b"two", 60.0)

    assert await rig.cache.get(KEY) == b"two"


async def test_a_value_is_forgotten_in_time(rig: Rig) -> None:
    await rig.cache.put(b"brief", b"x", 0.05)
    await rig.cache.put(b"lasting", b"x", 60.0)
    await rig.forget(0.2)

    assert await rig.cache.get(b"brief") is None
    assert await rig.cache.get(b"lasting") == b"x"


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_what_is_to_be_kept_for_no_time_is_not_kept(rig: Rig, seconds: float) -> None:
    await rig.cache.put(b"never", b"x", seconds)

    assert await rig.cache.get(b"never") is None


async def test_many_at_once_each_get_their_own(rig: Rig) -> None:
    keys = [b"%032d" % number for number in range(3 * MAX_CONNECTIONS)]
    await asyncio.gather(*(rig.cache.put(key, key * 2, 60.0) for key in keys))

    assert await asyncio.gather(*(rig.cache.get(key) for key in keys)) == [key * 2 for key in keys]


# What only a real server does


async def test_a_value_that_is_too_large_is_not_kept(cache: ValkeyCache) -> None:
    await cache.put(b"large", b"x" * MAX_VALUE_BYTES, 60.0)
    await cache.put(b"too large", b"x" * (MAX_VALUE_BYTES + 1), 60.0)

    assert await cache.get(b"large") == b"x" * MAX_VALUE_BYTES
    assert await cache.get(b"too large") is None


async def test_what_stands_under_a_key_and_is_not_its_own_is_not_there(
    cache: ValkeyCache, server: ValkeyServer
) -> None:
    """A wrong type is one complaint and no outage, and is mended by the next put."""
    async with redis.Redis(port=server.port) as admin:
        await admin.set(b"foreign", b"value of somebody else")
        await admin.rpush("list", "x")
        with structlog.testing.capture_logs() as logs:
            assert await cache.get(b"foreign") is None
            for _ in range(5):
                assert await cache.get(b"list") is None
            assert await cache.get(b"never put") is None
        await cache.put(b"list", b"mended", 60.0)

    assert await cache.get(b"list") == b"mended"
    assert cache.available
    assert cache.failures == 5
    assert [(line["event"], line["code"]) for line in logs] == [("valkey refuses", "WRONGTYPE")]


async def test_a_server_that_is_full_complains_at_times(own_server: ValkeyServer) -> None:
    watch = Watch()
    cache = ValkeyCache(host="127.0.0.1", port=own_server.port, timeout=PATIENT_SECONDS, now=watch)
    async with redis.Redis(port=own_server.port) as admin:
        await admin.config_set("maxmemory", 1)
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            await cache.put(KEY, b"secret value", 60.0)
        watch.seconds += COMPLAINT_SECONDS
        await cache.put(KEY, b"secret value", 60.0)
    await cache.close()

    assert [line["event"] for line in logs] == ["valkey refuses"] * 2
    assert "secret" not in str(logs)


async def test_a_killed_server_costs_one_try_a_pause_and_one_line(own_server: ValkeyServer) -> None:
    watch = Watch()
    cache = ValkeyCache(host="127.0.0.1", port=own_server.port, timeout=PATIENT_SECONDS, now=watch)
    await cache.put(KEY, b"x", 60.0)
    own_server.kill()

    with structlog.testing.capture_logs() as logs:
        for _ in range(20):
            assert await cache.get(KEY) is None
            await cache.put(KEY, b"y", 60.0)
        assert cache.failures == 1
        watch.seconds += PAUSE_SECONDS
        assert await asyncio.gather(*(cache.get(KEY) for _ in range(20))) == [None] * 20
        assert cache.failures == 2
        own_server.start()
        assert await cache.get(KEY) is None
        assert not cache.available
        watch.seconds += PAUSE_SECONDS
        await cache.put(KEY, b"z", 60.0)
        assert await cache.get(KEY) == b"z"
    await cache.close()

    assert cache.available
    assert [line["event"] for line in logs] == ["valkey lost", "valkey answers again"]


async def test_a_slow_server_is_waited_for_once(own_server: ValkeyServer) -> None:
    watch = Watch()
    cache = ValkeyCache(host="127.0.0.1", port=own_server.port, timeout=SHORT_SECONDS, now=watch)
    await cache.put(KEY, b"of the key", 60.0)
    await cache.put(OTHER, b"of the other", 60.0)
    own_server.pause()
    assert await cache.get(KEY) is None
    assert [await cache.get(KEY) for _ in range(20)] == [None] * 20
    assert cache.failures == 1

    own_server.go_on()
    while not cache.available:
        watch.seconds += PAUSE_SECONDS
        # The answer to the call that was given up does not become the answer to this one.
        assert await cache.get(OTHER) in (None, b"of the other")
    assert await cache.get(OTHER) == b"of the other"
    await cache.close()


async def test_a_server_that_was_never_there_is_no_error() -> None:
    cache = shared_cache(Valkey(address="127.0.0.1:1"))
    await cache.put(KEY, b"x", 60.0)

    assert await cache.get(KEY) is None
    assert not cache.available
    await cache.close()


async def test_a_wrong_password_is_an_outage_that_does_not_tell_it(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path, options=("--requirepass", "right")) as server:
        address = f"127.0.0.1:{server.port}"
        settings = {"address": address, "timeout": "20s", "username": "default"}
        right = shared_cache(Valkey.model_validate(settings | {"password": "right"}))
        wrong = shared_cache(Valkey.model_validate(settings | {"password": "wrong-secret"}))
        with structlog.testing.capture_logs() as logs:
            await right.put(KEY, b"x", 60.0)
            assert await right.get(KEY) == b"x"
            assert await wrong.get(KEY) is None
        await right.close()
        await wrong.close()

    assert [line["event"] for line in logs] == ["valkey lost"]
    assert "secret" not in str(logs)


async def test_tls_is_spoken_with_a_server_whose_certificate_is_trusted(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    files = (
        "--tls-cert-file",
        certificate,
        "--tls-key-file",
        key,
        "--tls-ca-cert-file",
        certificate,
    )
    options = (*files, "--tls-auth-clients", "no")
    with ValkeyServer(tmp_path, options=options, tls=True) as server:
        address = f"127.0.0.1:{server.port}"

        def over(**tls: Any) -> ValkeyCache:
            return shared_cache(
                Valkey.model_validate({"address": address, "timeout": "20s", "tls": tls})
            )

        trusting, doubting = over(enabled=True, caFile=certificate), over(enabled=True)
        await trusting.put(KEY, b"x", 60.0)
        assert await trusting.get(KEY) == b"x"
        assert await doubting.get(KEY) is None
        await trusting.close()
        await doubting.close()


@pytest.mark.parametrize("address", ["", ":6379", "user@host:1", "host:port", "host:1/path"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"host:port|[Pp]ort"):
        shared_cache(Valkey(address=address))
