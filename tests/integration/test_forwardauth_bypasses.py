"""Bypasses at the decision service itself: what no proxy need take part in.

docs/explanation/forwardauth/bypasses.md says what each case was.
"""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from factories.decisions import BEARER, NOW, compiled, endpoint
from fakes.backends import FakeBackends, answered
from fakes.shared_cache import FakeSharedCache
from gatekeeper.forwardauth.agents import caching
from gatekeeper.forwardauth.agents.memory import Memory
from gatekeeper.forwardauth.dialects import DIALECTS
from gatekeeper.forwardauth.errors import EvaluationError
from gatekeeper.forwardauth.model import Outcome, RawRequest, Rejected, Reply, RuleResult
from gatekeeper.forwardauth.service import Decider, Outside

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatekeeper.forwardauth.model import BackendRequest, BackendResponse, Decided

SEAL = b"s" * 32
PROXY = "10.0.0.1"
FACTS = "https://facts.example/x"
TRUSTED = {"forwardProxyPolicy": {"trustedProxyIPs": [PROXY]}}


@dataclass
class Seen:
    """The observer: keeps what it is told."""

    decisions: list[Decided] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def decided(self, decided: Decided) -> None:
        self.decisions.append(decided)

    def failed(self, error: BaseException) -> None:
        self.errors.append(error)


class Gate:
    """The decision service of one process."""

    def __init__(self, configuration: Mapping[str, Any], **outside: Any) -> None:
        self.seen, self.memory = Seen(), Memory(1_000)
        found = {
            "backends": FakeBackends(), "tokens": None, "sessions": None, "shared": None,
            "seal": SEAL, "clock": lambda: NOW, "new_id": lambda: "made",
        } | outside  # fmt: skip
        self.decider = Decider(
            compiled(configuration).generation,
            Outside(**found),
            observer=self.seen,
            memory=self.memory,
            correlation_header="x-request-id",
        )

    async def ask(self, target: str = "/nginx/app", peer: str = PROXY, **headers: str) -> Reply:
        told = {
            "x-forwarded-method": "GET", "x-forwarded-proto": "https",
            "x-forwarded-host": "app.example", "x-forwarded-uri": "/admin",
            "x-forwarded-for": "203.0.113.7",
        } | {name.replace("_", "-"): value for name, value in headers.items()}  # fmt: skip
        fields = [(name.encode(), value.encode("latin-1")) for name, value in told.items()]
        reply = self.decider.decide(RawRequest("GET", target.encode("latin-1"), fields, peer))
        return reply if isinstance(reply, Reply) else await reply


# Fail-open: whatever goes wrong, wherever (CVE-2026-25748).

ALL: dict[str, Any] = {
    "endpoints": {
        "app": endpoint(
            "facts",
            authentication=BEARER,
            variables={"host": "request.host"},
            forwardRequestPolicy={"forwardProxyHeaders": True},
            responsePolicy={"pass": {"headers": {"X-User": "{{ response.user }}"}}},
            **TRUSTED,
        )
    },
    "rules": {
        "facts": {
            "auth": [{"match": [{"type": "bearer", "value": ["/^a/", "b"]}]}],
            "backendApi": {"url": FACTS, "forwardProxyHeaders": True},
            "variables": {"name": "backend.body.name"},
            "conditions": {"whenAll": ["request.path == '/admin'"]},
            "responses": {"pass": {"variables": {"user": "{{ vars.local.name }}"}}},
            "cache": {"ttl": {"pass": "30s"}},
        }
    },
}
STEPS = [
    "gatekeeper.forwardauth.service.mount",
    "gatekeeper.forwardauth.service.decide",
    "gatekeeper.forwardauth.service.caching.decode",
    "gatekeeper.forwardauth.service.caching.encode",
    "gatekeeper.forwardauth.decision.admit",
    "gatekeeper.forwardauth.decision.forwarded_headers",
    "gatekeeper.forwardauth.decision.assign",
    "gatekeeper.forwardauth.decision.chain.run",
    "gatekeeper.forwardauth.decision.respond",
    "gatekeeper.forwardauth.agents.chain.execute",
    "gatekeeper.forwardauth.agents.execution.matching.first_match",
    "gatekeeper.forwardauth.agents.execution.matching.forwards",
    "gatekeeper.forwardauth.agents.execution.backends.render",
    "gatekeeper.forwardauth.agents.execution.backends.show",
    "gatekeeper.forwardauth.agents.execution.assign",
    "gatekeeper.forwardauth.agents.caching.key_of",
    "gatekeeper.forwardauth.agents.caching.bounded",
    "gatekeeper.forwardauth.agents.caching.plain",
    "gatekeeper.forwardauth.dialects.dialect.read_head",
    "gatekeeper.forwardauth.request.original._site",
    "gatekeeper.forwardauth.request.original.read_target",
    "gatekeeper.forwardauth.request.trust.TrustedPeers.is_trusted",
    "gatekeeper.forwardauth.request.trust.TrustedPeers.client",
    "gatekeeper.forwardauth.agents.memory.Memory.get",
    "gatekeeper.forwardauth.agents.memory.Memory.put",
]
FAILURES = [
    RuntimeError("canary"),
    EvaluationError("canary"),
    KeyError("canary"),
    RecursionError("canary"),
    UnicodeEncodeError("utf-8", "\ud800", 0, 1, "canary"),
    StopIteration(Reply(200, (), b"")),
    TimeoutError("canary"),
    MemoryError("canary"),
    asyncio.CancelledError("canary"),
]


