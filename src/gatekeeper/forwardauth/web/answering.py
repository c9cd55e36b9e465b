"""What one worker knows about itself."""

from __future__ import annotations

import asyncio
import os
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

from pydantic import ValidationError

from gatekeeper.forwardauth.config.recorded import Question
from gatekeeper.forwardauth.redaction import Redactor
from gatekeeper.forwardauth.rehearsal import replaying
from gatekeeper.forwardauth.rehearsal.explaining import explain
from gatekeeper.forwardauth.service import DECISION_SECONDS
from gatekeeper.platform.processes.asking import ASK_SECONDS, family

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prometheus_client.metrics_core import Metric

    from gatekeeper.forwardauth.model import Effect
    from gatekeeper.forwardauth.service import Decider
    from gatekeeper.platform.processes.asking import Words
    from gatekeeper.wire.forwardauth import RecentDecision

EXPLAIN_SECONDS: Final = DECISION_SECONDS + ASK_SECONDS

SLOW_QUESTIONS: Final[Mapping[str, float]] = MappingProxyType({"explain": EXPLAIN_SECONDS})


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
                return {"worker": os.getpid(), "families": [*map(family, counted)]}
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
