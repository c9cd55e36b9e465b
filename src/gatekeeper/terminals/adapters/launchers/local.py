"""The `Launcher` port on a runner: every call is a signed order, every answer a signed result."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from gatekeeper.kernel.errors import ErrorCode, GatekeeperError, Refusal
from gatekeeper.platform.crypto.envelope import MAX_ENVELOPE_CHARS
from gatekeeper.platform.crypto.party import Party
from gatekeeper.platform.crypto.statements import StatementCheck
from gatekeeper.platform.http import envelopes
from gatekeeper.terminals.adapters.launchers import translate
from gatekeeper.terminals.errors import RunnerRejectedError, RunnerUnreachableError
from gatekeeper.terminals.model import Size
from gatekeeper.wire import runner as wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    from gatekeeper.kernel.clock import Clock
    from gatekeeper.kernel.ids import TerminalId
    from gatekeeper.kernel.random import Random
    from gatekeeper.terminals.ports import BoundLogin, Gone, Launch, Launched

UNIX: Final = "unix:"
MAX_CONNECTIONS: Final = 128
"""For orders, and as many again for waits."""
CONNECT_SECONDS: Final = 3.0
ORDER_SECONDS: Final = 5.0
"""For orders that the runner carries out at once."""
LAUNCH_SECONDS: Final = 15.0
END_SECONDS: Final = 20.0
"""Longer than the runner waits for processes that will not go."""
MAX_ANSWER_CHARS: Final = MAX_ENVELOPE_CHARS["result"]

S = TypeVar("S", bound=BaseModel)
R = TypeVar("R", bound=wire.Result)


class LocalLauncher:
    """Speaks to one runner, over its unix socket or HTTP."""

    def __init__(
        self,
        *,
        name: str,
        key: Ed25519PrivateKey,
        runner: str,
        runner_key: Ed25519PublicKey,
        address: str,
        capacity: int,
        clock: Clock,
        random: Random,
        order_seconds: float = ORDER_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Orders go out over `transport`, or over what `address` asks for."""
        self._runner = runner
        self._party = Party(
            name=name, key=key, trusted={runner: (runner_key,)}, clock=clock, random=random
        )
        self._statements = StatementCheck({runner: runner_key})
        self._capacity = capacity
        self._clock = clock
        self._random = random
        self._order_seconds = order_seconds
        self._url, self._client = _client(address, transport)
        # Waits have connections of their own: they are long, and no order is to wait for them.
        _, self._waits = _client(address, transport)

    @property
    def capacity(self) -> int:
        return self._capacity

    async def launch(self, launch: Launch) -> Launched:
        order = translate.launch_order(launch)
        result = await self._call(order, wire.LaunchedResult, LAUNCH_SECONDS)
        return translate.launched(result)

    async def end(self, terminal: TerminalId, instance: str, why: str) -> Gone:
        order = self._order(wire.EndOrder, terminal, instance, why=why)
        result = await self._call(order, wire.GoneResult, END_SECONDS)
        return translate.gone(result)

    async def bind(self, terminal: TerminalId, instance: str, login: BoundLogin) -> None:
        order = self._order(wire.BindOrder, terminal, instance, **asdict(login))
        await self._call(order, wire.DoneResult, self._order_seconds)

    async def send_input(self, terminal: TerminalId, instance: str, data: str) -> None:
        order = self._order(wire.InputOrder, terminal, instance, data=data)
        await self._call(order, wire.DoneResult, self._order_seconds)

    async def screen(self, terminal: TerminalId, instance: str) -> tuple[Sequence[str], Size]:
        order = self._order(wire.ScreenOrder, terminal, instance)
        result = await self._call(order, wire.ScreenResult, self._order_seconds)
        return result.lines, Size(columns=result.columns, rows=result.rows)

    async def wait_for_text(
        self, terminal: TerminalId, instance: str, pattern: str, seconds: float
    ) -> bool:
        order = self._order(wire.WaitOrder, terminal, instance, text=pattern, seconds=seconds)
        seconds += self._order_seconds
        result = await self._call(order, wire.DoneResult, seconds, client=self._waits)
        return result.found

    async def close(self) -> None:
        await self._client.aclose()
        await self._waits.aclose()

    def _order(self, model: type[S], terminal: TerminalId, instance: str, **more: object) -> S:
        """Make an order under an id of its own: it is other work than the last of its kind."""
        nonce = self._random.bytes(16).hex()
        about = {"id": nonce, "correlation_id": f"cor_{nonce}"}
        return model.model_validate({**about, "terminal": terminal, "instance": instance, **more})

    async def _call(
        self,
        order: wire.Order,
        expected: type[R],
        seconds: float,
        *,
        client: httpx.AsyncClient | None = None,
    ) -> R:
        """Have an order carried out; return its result."""
        payload = wire.ORDER.dump_json(order, by_alias=True)
        question = self._party.ask(payload, reader=self._runner, purpose="job")
        if len(question.envelope) > MAX_ENVELOPE_CHARS["job"]:
            msg = "the order is too large to be sent: give it fewer or shorter arguments"
            raise RunnerRejectedError(msg)
        signed = await self._exchange(question.envelope, seconds, client or self._client)
        opened = self._party.open_answer(signed, question)
        if isinstance(opened, Refusal):
            _reject(f"its answer was refused: {opened.detail}")
        result = _result(opened.payload, order, expected)
        if isinstance(result, wire.Attested) and not self._is_attested(result, order):
            _reject("its answer would be no receipt")
        return result

    def _is_attested(self, result: wire.Attested, order: wire.Order) -> bool:
        said = wire.statement(order.terminal, order.instance, result)
        now = self._clock.now()
        return self._statements.is_good(result.receipt, said, runner=self._runner, now=now)

    async def _exchange(self, envelope: str, seconds: float, client: httpx.AsyncClient) -> str:
        try:
            async with (
                asyncio.timeout(CONNECT_SECONDS + seconds),  # also of one that drips
                client.stream(
                    "POST",
                    self._url + wire.ORDERS_PATH,
                    content=envelope,
                    headers=envelopes.HEADERS,
                    timeout=httpx.Timeout(seconds, connect=CONNECT_SECONDS),
                ) as response,
            ):
                if response.status_code != httpx.codes.OK:
                    raise _not_ok(response.status_code)
                answer = await envelopes.read_within(response, MAX_ANSWER_CHARS)
        except (httpx.HTTPError, TimeoutError) as error:
            msg = f"runner {self._runner!r} did not answer ({type(error).__name__})"
            raise RunnerUnreachableError(msg) from error
        if answer is None:
            _reject("its answer is too large")
        return answer


