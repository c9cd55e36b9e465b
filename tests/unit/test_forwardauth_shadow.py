"""Shadow mode: a candidate decides beside the active configuration, without effect."""

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from factories.decisions import NOW, compiled, endpoint
from fakes.backends import FakeBackends, answered
from gatekeeper.bootstrap.forwardauth import candidate as wiring
from gatekeeper.bootstrap.forwardauth.serving import application as wired
from gatekeeper.forwardauth.agents.memory import Memory
from gatekeeper.forwardauth.dialects import DIALECTS
from gatekeeper.forwardauth.model import RawRequest, Reply
from gatekeeper.forwardauth.ports import Backends
from gatekeeper.forwardauth.service import Decider, Outside
from gatekeeper.forwardauth.shadow import Careful, Remembered
from gatekeeper.forwardauth.web.shadowing import MAX_AT_ONCE, LastDecided, Shadowing

if TYPE_CHECKING:
    from collections.abc import Awaitable

URL = "https://facts.example/x"
PATIENCE_SECONDS = 30.0


def configuration(rule: dict[str, Any], **more: Any) -> dict[str, Any]:
    app = endpoint(
        "rule",
        authentication={"allow": {"authorization": ["bearer"], "none": True}},
        forwardProxyPolicy={"trustedProxyIPs": ["10.0.0.1"]},
        **more,
    )
    return {"endpoints": {"app": app}, "rules": {"rule": rule}}


OPEN: dict[str, Any] = {}
CLOSED = {"conditions": {"failWhen": ["true"]}}
KNOWN = {"auth": [{"match": [{"type": "bearer", "value": "canary-token"}]}]}


def asks(method: str = "GET", url: str = URL) -> dict[str, Any]:
    return {"backendApi": {"url": url, "method": method}}