def good() -> dict[str, Any]:
    backends = FakeBackends(answers={FACTS: answered({"name": "ada"})})
    return {"backends": backends, "shared": FakeSharedCache()}


async def test_the_request_all_steps_of_which_are_made_to_fail_is_allowed() -> None:
    gate = Gate(ALL, **good())
    assert (await gate.ask(authorization="Bearer a")).status == 200


@pytest.mark.parametrize("failure", FAILURES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("step", STEPS)
async def test_a_step_that_fails_lets_nobody_in(
    step: str, failure: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise failure

    gate = Gate(ALL, **good())
    monkeypatch.setattr(step, fail)
    try:
        reply = await gate.ask(authorization="Bearer a")
    except BaseException:  # noqa: BLE001  # the port answers 500 then
        return
    # What a step of keeping results fails at may come after the decision.
    assert reply.status >= 400 or step.endswith("caching.decode")
    assert b"canary" not in reply.body
    assert "canary" not in str(reply.headers)


@pytest.mark.parametrize(
    "wrong",
    [None, True, 0, "", "pass", Outcome.PASS, (), {}, Rejected(200, ""), Reply(200, (), b"")],
    ids=repr,
)
@pytest.mark.parametrize("port", ["backends", "tokens", "sessions"])
async def test_a_port_that_gives_what_it_must_not_lets_nobody_in(port: str, wrong: object) -> None:
    """Type confusion: a tuple is true, `Rejected` too, and neither is a yes."""

    class Wrong:
        async def call(self, _request: BackendRequest) -> Any:
            return wrong

        async def verify(self, _issuer: str, _token: str) -> Any:
            return wrong

        async def live(self, _token: str) -> Any:
            return wrong

    rules = {
        "backends": {"backendApi": {"url": FACTS}},
        "tokens": {"auth": [{"match": [{"type": "jwt", "issuer": "one"}]}]},
        "sessions": {"conditions": {"whenAll": ["session.live"]}},
    }
    issuers = {"one": {"issuer": "https://i.example", "audience": "app"}}
    gate = Gate(
        {
            "server": {"issuers": issuers},
            "endpoints": {"app": endpoint("asks", authentication=BEARER, **TRUSTED)},
            "rules": {"asks": rules[port]},
        },
        **{port: Wrong()},
    )
    assert (await gate.ask(authorization="Bearer a")).status >= 400


# Where nobody may come.


@pytest.mark.parametrize(
    "target",
    [
        "/nginx/none", "/none/auth", "/nginx/app/", "/nginx/App", "/nginx/app%00", "/nginx/ap%70",
        "/nginx//app", "//nginx/app", "/nginx/app;x", "/nginx/app\x00", "/nginx/\xe1pp", "/nginx/",
        "/nginx", "/", "", "/envoy/app2/admin", "/envoy/appadmin", "/auth/app", "/app/auth/",
        "/nginx/broken", "/broken/auth", "/envoy/broken/admin",
    ],
    ids=repr,
)  # fmt: skip
async def test_an_endpoint_of_another_spelling_or_in_quarantine_lets_nobody_in(target: str) -> None:
    gate = Gate(
        {
            "endpoints": {
                "app": endpoint("any", **TRUSTED),
                "broken": endpoint("any", "gone", **TRUSTED),
            },
            "rules": {"any": {}},
        }
    )
    assert (await gate.ask()).status == 200
    assert (await gate.ask(target)).status >= 400


PEERS = [
    "10.0.0.2", "::1", "::ffff:10.0.0.2", "::ffff:0a00:2", "10.0.0.1.evil", "010.0.0.1", "0x0a.1",
    "167772161", "10.0.0.1%eth0", "64:ff9b::10.0.0.1", "2002:a00:1::", "::10.0.0.1", "unix", "",
    "127.0.0.1", "None",
]  # fmt: skip


MOUNTED = ["/app/auth", "/envoy/app/admin", *(f"/{name}/app" for name in DIALECTS if name not in ("auth", "envoy"))]  # fmt: skip
ORIGINAL = {"x_original_method": "GET", "x_original_url": "https://app.example/admin"}


@pytest.mark.parametrize("target", MOUNTED)
@pytest.mark.parametrize("peer", PEERS)
async def test_nobody_but_the_proxy_is_believed(peer: str, target: str) -> None:
    """CVE-2026-40575: the default there was 0.0.0.0/0."""
    gate = Gate({"endpoints": {"app": endpoint("any", **TRUSTED)}, "rules": {"any": {}}})
    assert (await gate.ask(target, peer, host="app.example", **ORIGINAL)).status >= 400


@pytest.mark.parametrize("target", MOUNTED)
@pytest.mark.parametrize("peer", [PROXY, f"::ffff:{PROXY}"])
async def test_the_proxy_is_believed_in_ipv6s_clothes_as_well(peer: str, target: str) -> None:
    gate = Gate({"endpoints": {"app": endpoint("any", **TRUSTED)}, "rules": {"any": {}}})
    assert (await gate.ask(target, peer, host="app.example", **ORIGINAL)).status == 200


# What others cached.

SCOPED: dict[str, Any] = {
    "endpoints": {
        name: endpoint(name, authentication=BEARER, cache={"resultTTL": "60s"}, **TRUSTED)
        for name in ("app", "admin")
    },
    "rules": {
        name: {
            "backendApi": {
                "url": FACTS,
                "introspection": {"token": "{{ request.headers.authorization }}"},
            },
            "conditions": {"whenAll": [f"'{name}' in backend.body.scope"]},
            "cache": {"ttl": {"pass": "60s", "fail": "60s"}},
        }
        for name in ("app", "admin")
    },
}


async def test_a_token_that_one_rule_took_is_not_taken_by_another_for_it() -> None:
    """CVE-2021-32701: a hit skipped the check of the scope."""
    told = answered({"active": True, "scope": ["app"]})
    gate = Gate(SCOPED, backends=FakeBackends(answers={FACTS: told}), shared=FakeSharedCache())
    for _ in range(3):
        assert (await gate.ask(authorization="Bearer t")).status == 200
        assert (await gate.ask("/nginx/admin", authorization="Bearer t")).status == 403


KEPT: dict[str, Any] = {
    "endpoints": {"app": endpoint("facts", authentication=BEARER, **TRUSTED)},
    "rules": {
        "facts": {
            "backendApi": {"url": FACTS, "headers": {"X-Token": "{{ request.headers.authorization }}"}},
            "conditions": {"whenAll": ["backend.body.good"]},
            "cache": {"ttl": {"pass": "60s", "fail": "60s"}},
        }
    },
}  # fmt: skip
PASSED = RuleResult(Outcome.PASS, "", {}, NOW + 3_600)


def forgeries(key: bytes, own: bytes) -> dict[str, bytes]:
    """Make what somebody who can write to the shared cache may put there."""
    other = caching.encode(PASSED, b"k" * 32, SEAL)
    return {
        "a pass, sealed with another secret": caching.encode(PASSED, key, b"x" * 32),
        "a pass, sealed with none": caching.encode(PASSED, key, b""),
        "a pass of another key": other,
        "a pass behind the seal of a fail": own[:32] + other[32:],
        "a fail with one letter changed": own.replace(b'"fail"', b'"pass"'),
        "a pass without a seal": other[32:],
        "zeros": bytes(32) + other[32:],
        "no more than a seal": own[:32],
        "half of it": own[: len(own) // 2],
        "nothing": b"",
        "no JSON, sealed": caching._seal(b"{", key, SEAL) + b"{",
        "another JSON, sealed": caching._seal(b"[1]", key, SEAL) + b"[1]",
        "a pass that is past": caching.encode(PASSED._replace(until=NOW), key, SEAL),
    }


@pytest.mark.parametrize("forgery", forgeries(b"k" * 32, b"s" * 64))
async def test_what_was_altered_in_the_shared_cache_lets_nobody_in(forgery: str) -> None:
    shared = FakeSharedCache()
    backends = FakeBackends(answers={FACTS: answered({"good": False})})
    first = Gate(KEPT, backends=backends, shared=shared)
    assert (await first.ask(authorization="Bearer t")).status == 403
    ((key, (own, ends)),) = shared._kept.items()

    shared._kept[key] = (forgeries(key, own)[forgery], ends)
    second = Gate(KEPT, backends=backends, shared=shared)

    assert (await second.ask(authorization="Bearer t")).status >= 400
    assert shared.gets[-1] == key  # else it was not asked for


# Reload under load.

RELOADS = 1_000


def tenant(name: str) -> dict[str, Any]:
    """A configuration that takes its own token alone, and says whose it is."""
    return {
        "endpoints": {
            "app": endpoint(
                "facts",
                authentication=BEARER,
                variables={"tenant": f"'{name}'"},
                responsePolicy={"pass": {"headers": {"X-User": "{{ vars.global.tenant }}{{ response.user }}"}}},
                cache={"resultTTL": "60s"},
                **TRUSTED,
            )
        },
        "rules": {
            "facts": {
                "auth": [{"match": [{"type": "bearer", "value": [name, "both"]}]}],
                "backendApi": {"url": FACTS},
                "responses": {"pass": {"variables": {"user": f"'{name}'"}}},
                "cache": {"ttl": {"pass": "60s", "fail": "60s"}},
            }
        },
    }  # fmt: skip


async def test_reloads_under_load_allow_nothing_that_neither_configuration_allows() -> None:
    class Slow(FakeBackends):
        async def call(self, request: BackendRequest) -> BackendResponse:
            for _ in range(len(self.calls) % 4):
                await asyncio.sleep(0)
            return await super().call(request)

    gate = Gate(tenant("a"), backends=Slow(answers={FACTS: answered({})}), shared=FakeSharedCache())
    generations = [compiled(tenant(name), digest=name.encode()).generation for name in "ab"]
    allowed: set[tuple[str, str]] = set()
    done = False

    async def load(token: str) -> None:
        number = 0
        while not done:
            number += 1
            in_force = gate.decider.generation.number
            name = f"{token}-{number}-{id(asyncio.current_task())}"
            reply = await gate.ask(authorization=f"Bearer {token}", x_request_id=name)
            if reply.status == 200:
                user = dict(reply.headers)["x-user"]
                # Of one configuration, whole: the one that was in force when it was asked.
                assert user == "ab"[in_force % 2] * 2
                assert token in ("both", user[0])
                allowed.add((token, user))
            await asyncio.sleep(0)

    gate.decider.replace(dataclasses.replace(generations[0], number=0))
    tasks = [asyncio.create_task(load(token)) for token in ("a", "b", "both", "neither") * 3]
    for number in range(1, RELOADS + 1):
        gate.decider.replace(dataclasses.replace(generations[number % 2], number=number))
        for _ in range(3):
            await asyncio.sleep(0)
    done = True
    await asyncio.gather(*tasks)
    assert {("a", "aa"), ("b", "bb"), ("both", "aa"), ("both", "bb")} == allowed
    assert gate.seen.errors == []