def _client(
    address: str, transport: httpx.AsyncBaseTransport | None
) -> tuple[str, httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=16)
    if not address.startswith(UNIX):
        url = address.rstrip("/")
        return url, httpx.AsyncClient(transport=transport, limits=limits, trust_env=False)
    path = address.removeprefix(UNIX)
    transport = transport or httpx.AsyncHTTPTransport(uds=path, limits=limits)
    return "http://runner", httpx.AsyncClient(transport=transport, trust_env=False)


def _not_ok(status: int) -> GatekeeperError:
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return RunnerUnreachableError(f"the runner answered {status}")
    return RunnerRejectedError(f"the runner refused the order ({status})")


def _result(payload: bytes, order: wire.Order, expected: type[R]) -> R:
    try:
        result = wire.RESULT.validate_json(payload)
    except ValidationError as error:
        _reject("its answer has the wrong shape", error)
    if isinstance(result, wire.FailedResult):
        raise _foreign(result)
    if not isinstance(result, expected):
        _reject("its answer belongs to another order")
    if isinstance(result, wire.LaunchedResult | wire.GoneResult) and (
        (result.terminal, result.instance) != (order.terminal, order.instance)
    ):
        _reject("its answer is about another terminal")
    return result


def _foreign(said: wire.FailedResult) -> GatekeeperError:
    known = said.code in set(ErrorCode)
    code = ErrorCode(said.code) if known else ErrorCode.RUNNER_REJECTED
    return GatekeeperError(code, said.message, retryable=said.retryable)


def _reject(why: str, cause: Exception | None = None) -> NoReturn:
    msg = f"the runner cannot be believed: {why}"
    raise RunnerRejectedError(msg) from cause
