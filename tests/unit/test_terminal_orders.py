"""A runner that answers nonsense, late, too much, or for another: none of it is believed."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fakes.terminal_world import launch_of, new_terminal
from gatekeeper.kernel.errors import ErrorCode, GatekeeperError, Refusal
from gatekeeper.kernel.ids import TerminalId
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.crypto.envelope import Opened, ReplayGuard, open_envelope, seal
from gatekeeper.platform.random import SystemRandom
from gatekeeper.terminals.adapters.launchers import local
from gatekeeper.terminals.adapters.launchers.local import LocalLauncher
from gatekeeper.terminals.runner.attesting import Attestor
from gatekeeper.wire import runner as wire

PLANE, RUNNER, STRANGER = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2, 3))
TERMINAL, INSTANCE = TerminalId("trm_" + "a" * 20), "b" * 20
GONE = wire.GoneResult(
    terminal=TERMINAL, instance=INSTANCE, existed=True, gone=True, processes_ended=1, ended=None
)


def launcher(answer: Any, *, address: str = "https://runner", seconds: float = 5) -> LocalLauncher:
    return LocalLauncher(
        name="plane", key=PLANE, runner="local", runner_key=RUNNER.public_key(), address=address,
        capacity=1, clock=SystemClock(), random=SystemRandom(), order_seconds=seconds,
        transport=Network(answer),
    )  # fmt: skip


class Body(httpx.AsyncByteStream):
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content


class Network(httpx.AsyncBaseTransport):
    """Answers as a function says, in a body that is read as it comes."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        said: httpx.Response = self._answer(request)
        if not said.is_stream_consumed:
            return said
        return httpx.Response(said.status_code, headers=said.headers, stream=Body(said.content))


def opened(request: httpx.Request) -> Opened:
    """Open an order, as a runner does."""
    found = open_envelope(
        request.content.decode(), trusted={"plane": (PLANE.public_key(),)}, audience="local",
        purpose="job", now=datetime.now(UTC), seen=ReplayGuard(),  # noqa: TID251
    )  # fmt: skip
    assert not isinstance(found, Refusal), found
    return found


def sealed(result: wire.Result | str, order: Opened, **changes: Any) -> httpx.Response:
    if isinstance(result, wire.GoneResult) and not result.receipt:
        result = ATTESTOR.attested(result.terminal, result.instance, result)
    payload = result if isinstance(result, str) else result.model_dump_json(by_alias=True)
    values: dict[str, Any] = {
        "key": RUNNER, "sender": "local", "audience": "plane", "purpose": "result",
        "message_id": SystemRandom().bytes(16).hex(), "now": datetime.now(UTC),  # noqa: TID251
        "in_reply_to": order.message_id, **changes,
    }  # fmt: skip
    return httpx.Response(200, text=seal(payload.encode(), **values))


async def test_an_order_is_signed_for_its_runner_and_names_the_launch() -> None:
    orders: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url == "https://runner/orders"
        order = opened(request)
        orders.append(wire.ORDER.validate_json(order.payload))
        return sealed(GONE, order)

    gone = await launcher(answer).end(TERMINAL, INSTANCE, "revoked")

    assert gone.gone
    assert (orders[0].type, orders[0].terminal, orders[0].instance, orders[0].why) == (
        "end", TERMINAL, INSTANCE, "revoked",
    )  # fmt: skip


ATTESTOR = Attestor(name="local", key=RUNNER, clock=SystemClock())
NO_RECEIPT = GONE.model_copy(update={"receipt": "a.b.c"})
OTHER_RECEIPT = ATTESTOR.attested(TERMINAL, INSTANCE, GONE).model_copy(update={"existed": False})
ANOTHER = GONE.model_copy(update={"instance": "c" * 20})
STRANGE_END = GONE.model_copy(update={"ended": wire.EndedView(ending="bored")})


