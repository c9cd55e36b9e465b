"""What one worker knows about itself, and how it is asked.

A question is a mapping with `ask`, and so is its answer. Within one process a worker is called;
other workers are asked over a socket in a folder that is theirs alone, a line of JSON each way.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog
from pydantic import ValidationError

from gatekeeper.forwardauth.config.recorded import Question
from gatekeeper.forwardauth.redaction import Redactor
from gatekeeper.forwardauth.rehearsal import replaying
from gatekeeper.forwardauth.rehearsal.explaining import explain
from gatekeeper.forwardauth.service import DECISION_SECONDS

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

    from gatekeeper.forwardauth.model import Effect
    from gatekeeper.forwardauth.service import Decider
    from gatekeeper.wire.forwardauth import RecentDecision

log = structlog.get_logger("gatekeeper.forwardauth.operations")

MAX_QUESTION_BYTES: Final = 1_048_576
ASK_SECONDS: Final = 3.0
EXPLAIN_SECONDS: Final = DECISION_SECONDS + ASK_SECONDS

Words = Mapping[str, Any]
"""A question or an answer, as JSON has it."""
Ask = Callable[[Words], Awaitable[Words]]
"""Asks one worker. Raises `OSError`, `TimeoutError` or `ValueError` when it does not answer."""


class Counters(Protocol):
    def collect(self) -> Iterable[Metric]: ...


class Seen(Counters, Protocol):
    """What was seen of decisions."""

    def recent(self, correlation_id: str) -> RecentDecision | None: ...


class Worker:
    """Answers what is asked about one worker. `clock` gives seconds of Unix time."""

    def __init__(
        self, decider: Decider, seen: Seen, clock: Callable[[], float], *more: Counters
    ) -> None:
        self._decider = decider
        self._seen = seen
        self._counters = (seen, *more)
        self._clock = clock

    async def __call__(self, question: Words) -> Words:
        match question["ask"]:
            case "ready":
                return {"reasons": self._unready()}
            case "metrics":
                counted = chain.from_iterable(one.collect() for one in self._counters)
                return {"worker": os.getpid(), "families": [*map(_family, counted)]}
            case "recent":
                found = self._seen.recent(question["id"])
                return {"found": None if found is None else found.model_dump(by_alias=True)}
            case "explain":
                return await self._explain(question["question"])
            case _:
                return {}

    def _unready(self) -> list[str]:
        generation = self._decider.generation
        reasons = generation.unready()
        redactor = Redactor(secret.reveal() for secret in generation.secrets if reasons)
        return [redactor.text(reason) for reason in reasons]

    async def _explain(self, asked: object) -> Words:
        try:
            question = Question.model_validate(asked)
        except ValidationError as error:
            # The places alone: the values may be secrets.
            wrong = [
                {"key": ".".join(map(str, one["loc"])), "message": one["msg"]}
                for one in error.errors(include_url=False, include_input=False)
            ]
            return {"problems": wrong}
        steps = explain(
            question, self._decider.generation, memory=self._decider.memory, now=self._clock()
        )

        async def perform(effect: Effect) -> Any:  # noqa: ANN401  # by the effect
            found = replaying.answer(effect, question)
            if found is None and question.live:
                return await self._decider.perform_aside(effect)
            return replaying.refusal(effect) if found is None else found

        async with asyncio.timeout(DECISION_SECONDS):
            explained = await replaying.run(steps, perform)
        return {"explained": explained.model_dump(mode="json", by_alias=True)}


def _family(metric: Metric) -> dict[str, Any]:
    samples = [[one.name, one.labels, one.value] for one in metric.samples]
    return {
        "name": metric.name,
        "help": metric.documentation,
        "type": metric.type,
        "samples": samples,
    }


async def answer_on(listening: socket.socket, worker: Ask) -> None:
    """Answer questions that come over a socket, until cancelled."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            if line:
                writer.write(json.dumps(await worker(json.loads(line))).encode())
                await writer.drain()
        except Exception as error:  # noqa: BLE001  # whoever asked is told nothing
            log.error("a question failed", error=type(error).__name__)  # noqa: TRY400
        finally:
            writer.close()

    server = await asyncio.start_unix_server(answer, sock=listening, limit=MAX_QUESTION_BYTES)
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        server.close()


def over(path: Path) -> Ask:
    """Return what asks the worker behind a socket."""

    async def ask(question: Words) -> Words:
        seconds = EXPLAIN_SECONDS if question["ask"] == "explain" else ASK_SECONDS
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(json.dumps(question).encode() + b"\n")
                await writer.drain()
                told: Words = json.loads(await reader.read())
                return told
            finally:
                writer.close()

    return ask