class Held:
    """Backends that answer when they are told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def call(self, _request: Any) -> Any:
        await self.go.wait()
        return answered({"ok": True})


def decider(rules: dict[str, Any], backends: Backends, observed: LastDecided) -> Decider:
    return Decider(
        compiled(rules).generation,
        Outside(
            backends=backends, tokens=None, sessions=None, shared=None,
            seal=b"", clock=lambda: NOW, new_id=lambda: "made",
        ),
        observer=observed, memory=Memory(10), correlation_header="x-request-id",
    )  # fmt: skip


class World:
    """An active configuration and a candidate, on the same backends."""

    def __init__(
        self,
        active: dict[str, Any],
        candidate: dict[str, Any] | None,
        *,
        own: Backends | None = None,
    ) -> None:
        self.backends = FakeBackends(answers={URL: answered({"ok": True})})
        self.now = 0.0
        observed, followed = LastDecided(), LastDecided()
        first = decider(active, Remembered(self.backends), observed)
        self.shadowing = Shadowing(first, observed, clock=lambda: self.now)
        if candidate is not None:
            second = decider(candidate, Careful(own or self.backends), followed)
            self.shadowing.take(second, followed)

    async def ask(self, *, token: str = "", settle: bool = True) -> int:
        headers = {**TOLD, **({"authorization": f"Bearer {token}"} if token else {})}
        raw = RawRequest(
            "GET", b"/nginx/app", [(k.encode(), v.encode()) for k, v in headers.items()], "10.0.0.1"
        )
        answer: Reply | Awaitable[Reply] = self.shadowing.decide(raw)
        reply = answer if isinstance(answer, Reply) else await answer
        if settle:
            await self.settled()
        return reply.status

    async def settled(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    @property
    def compared(self) -> dict[tuple[str, str, str], int]:
        return dict(self.shadowing.compared)

    @property
    def different(self) -> dict[tuple[str, str, str], int]:
        return dict(self.shadowing.different)


TOLD = {
    "host": "gate",
    "x-forwarded-method": "GET",
    "x-forwarded-proto": "https",
    "x-forwarded-host": "app.example",
    "x-forwarded-uri": "/x",
    "x-forwarded-for": "203.0.113.7",
    "x-request-id": "wanted",
}


@pytest.mark.parametrize(
    ("active", "candidate", "status", "key", "differs"),
    [
        (OPEN, OPEN, 200, ("app", "pass", "pass"), False),
        (OPEN, CLOSED, 200, ("app", "pass", "fail"), True),
        (CLOSED, OPEN, 403, ("app", "fail", "pass"), True),
        (asks(), asks(), 200, ("app", "pass", "pass"), False),
        (asks(), CLOSED, 200, ("app", "pass", "fail"), True),
        (CLOSED, asks(), 403, ("app", "fail", "pass"), True),
    ],
)
async def test_the_active_configuration_answers_and_the_candidate_is_counted(
    active: dict[str, Any],
    candidate: dict[str, Any],
    status: int,
    key: tuple[str, str, str],
    differs: bool,
) -> None:
    world = World(configuration(active), configuration(candidate))
    assert await world.ask() == status
    assert world.compared == {key: 1}
    assert world.different == ({key: 1} if differs else {})


async def test_another_header_is_a_difference_though_the_outcome_is_the_same() -> None:
    world = World(
        configuration(OPEN, responsePolicy={"pass": {"headers": {"X-User": "ada"}}}),
        configuration(OPEN, responsePolicy={"pass": {"headers": {"X-User": "eve"}}}),
    )
    await world.ask()
    assert world.different == {("app", "pass", "pass"): 1}


async def test_the_answer_is_given_before_the_candidate_begins() -> None:
    world = World(configuration(OPEN), configuration(CLOSED))
    assert await world.ask(settle=False) == 200
    assert world.compared == {}
    await world.settled()
    assert world.compared == {("app", "pass", "fail"): 1}


async def test_a_candidate_that_hangs_holds_up_nobody_and_what_is_too_much_is_dropped() -> None:
    held = Held()
    world = World(configuration(OPEN), configuration(asks()), own=held)
    for _ in range(MAX_AT_ONCE + 3):
        assert await world.ask() == 200
    assert world.shadowing.skipped["saturated"] == 3
    assert world.compared == {}
    held.go.set()
    await world.settled()
    assert world.compared == {("app", "pass", "pass"): MAX_AT_ONCE}
    await world.ask()
    assert world.shadowing.skipped["saturated"] == 3


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_call_that_the_active_decision_made_is_not_made_again(method: str) -> None:
    world = World(configuration(asks(method)), configuration(asks(method)))
    await world.ask()
    assert len(world.backends.calls) == 1
    assert world.compared == {("app", "pass", "pass"): 1}


@pytest.mark.parametrize(("method", "calls"), [("GET", 1), ("HEAD", 1), ("POST", 0), ("PUT", 0)])
async def test_another_call_is_made_only_when_it_is_safe(method: str, calls: int) -> None:
    world = World(configuration(OPEN), configuration(asks(method)))
    await world.ask()
    assert len(world.backends.calls) == calls
    assert world.compared == ({("app", "pass", "pass"): 1} if calls else {})
    assert world.shadowing.skipped["call not made"] == 1 - calls


async def test_answers_of_one_request_are_not_given_to_the_candidate_of_another() -> None:
    world = World(configuration(asks("POST")), configuration(asks("POST")))
    await asyncio.gather(*(world.ask() for _ in range(5)))
    assert len(world.backends.calls) == 5
    assert world.compared == {("app", "pass", "pass"): 5}


async def test_what_the_candidate_keeps_is_its_own() -> None:
    kept = {**asks(), "cache": {"ttl": {"pass": "1m"}}}
    world = World(configuration(OPEN), configuration(kept))
    await world.ask()
    await world.ask()
    assert len(world.backends.calls) == 1
    assert world.compared == {("app", "pass", "pass"): 2}


async def test_without_a_candidate_requests_are_answered_and_counted() -> None:
    world = World(configuration(OPEN), None)
    assert await world.ask() == 200
    assert world.shadowing.skipped["no candidate"] == 1


async def test_a_path_of_neither_configuration_is_not_compared() -> None:
    world = World(configuration(OPEN), configuration(CLOSED))
    reply = world.shadowing.decide(RawRequest("GET", b"/healthz", [], "10.0.0.1"))
    assert isinstance(reply, Reply)
    await world.settled()
    assert (reply.status, world.compared, world.different) == (404, {}, {})


async def test_what_is_asked_past_the_decision_port_is_followed_too() -> None:
    world = World(configuration(OPEN), configuration(CLOSED))
    headers = [(name.encode(), value.encode()) for name, value in TOLD.items()]
    raw = RawRequest("GET", b"/", headers, "10.0.0.1")
    assert isinstance(world.shadowing.decide_about("app", DIALECTS["nginx"], raw), Reply)
    await world.settled()
    assert world.different == {("app", "pass", "fail"): 1}


async def test_a_difference_is_told_once_in_a_while_without_any_value() -> None:
    secret = {
        "backendApi": {"url": URL, "headers": {"x-key": "canary-key"}},
        "conditions": {"failWhen": ["'canary-token' != ''"]},
    }
    world = World(configuration(KNOWN), configuration({**secret, **KNOWN}))
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            await world.ask(token="canary-token")
        world.now = 1.0
        await world.ask(token="canary-token")
    assert world.different == {("app", "pass", "fail"): 4}
    assert len(logs) == 2
    assert logs[0]["correlation_id"] == "wanted"
    assert logs[0]["different"] == ["outcome", "status"]
    assert "failWhen" in logs[0]["candidate_reason"]
    assert "canary-token" not in json.dumps(logs)


async def test_what_is_counted_is_given_to_prometheus() -> None:
    world = World(configuration(OPEN), configuration(CLOSED))
    await world.ask()
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in world.shadowing.collect()
        for sample in family.samples
    }
    assert samples["passctrl_shadow_decisions_total", "app", "pass", "fail"] == 1
    assert samples["passctrl_shadow_differences_total", "app", "pass", "fail"] == 1
    assert samples["passctrl_shadow_skipped_total", "saturated"] == 0
    assert samples["passctrl_shadow_generation",] == 1


# Wired.


async def test_a_candidate_may_come_late_be_broken_and_change_and_the_active_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "RETRY_SECONDS", 0.02)
    active, candidate = tmp_path / "config.json", tmp_path / "candidate.json"
    server = {"shadow": {"config": "candidate.json"}, "logging": {"decisions": False}}
    active.write_text(json.dumps({**configuration(OPEN), "server": server}))
    headers = [(name.encode(), value.encode()) for name, value in TOLD.items()]

    async with wired(active, {}) as application:
        assert application.background is not None
        assert application.operated is not None
        background = asyncio.ensure_future(application.background())

        async def counted(pattern: str) -> float:
            assert application.operated is not None
            families = (await application.operated({"ask": "metrics"}))["families"]
            return float(
                sum(
                    value
                    for family in families
                    for name, labels, value in family["samples"]
                    if re.fullmatch(pattern, f"{name} {' '.join(labels.values())}".strip())
                )
            )

        async def asked_until(pattern: str) -> None:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not await counted(pattern):
                    reply = application.decide(
                        RawRequest("GET", b"/nginx/app", headers, "10.0.0.1")
                    )
                    assert isinstance(reply, Reply)
                    assert reply.status == 200
                    await asyncio.sleep(0.02)

        await asked_until("passctrl_shadow_skipped_total no candidate")
        candidate.write_text("{")
        await asked_until("passctrl_shadow_skipped_total no candidate")
        candidate.write_text(json.dumps(configuration(CLOSED)))
        await asked_until("passctrl_shadow_differences_total app pass fail")
        candidate.write_text(json.dumps(configuration(OPEN)))
        await asked_until("passctrl_shadow_decisions_total app pass pass")
        assert await counted("passctrl_shadow_generation") == 2
        background.cancel()
        await asyncio.gather(background, return_exceptions=True)