@pytest.mark.parametrize(
    "answer",
    [
        lambda _order: httpx.Response(200, text="nonsense"),
        lambda _order: httpx.Response(200, content=b"\xff" * 100),
        lambda _order: httpx.Response(200, text="x" * (local.MAX_ANSWER_CHARS + 1)),
        lambda _order: httpx.Response(404),
        lambda _order: httpx.Response(302, headers={"Location": "https://elsewhere"}),
        lambda order: sealed(GONE, order, key=STRANGER),
        lambda order: sealed(GONE, order, sender="other"),
        lambda order: sealed(GONE, order, audience="another-plane"),
        lambda order: sealed(GONE, order, in_reply_to="0" * 32),
        lambda order: sealed(GONE, order, purpose="report", in_reply_to=None),
        lambda order: sealed("{}", order),
        lambda order: sealed(wire.DoneResult(), order),
        lambda order: sealed(ANOTHER, order),
        lambda order: sealed(STRANGE_END, order),
        lambda order: sealed(NO_RECEIPT, order),
        lambda order: sealed(OTHER_RECEIPT, order),
    ],
)
async def test_what_is_not_the_runners_answer_to_this_order_is_rejected(answer: Any) -> None:
    with pytest.raises(GatekeeperError) as caught:
        await launcher(lambda request: answer(opened(request))).end(TERMINAL, INSTANCE, "revoked")

    assert caught.value.code is ErrorCode.RUNNER_REJECTED
    assert not caught.value.retryable


async def test_an_answer_counts_once() -> None:
    kept: list[httpx.Response] = []

    def answer(request: httpx.Request) -> httpx.Response:
        kept.append(sealed(GONE, opened(request)))
        return kept[0]

    asked = launcher(answer)
    await asked.end(TERMINAL, INSTANCE, "revoked")
    with pytest.raises(GatekeeperError, match="another message"):
        await asked.end(TERMINAL, INSTANCE, "revoked")


async def drips() -> AsyncIterator[bytes]:
    while True:
        yield b"x"
        await asyncio.sleep(0.01)


def _refused(_request: httpx.Request) -> httpx.Response:
    msg = "refused"
    raise httpx.ConnectError(msg)


@pytest.mark.parametrize(
    "answer",
    [
        _refused,
        lambda _request: httpx.Response(503),
        lambda _request: httpx.Response(200, content=drips()),
    ],
)
async def test_one_that_does_not_answer_in_time_may_be_asked_again(
    answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "CONNECT_SECONDS", 0.05)
    with pytest.raises(GatekeeperError) as caught:
        await launcher(answer, seconds=0.05).screen(TERMINAL, INSTANCE)

    assert caught.value.code is ErrorCode.RUNNER_UNREACHABLE
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("said", "code"),
    [("NOT_FOUND", ErrorCode.NOT_FOUND), ("MADE_UP", ErrorCode.RUNNER_REJECTED)],
)
async def test_what_a_runner_refuses_with_is_told_in_our_words(said: str, code: ErrorCode) -> None:
    failed = wire.FailedResult(code=said, message="there is none", retryable=True)
    with pytest.raises(GatekeeperError) as caught:
        await launcher(lambda request: sealed(failed, opened(request))).screen(TERMINAL, INSTANCE)

    assert (caught.value.code, caught.value.detail) == (code, "there is none")
    assert caught.value.retryable


async def test_an_order_that_is_too_large_is_not_sent() -> None:
    terminal = new_terminal(command=('"' * 4_096,) * 64)
    with pytest.raises(GatekeeperError, match="too large"):
        await launcher(_refused).launch(launch_of(terminal))


async def test_no_order_waits_for_those_who_wait_for_a_text(tmp_path: Path) -> None:
    """As many waits as there are connections, at a runner that answers none of them."""
    came = 0

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal came
        await reader.readuntil(b"\r\n\r\n")
        came += 1
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(hang, tmp_path / "s")
    asking = LocalLauncher(
        name="plane", key=PLANE, runner="local", runner_key=RUNNER.public_key(),
        address=f"unix:{tmp_path}/s", capacity=1, clock=SystemClock(), random=SystemRandom(),
        order_seconds=0.5,
    )  # fmt: skip
    waits = [
        asyncio.create_task(asking.wait_for_text(TERMINAL, INSTANCE, "never", 20))
        for _ in range(local.MAX_CONNECTIONS + 1)
    ]
    while came < local.MAX_CONNECTIONS:
        await asyncio.sleep(0.01)
    with pytest.raises(GatekeeperError):
        await asking.screen(TERMINAL, INSTANCE)
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    await asking.close()
    server.close()
    assert came == local.MAX_CONNECTIONS + 1
