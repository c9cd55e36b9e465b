"""The service: what goes in and out of a decision, and many decisions at once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from factories.decisions import NOW, compiled, endpoint
from fakes.backends import FakeBackends, answered
from fakes.shared_cache import FakeSharedCache
from gatekeeper.forwardauth import service
from gatekeeper.forwardauth.adapters import language
from gatekeeper.forwardauth.agents.memory import Memory
from gatekeeper.forwardauth.model import (
    BackendRequest,
    BackendResponse,
    Decided,
    Outcome,
    RawRequest,
    Rejected,
    Reply,
)
from gatekeeper.forwardauth.service import Decider, Outside

PROXY = {"trustedProxyIPs": ["127.0.0.1"]}
URL = "https://facts.example/x"
KEPT = {"backendApi": {"url": URL}, "cache": {"ttl": {"pass": "60s", "fail": "60s"}}}
FREE = {"backendApi": {"url": URL}}


@dataclass
class Seen:
    """The fake of the `Observer` port. It fails when `broken`."""

    broken: bool = False
    decisions: list[Decided] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)

    def decided(self, decided: Decided) -> None:
        if self.broken:
            msg = "the log is full"
            raise OSError(msg)
        self.decisions.append(decided)

    def failed(self, error: BaseException) -> None:
        self.failures.append(error)


@dataclass
class Held(FakeBackends):
    """Backends that answer when they are let go."""

    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self, request: BackendRequest) -> BackendResponse:
        response = await super().call(request)
        await self.go.wait()
        return response


@dataclass
class Broken:
    """Everything outside at once, and each call is a defect."""

    error: BaseException

    async def call(self, request: BackendRequest) -> BackendResponse:
        raise self.error

    async def verify(self, issuer: str, token: str) -> Rejected:
        raise self.error

    async def live(self, token: str) -> Rejected:
        raise self.error

    async def get(self, key: bytes) -> bytes | None:
        raise self.error

    async def put(self, key: bytes, value: bytes, seconds: float) -> None:
        raise self.error


@dataclass
class World:
    """A decider with everything around it faked."""

    rules: dict[str, Any]
    backends: Any = field(default_factory=lambda: FakeBackends({URL: answered({})}))
    tokens: Any = None
    sessions: Any = None
    shared: Any = None
    seal: bytes = b"seal"
    endpoints: dict[str, Any] = field(default_factory=dict)
    now: float = NOW
    seen: Seen = field(default_factory=Seen)
    decider: Decider = field(init=False)

    def __post_init__(self) -> None:
        whole = {"api": endpoint(*self.rules, forwardProxyPolicy=PROXY), **self.endpoints}
        ids = itertools.count(1)
        self.decider = Decider(
            compiled({"endpoints": whole, "rules": self.rules}, number=7).generation,
            Outside(
                backends=self.backends,
                tokens=self.tokens,
                sessions=self.sessions,
                shared=self.shared,
                seal=self.seal,
                clock=lambda: self.now,
                new_id=lambda: f"made-{next(ids)}",
            ),
            observer=self.seen,
            memory=Memory(100),
            correlation_header="x-request-id",
        )

    def start(self, raw: RawRequest | None = None) -> asyncio.Task[Reply]:
        reply = self.decider.decide(raw or asking())
        assert isinstance(reply, Awaitable)

        async def settled() -> Reply:
            return await reply

        return asyncio.create_task(settled())

    async def ask(self, raw: RawRequest | None = None) -> Reply:
        reply = self.decider.decide(raw or asking())
        return reply if isinstance(reply, Reply) else await reply

    def at_rest(self) -> bool:
        return not self.decider._flights


def asking(
    target: str = "/auth-request", headers: dict[str, str] | None = None, peer: str = "127.0.0.1"
) -> RawRequest:
    told = {
        "x-forwarded-method": "GET",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "app.example",
        "x-forwarded-uri": "/",
        "x-forwarded-for": "203.0.113.7",
    }
    sent = [(k.encode(), v.encode("latin-1")) for k, v in (told | (headers or {})).items()]
    where = b"/nginx/api" if target == "/auth-request" else target.encode()
    return RawRequest("GET", where, sent, peer)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


# Who asks, and what is said


def test_what_needs_nothing_from_outside_is_answered_at_once() -> None:
    world = World({"rule": {}})
    reply = world.decider.decide(asking())
    assert reply == Reply(200, (("cache-control", "no-store"),), b"")
    (decided,) = world.seen.decisions
    assert decided == ("api", "nginx", Outcome.PASS, 200, "", "fresh", 0.0, "made-1", 7)


@pytest.mark.parametrize("target", ["/nginx/nobody", "/nobody/auth", "/", "/nginx", "/nginx/api/x", "*", "/nginx/API"])  # fmt: skip
def test_an_unknown_endpoint_is_not_found(target: str) -> None:
    world = World({"rule": {}})
    reply = world.decider.decide(asking(target))
    assert isinstance(reply, Reply)
    assert reply.status in {403, 404}
    (decided,) = world.seen.decisions
    assert (decided.endpoint, decided.outcome) == ("", Outcome.ERROR)


def test_a_quarantined_endpoint_is_an_error_and_the_others_go_on() -> None:
    world = World({"rule": {}}, endpoints={"bad": endpoint("nobody")})
    reply = world.decider.decide(asking("/bad/auth"))
    assert isinstance(reply, Reply)
    assert reply == Reply(503, (("cache-control", "no-store"),), b"")
    assert world.seen.decisions[0].endpoint == "bad"
    assert world.decider.decide(asking()) == Reply(200, (("cache-control", "no-store"),), b"")


def test_a_stranger_is_refused() -> None:
    world = World({"rule": {}})
    reply = world.decider.decide(asking(peer="192.0.2.1"))
    assert isinstance(reply, Reply)
    assert reply.status == 403
    assert world.seen.decisions[0].reason == "the peer is no trusted proxy"


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("abc-123", "abc-123"),
        ("a" * 128, "a" * 128),
        ("a" * 129, "made-1"),
        ("", "made-1"),
        ("a\tb", "made-1"),
        ("\xe9", "made-1"),
        ("a\x7f", "made-1"),
    ],
)
def test_a_correlation_id_is_taken_when_it_is_a_plain_one(given: str, taken: str) -> None:
    world = World({"rule": {}})
    world.decider.decide(asking(headers={"x-request-id": given}))
    assert world.seen.decisions[0].request_id == taken


@pytest.mark.parametrize("mount", ["/api/auth", "/nginx/api", "/traefik/api", "/caddy/api", "/haproxy/api"])  # fmt: skip
@pytest.mark.parametrize("condition", ["failWhen", "errorWhen"])
def test_a_reason_is_never_in_a_reply(mount: str, condition: str) -> None:
    world = World({"telltale": {"conditions": {condition: ["request.host == 'app.example'"]}}})
    reply = world.decider.decide(asking(mount))
    assert isinstance(reply, Reply)
    assert "telltale" in world.seen.decisions[0].reason
    assert "telltale" not in repr(reply)
    assert "app.example" not in repr(reply)
    assert reply.status in {403, 502}


# Defects


def test_a_defect_before_anything_is_asked_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("admit", "chain.run", "respond", "Scope"):
        with monkeypatch.context() as patched:
            patched.setattr(f"gatekeeper.forwardauth.decision.{name}", _defect)
            world = World({"rule": {}})
            reply = world.decider.decide(asking())
        assert isinstance(reply, Reply)
        assert reply.status == 500
        assert [type(error) for error in world.seen.failures] == [ZeroDivisionError]
        assert world.seen.decisions[0].outcome is Outcome.ERROR


def _defect(*_: object, **__: object) -> Any:
    raise ZeroDivisionError


def test_a_dialect_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatekeeper.forwardauth.dialects.dialect.read_head", _defect)
    world = World({"rule": {}})
    assert world.decider.decide(asking()) == Reply(500, (("cache-control", "no-store"),), b"")
    assert len(world.seen.failures) == 1


EXPRESSIONS: list[tuple[str, dict[str, Any]]] = [
    ("request.method == 'GET'", {"conditions": {"whenAll": ["request.method == 'GET'"]}}),
    ("request.path", {"variables": {"a": "request.path"}}),
    ("{{ request.path }}", {"responses": {"pass": {"variables": {"a": "{{ request.path }}"}}}}),
    ("https://facts.example/x", {"backendApi": {"url": URL}}),
    ("{{ request.host }}", {"backendApi": {"url": URL, "headers": {"x-a": "{{ request.host }}"}}}),
    ("b{{ request.host }}", {"backendApi": {"url": URL, "body": "b{{ request.host }}"}}),
]


@pytest.mark.parametrize(("source", "rule"), EXPRESSIONS)
async def test_an_expression_that_fails_otherwise_is_an_error(
    source: str, rule: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await World({"rule": rule}).ask()).status == 200
    world = World({"rule": rule})  # another, which remembers no answer
    for name in ("_Calculated", "_Rendered"):
        kind = getattr(language, name)
        evaluate = kind.__call__

        def failing(self: Any, scope: Any, evaluate: Any = evaluate) -> Any:
            if self.source == source:
                raise ZeroDivisionError
            return evaluate(self, scope)

        monkeypatch.setattr(kind, "__call__", failing)
    assert (await world.ask()).status == 500
    assert [type(error) for error in world.seen.failures] == [ZeroDivisionError]


JWT = {"auth": [{"match": [{"type": "jwt", "issuer": "one"}]}]}
LIVE = {"conditions": {"whenAll": ["session.live"]}}


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), TimeoutError(), OSError(), RecursionError()]
)
@pytest.mark.parametrize("effect", ["backends", "tokens", "sessions", "shared"])
async def test_whatever_fails_outside_is_an_error(effect: str, error: Exception) -> None:
    rules = {"backends": FREE, "tokens": JWT, "sessions": LIVE, "shared": KEPT}
    world = World({"rule": rules[effect]})
    setattr(world, effect, Broken(error))
    world.__post_init__()
    api = endpoint("rule", authentication={"allow": {"authorization": ["bearer"]}}, forwardProxyPolicy=PROXY)  # fmt: skip
    world.decider.replace(
        compiled({"endpoints": {"api": api}, "rules": {"rule": rules[effect]}}).generation
    )
    reply = await world.ask(asking(headers={"authorization": "Bearer t"}))
    assert reply.status == (503 if isinstance(error, TimeoutError) else 500)
    assert world.seen.decisions[0].outcome is Outcome.ERROR
    assert world.at_rest()


@pytest.mark.parametrize("rule", [JWT, LIVE])
async def test_where_nobody_can_be_asked_about_a_token_it_is_an_error(rule: dict[str, Any]) -> None:
    allow = {"allow": {"authorization": ["bearer"]}}
    guarded = endpoint("rule", authentication=allow, forwardProxyPolicy=PROXY)
    world = World({"rule": rule}, endpoints={"guarded": guarded})
    token = {"authorization": "Bearer t"}
    assert (await world.ask(asking("/nginx/guarded", headers=token))).status == 502
    assert not world.seen.failures


@pytest.mark.parametrize("rule", [{}, FREE])
async def test_what_cannot_be_logged_is_not_allowed(rule: dict[str, Any]) -> None:
    world = World({"rule": rule}, seen=Seen(broken=True))
    assert (await world.ask()).status == 500
    assert len(world.seen.failures) == 1


async def test_a_decision_that_takes_too_long_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "DECISION_SECONDS", 0.01)
    world = World({"rule": KEPT}, backends=Held({URL: answered({})}))
    assert (await world.ask()).status == 503
    assert world.seen.decisions[0].reason == "the decision took too long"
    assert world.at_rest()


# Many at once


async def test_many_at_once_cost_one_call() -> None:
    backends = Held({URL: answered({})})
    world = World({"rule": KEPT}, backends=backends)
    tasks = [world.start() for _ in range(50)]
    await until(lambda: len(backends.calls) == 1)
    backends.go.set()
    assert {reply.status for reply in await asyncio.gather(*tasks)} == {200}
    assert len(backends.calls) == 1
    assert world.at_rest()
    assert (await world.ask()).status == 200
    assert len(backends.calls) == 1


async def test_others_are_not_taken_along_when_the_leader_is_given_up() -> None:
    backends = Held({URL: answered({})})
    world = World({"rule": KEPT}, backends=backends)
    leader = world.start()
    await until(lambda: len(backends.calls) == 1)
    others = [world.start() for _ in range(5)]
    await asyncio.sleep(0)
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    await until(lambda: len(backends.calls) == 6)
    backends.go.set()
    assert {reply.status for reply in await asyncio.gather(*others)} == {200}
    assert world.at_rest()


async def test_one_that_waits_can_be_given_up_without_the_leader() -> None:
    backends = Held({URL: answered({})})
    world = World({"rule": KEPT}, backends=backends)
    leader, waiting, other = (world.start() for _ in range(3))
    await until(lambda: len(backends.calls) == 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    backends.go.set()
    assert [reply.status for reply in await asyncio.gather(leader, other)] == [200, 200]
    assert len(backends.calls) == 1


async def test_others_judge_for_themselves_when_the_leader_fails() -> None:
    @dataclass
    class Once(Held):
        async def call(self, request: BackendRequest) -> BackendResponse:
            first = not self.calls
            response = await super().call(request)
            if first:
                raise ZeroDivisionError
            return response

    backends = Once({URL: answered({})})
    world = World({"rule": KEPT}, backends=backends)
    tasks = [world.start() for _ in range(5)]
    await until(lambda: len(backends.calls) == 1)
    backends.go.set()
    assert [reply.status for reply in await asyncio.gather(*tasks)] == [500, 200, 200, 200, 200]
    assert world.at_rest()


async def test_others_judge_for_themselves_when_the_leader_is_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @dataclass
    class FirstHangs(FakeBackends):
        async def call(self, request: BackendRequest) -> BackendResponse:
            first = not self.calls
            response = await super().call(request)
            if first:
                await asyncio.Event().wait()
            return response

    monkeypatch.setattr(service, "FLIGHT_SECONDS", 0.01)
    backends = FirstHangs({URL: answered({})})
    world = World({"rule": KEPT}, backends=backends)
    leader = world.start()
    await until(lambda: len(backends.calls) == 1)
    assert (await world.ask()).status == 200
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    assert world.at_rest()


@pytest.mark.parametrize("response", [answered({}, status=500), BackendResponse(error="late")])
async def test_what_is_not_kept_is_judged_by_each(response: BackendResponse) -> None:
    backends = Held({URL: response})
    world = World({"rule": KEPT}, backends=backends)
    tasks = [world.start() for _ in range(10)]
    await until(lambda: len(backends.calls) == 1)
    backends.go.set()
    replies = await asyncio.gather(*tasks)
    assert {reply.status for reply in replies} == {502}
    assert len(backends.calls) == 10
    assert world.at_rest()


async def test_other_requests_do_not_wait() -> None:
    rule = KEPT | {"backendApi": {"url": f"{URL}/{{{{ request.headers['x-a'] }}}}"}}
    backends = Held({f"{URL}/1": answered({}), f"{URL}/2": answered({}, status=404)})
    world = World({"rule": rule}, backends=backends)
    one, two = (world.start(asking(headers={"x-a": a})) for a in "12")
    await until(lambda: len(backends.calls) == 2)
    backends.go.set()
    assert [reply.status for reply in await asyncio.gather(one, two)] == [200, 403]


async def test_a_decision_that_is_dropped_unstarted_holds_nothing() -> None:
    world = World({"rule": KEPT})
    reply = world.decider.decide(asking())
    assert isinstance(reply, Awaitable)
    reply.close()  # type: ignore[attr-defined]  # a coroutine
    assert world.at_rest()
    assert (await world.ask()).status == 200


async def test_a_new_configuration_forgets_what_was_kept() -> None:
    world = World({"rule": KEPT})
    for calls in (1, 1):
        await world.ask()
        assert len(world.backends.calls) == calls
    world.decider.replace(world.decider.generation)
    await world.ask()
    assert len(world.backends.calls) == 2


# The shared tier


async def test_what_one_process_made_another_takes() -> None:
    shared = FakeSharedCache()
    one, two = (World({"rule": KEPT}, shared=shared) for _ in range(2))
    assert (await one.ask()).status == (await two.ask()).status == 200
    assert (len(one.backends.calls), len(two.backends.calls)) == (1, 0)
    assert len(shared.puts) == 1
    await two.ask()
    assert len(shared.gets) == 2


async def test_many_at_once_ask_the_shared_tier_once() -> None:
    shared = FakeSharedCache()
    await World({"rule": KEPT}, shared=shared).ask()
    world = World({"rule": KEPT}, shared=shared)
    replies = await asyncio.gather(*(world.start() for _ in range(20)))
    assert {reply.status for reply in replies} == {200}
    assert len(shared.gets) == 2
    assert not world.backends.calls
    assert world.at_rest()


async def test_what_another_secret_sealed_is_not_taken() -> None:
    shared = FakeSharedCache()
    one = World({"rule": KEPT}, shared=shared)
    two = World({"rule": KEPT}, shared=shared, seal=b"other")
    await one.ask()
    await two.ask()
    assert len(two.backends.calls) == 1


async def test_what_was_tampered_with_or_moved_is_not_taken() -> None:
    rule = KEPT | {"backendApi": {"url": f"{URL}/{{{{ request.headers['x-a'] }}}}"}}
    shared = FakeSharedCache()
    answers: dict[str, Any] = {f"{URL}/1": answered({}), f"{URL}/2": answered({}, status=404)}
    one = World({"rule": rule}, shared=shared, backends=FakeBackends(answers))
    assert (await one.ask(asking(headers={"x-a": "1"}))).status == 200
    (good,) = shared._kept.values()
    assert (await one.ask(asking(headers={"x-a": "2"}))).status == 403
    for key in shared.puts:
        shared._kept[key] = good  # the pass, also where the fail was
    two = World({"rule": rule}, shared=shared, backends=FakeBackends(answers))
    assert (await two.ask(asking(headers={"x-a": "2"}))).status == 403
    assert (await two.ask(asking(headers={"x-a": "1"}))).status == 200
    assert len(two.backends.calls) == 1


async def test_without_the_shared_tier_it_is_slower_and_never_otherwise() -> None:
    shared = FakeSharedCache(reachable=False)
    one, two = (World({"rule": KEPT}, shared=shared) for _ in range(2))
    assert (await one.ask()).status == (await two.ask()).status == 200
    assert (len(one.backends.calls), len(two.backends.calls)) == (1, 1)


async def test_what_is_not_kept_is_not_shared() -> None:
    shared = FakeSharedCache()
    world = World({"rule": KEPT}, shared=shared, backends=FakeBackends({}))
    assert (await world.ask()).status == 502
    assert not shared.puts


async def test_an_entry_that_has_ended_is_not_taken() -> None:
    shared = FakeSharedCache()
    await World({"rule": KEPT}, shared=shared).ask()
    later = World({"rule": KEPT}, shared=shared, now=NOW + 60)
    await later.ask()
    assert len(later.backends.calls) == 1
