"""Decisions in a test: a configuration as a mapping, a request in a few words, the answer.

Nothing is awaited: what a decision asks from outside is given by `outside`, a function from
the effect to its result.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gatekeeper.forwardauth.adapters.language import Language
from gatekeeper.forwardauth.agents.memory import Memory
from gatekeeper.forwardauth.config import Configuration
from gatekeeper.forwardauth.decision import decide
from gatekeeper.forwardauth.model import (
    Answer,
    CallBackend,
    Claim,
    Effect,
    OriginalRequest,
    Settle,
    Step,
)
from gatekeeper.forwardauth.plan import Compiled, compile_configuration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NOW = 1_800_000_000.0
BEARER = {"allow": {"authorization": ["bearer"]}}
ANYBODY = {"allow": {"none": True}}


def request(
    method: str = "GET",
    path: str = "/",
    *,
    query: str = "",
    headers: Mapping[str, str] | None = None,
    client: str = "203.0.113.7",
) -> OriginalRequest:
    """Make an original request as a dialect tells it."""
    return OriginalRequest(
        method=method,
        scheme="https",
        host="app.example",
        port=None,
        path=path,
        raw_path=path,
        raw_query=query,
        fields={k.lower().encode(): v.encode("latin-1") for k, v in (headers or {}).items()},
        repeated={},
        client=client,
        proxied=True,
    )


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def endpoint(
    *rules: str, authentication: Mapping[str, Any] = ANYBODY, **more: Any
) -> dict[str, Any]:
    return {"authentication": authentication, "rules": [{"name": name} for name in rules], **more}


def compiled(
    configuration: Mapping[str, Any],
    *,
    environment: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    digest: bytes = b"digest",
    number: int = 1,
) -> Compiled:
    return compile_configuration(
        Configuration.model_validate(configuration),
        Language(),
        number=number,
        digest=digest,
        environment=environment or {},
        secret_values=secrets or {},
    )


def nothing_outside(effect: Effect) -> Any:
    """Answer claims and settlements; nothing else may be asked."""
    assert isinstance(effect, Claim | Settle), effect
    return None


@dataclass
class Gate:
    """One configuration, asked again and again."""

    configuration: Mapping[str, Any]
    outside: Callable[[Effect], Any] = nothing_outside
    now: float = NOW
    memory: Memory = field(default_factory=lambda: Memory(1_000))
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    trace: list[Step] | None = None

    def __post_init__(self) -> None:
        found = compiled(self.configuration, environment=self.environment, secrets=self.secrets)
        assert not found.generation.skipped, found.generation.skipped
        self.plans = found.generation.plans

    def ask(self, original: OriginalRequest, *, endpoint: str = "api") -> Answer:
        steps = decide(
            self.plans[endpoint],
            original,
            memory=self.memory,
            now=self.now,
            request_id="test",
            trace=self.trace,
        )
        try:
            effect = next(steps)
            while True:
                self.effects.append(effect)
                effect = steps.send(self._result(effect))
        except StopIteration as done:
            answer: Answer = done.value
            return answer

    def _result(self, effect: Effect) -> Any:
        if isinstance(effect, Settle):
            self.memory.put(effect.key, effect.result, self.now)
            return None
        if isinstance(effect, Claim):
            return None
        return self.outside(effect)

    @property
    def calls(self) -> list[Any]:
        return [effect.request for effect in self.effects if isinstance(effect, CallBackend)]


def gate(
    rule: Mapping[str, Any], *, authentication: Mapping[str, Any] = ANYBODY, **more: Any
) -> Gate:
    """Make a gate of one endpoint `api` with one rule `rule`; `more` is the gate's own."""
    configuration = {
        "endpoints": {"api": endpoint("rule", authentication=authentication)},
        "rules": {"rule": rule},
    }
    return Gate(configuration, **more)
