"""Agent 9: under which key a result is kept, for how long, and what a hit gives back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factories.decisions import NOW, Gate, bearer, compiled, endpoint, request
from fakes.backends import answered
from gatekeeper.forwardauth.agents import caching
from gatekeeper.forwardauth.agents.caching import Caching, key_of
from gatekeeper.forwardauth.agents.memory import Memory
from gatekeeper.forwardauth.model import (
    BackendResponse,
    Outcome,
    Rejected,
    RuleResult,
    VerifyToken,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ALLOW = {"allow": {"authorization": ["bearer"], "header": ["x-key"], "query": ["key"], "cookie": ["sid"], "none": True}}  # fmt: skip
TTL = {"ttl": {"pass": "60s", "fail": "10s"}}
BACKEND = {"url": "https://facts.example/x"}


def one_rule(rule: dict[str, Any], **of_the_endpoint: Any) -> dict[str, Any]:
    return {
        "endpoints": {"api": endpoint("rule", authentication=ALLOW, **of_the_endpoint)},
        "rules": {"rule": rule},
    }


def keeping(
    rule: dict[str, Any] | None = None,
    answer: BackendResponse | Callable[[Any], Any] | None = None,
    **of_the_endpoint: Any,
) -> Gate:
    """Make a gate whose one rule asks a backend; `gate.calls` tells what was kept."""
    outside = answer if callable(answer) else lambda _: answer or answered({})
    whole = {"backendApi": BACKEND, "cache": TTL, **(rule or {})}
    return Gate(one_rule(whole, **of_the_endpoint), outside=outside)


# The key

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
PLAN = Caching(
    name="rule", salt=b"salt", reads=(("a",), ("b",), ("c", "d")), pass_seconds=1, fail_seconds=1, follow=False, max_seconds=1,
)  # fmt: skip


def typed(value: Any) -> Any:
    """Tell true from 1, and None from what is not there, as `==` does not."""
    if isinstance(value, list):
        return [typed(item) for item in value]
    if isinstance(value, dict):
        return {name: typed(item) for name, item in value.items()}
    return (type(value).__name__, value)


SCOPES = st.fixed_dictionaries(
    {"c": st.fixed_dictionaries({}, optional={"d": VALUES, "e": VALUES})},
    optional={"a": VALUES, "b": VALUES},
)
NEAR = st.sampled_from(
    [
        {"a": "x", "b": "y", "c": {}},
        {"a": "xy", "b": "", "c": {}},
        {"a": "", "b": "xy", "c": {}},
        {"a": "xs1:y", "b": "", "c": {}},
        {"a": ["x", "y"], "c": {}},
        {"a": ["x"], "b": ["y"], "c": {}},
        {"a": [["x"], "y"], "c": {}},
        {"a": {"x": "y"}, "c": {}},
        {"a": 1, "c": {}},
        {"a": "1", "c": {}},
        {"a": True, "c": {}},
        {"a": 1.0, "c": {}},
        {"a": b"1", "c": {}},
        {"a": None, "c": {}},
        {"c": {}},
        {"c": {"d": None}},
        {"c": {"d": ""}},
        {"c": {"d": []}},
        {"c": {"d": {}}},
    ]
)


@settings(max_examples=300, deadline=None)
@given(SCOPES | NEAR, SCOPES | NEAR)
def test_two_requests_have_one_key_only_when_they_read_the_same(one: Any, other: Any) -> None:
    def read(scope: Any) -> Any:
        missing = object
        return typed([scope.get("a", missing), scope.get("b", missing), scope["c"].get("d", missing)])  # fmt: skip

    assert (key_of(PLAN, one) == key_of(PLAN, other)) is (read(one) == read(other))


def test_the_order_of_a_map_and_what_is_not_read_make_no_difference() -> None:
    one = {"a": {"x": 1, "y": 2}, "c": {"e": 1}, "z": 1}
    other = {"a": {"y": 2, "x": 1}, "c": {"e": 2}, "z": 2}
    assert key_of(PLAN, one) == key_of(PLAN, other)


def key(configuration: dict[str, Any], digest: bytes = b"digest", rule: int = 0) -> bytes:
    plan = compiled(configuration, digest=digest).generation.plans["api"].chain.rules[rule].caching
    assert plan is not None
    return key_of(plan, {}, 0)


def test_the_configuration_the_rule_and_the_salt_are_in_the_key() -> None:
    rules = {"one": {"cache": TTL}, "two": {"cache": TTL}}
    configuration = {"endpoints": {"api": endpoint("one", "two")}, "rules": rules}
    salted = configuration | {"server": {"cache": {"keySalt": "salt"}}}
    other = configuration | {"server": {"cache": {"keySalt": "tlas"}}}
    keys = [key(configuration), key(configuration, b"other"), key(configuration, rule=1), key(salted), key(other)]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert key(salted) == keys[3]


READS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("request.method == 'GET'", {"method": "GET"}, {"method": "POST"}),
    ("request.path == '/a'", {"path": "/a"}, {"path": "/b"}),
    ("lookup(request.query, 'q') == '1'", {"query": "q=1"}, {"query": "q=2"}),
    ("request.rawQuery == 'q=1'", {"query": "q=1"}, {"query": "q=2"}),
    ("size(request.queryAll) == 1", {"query": "q=1"}, {"query": "q=1&r=1"}),
    ("lookup(request.headers, 'x-role') == 'a'", {"headers": {"x-role": "a"}}, {"headers": {"x-role": "b"}}),
    ("'x-role' in request.headers", {"headers": {"x-role": ""}}, {}),
    ("size(request.headers) == 1", {"headers": {"x-role": "a"}}, {"headers": {"x-role": "a", "x-b": "b"}}),
    ("lookup(request.cookies, 'c') == '1'", {"headers": {"cookie": "c=1"}}, {"headers": {"cookie": "c=2"}}),
    ("request.client == '203.0.113.7'", {}, {"client": "203.0.113.8"}),
    ("ip_in(request.client, '203.0.113.0/29')", {}, {"client": "203.0.113.8"}),
    ("admission.authenticated", {"headers": {"x-key": "k"}}, {}),
    ("vars.global.a == 'GET'", {"method": "GET"}, {"method": "POST"}),
]  # fmt: skip


@pytest.mark.parametrize(("condition", "first", "second"), READS)
def test_what_a_rule_reads_is_in_the_key(
    condition: str, first: dict[str, Any], second: dict[str, Any]
) -> None:
    variables = {"a": "request.method"}
    gate = keeping({"conditions": {"whenAll": [condition]}}, variables=variables)
    for original, outcome, calls in ((first, "pass", 1), (second, "fail", 2), (first, "pass", 2)):
        answer = gate.ask(request(**original))
        assert (answer.outcome, len(gate.calls)) == (outcome, calls)


@pytest.mark.parametrize("other", [{"method": "POST"}, {"path": "/b"}, {"query": "q=1"}, {"headers": {"x-a": "b"}}, {"client": "203.0.113.8"}])  # fmt: skip
def test_what_no_rule_reads_is_not_in_the_key(other: dict[str, Any]) -> None:
    gate = keeping()
    gate.ask(request())
    gate.ask(request(**other))
    assert len(gate.calls) == 1


@pytest.mark.parametrize(
    "backend",
    [
        {"url": "https://facts.example/{{ request.headers['x-a'] }}"},
        {"headers": {"x-a": None}},
        {"headers": {"x-b": "{{ request.headers['x-a'] }}"}},
        {"method": "POST", "body": "{{ request.headers['x-a'] }}"},
    ],
)
def test_what_a_backend_is_asked_is_in_the_key(backend: dict[str, Any]) -> None:
    gate = keeping({"backendApi": BACKEND | backend})
    for value, calls in (("1", 1), ("2", 2), ("1", 2)):
        gate.ask(request(headers={"x-a": value}))
        assert len(gate.calls) == calls


def test_the_group_that_won_and_its_credentials_are_in_the_key() -> None:
    groups = [{"match": [{"type": "header", "name": "x-key", "value": "k"}]}, {"match": [{"type": "header", "name": "x-key"}]}, {"match": [{"type": "none"}]}]  # fmt: skip
    gate = keeping({"auth": groups})
    for headers, calls in (({"x-key": "k"}, 1), ({"x-key": "l"}, 2), ({"x-key": "m"}, 3), ({}, 4), ({"x-key": "l"}, 4)):  # fmt: skip
        gate.ask(request(headers=headers))
        assert len(gate.calls) == calls


def test_one_token_has_a_result_for_each_rule() -> None:
    """CVE-2021-32701 and its like: what one rule found out about a token was taken for another's."""
    auth = [{"match": [{"type": "bearer"}]}]
    rules = {
        "lax": {"auth": auth, "cache": TTL, "backendApi": BACKEND},
        "strict": {"auth": auth, "cache": TTL, "backendApi": BACKEND, "conditions": {"whenAll": ["backend.body.admin"]}},
    }  # fmt: skip
    gate = Gate(
        {"endpoints": {"api": endpoint("lax", authentication=ALLOW), "web": endpoint("strict", authentication=ALLOW)}, "rules": rules},
        outside=lambda _: answered({"admin": False}),
    )  # fmt: skip
    original = request(headers=bearer("t"))
    assert gate.ask(original).outcome is Outcome.PASS
    assert gate.ask(original, endpoint="web").outcome is Outcome.FAIL
    assert len(gate.calls) == 2


def test_a_rule_that_reads_its_endpoint_has_a_result_for_each() -> None:
    rule = {"conditions": {"whenAll": ["request.endpoint == 'api'"]}, "cache": TTL}
    gate = Gate(
        {"endpoints": {"api": endpoint("rule"), "web": endpoint("rule")}, "rules": {"rule": rule}}
    )
    assert gate.ask(request()).outcome is Outcome.PASS
    assert gate.ask(request(), endpoint="web").outcome is Outcome.FAIL


@pytest.mark.parametrize("read", ["now > timestamp('2020-01-01T00:00:00Z')", "request.id != ''", "session.live || true", "size(session.sessions) == 0"])  # fmt: skip
def test_what_reads_the_moment_or_a_session_is_never_kept(read: str) -> None:
    gate = keeping({"conditions": {"whenAll": [read]}}, cache={"resultTTL": "60s"})
    for calls in (1, 2):
        assert gate.ask(request()).outcome is Outcome.PASS
        assert len(gate.calls) == calls


# For how long


def lasting(gate: Gate, *moments: float) -> list[int]:
    """Ask at these moments; return the number of calls after each."""
    made = []
    for moment in moments:
        gate.now = NOW + moment
        gate.ask(request())
        made.append(len(gate.calls))
    return made


def test_pass_and_fail_are_kept_for_their_own_time() -> None:
    assert lasting(keeping(), 0, 9, 59.9, 60) == [1, 1, 1, 2]
    assert lasting(keeping(answer=answered({}, status=403)), 0, 9.9, 10) == [1, 1, 2]
    only_fail = {"cache": {"ttl": {"fail": "10s"}}}
    assert lasting(keeping(only_fail), 0, 0) == [1, 2]
    assert lasting(keeping(only_fail, answered({}, status=403)), 0, 0) == [1, 1]
    assert lasting(keeping({"cache": {"ttl": {"pass": "0s"}}}), 0, 0) == [1, 2]
    assert lasting(keeping({"cache": {}}), 0, 0) == [1, 2]


@pytest.mark.parametrize(
    ("rule", "answer"),
    [
        ({}, BackendResponse(error="late")),
        ({}, answered({}, status=500)),
        ({"conditions": {"errorWhen": ["true"]}}, answered({})),
        ({"conditions": {"whenAll": ["backend.body.absent"]}}, answered({})),
        ({"conditions": {"failWhen": ["backend.status == 503"]}}, answered({}, status=503)),
        ({"conditions": {"failWhen": ["backend.error != ''"]}}, BackendResponse(error="late")),
        ({"backendApi": BACKEND | {"acceptedStatuses": [500]}}, answered({}, status=500)),
        ({"responses": {"pass": {"variables": {"a": "backend.body.absent"}}}}, answered({})),
    ],
)
def test_an_error_and_what_is_made_of_one_is_never_kept(
    rule: dict[str, Any], answer: BackendResponse
) -> None:
    gate = keeping(rule, answer, cache={"resultTTL": "60s"})
    assert lasting(gate, 0, 0, 1) == [1, 2, 3]


FOLLOWED: list[tuple[dict[str, str], float | None]] = [
    ({}, None),
    ({"cache-control": ""}, None),
    ({"cache-control": "public"}, None),
    ({"cache-control": "max-age=30"}, 30),
    ({"cache-control": "MAX-AGE=30"}, 30),
    ({"cache-control": 'max-age="30"'}, 30),
    ({"cache-control": "max-age=30, s-maxage=5"}, 5),
    ({"cache-control": "s-maxage=5, max-age=30"}, 5),
    ({"cache-control": "max-age=5, s-maxage=30"}, 30),
    ({"cache-control": "max-age=30, max-age=5"}, 5),
    ({"cache-control": "max-age=0"}, 0),
    ({"cache-control": "no-store, max-age=30"}, 0),
    ({"cache-control": "max-age=30, no-cache"}, 0),
    ({"cache-control": 'max-age=30, no-cache="set-cookie"'}, 0),
    ({"cache-control": "private, max-age=30"}, 0),
    ({"cache-control": 'max-age=30, private="x"'}, 0),
    ({"cache-control": "s-maxage=30, private"}, 0),
    ({"cache-control": "max-age=x"}, 0),
    ({"cache-control": "max-age=-1"}, 0),
    ({"cache-control": "max-age=1.5"}, 0),
    ({"cache-control": "max-age"}, 0),
    ({"cache-control": "max-age=99999999999999"}, 0),
    ({"cache-control": "max-age=30, s-maxage=x"}, 0),
    ({"cache-control": "a," * 60 + "max-age=30"}, 0),
    ({"cache-control": "max-age=30" + ",a" * 60 + ",no-store"}, 0),
    ({"cache-control": "max-age=30", "vary": "*"}, 0),
    ({"cache-control": "max-age=30", "vary": "accept, *"}, 0),
    ({"vary": "*"}, 0),
    ({"cache-control": "max-age=30", "vary": "authorization, accept"}, 30),
    ({"cache-control": "max-age=30", "age": "10"}, 20),
    ({"cache-control": "max-age=30", "age": "40"}, 0),
    ({"cache-control": "max-age=30", "age": "x"}, 0),
    ({"cache-control": "max-age=30", "age": "1, 2"}, 0),
]


@pytest.mark.parametrize(("headers", "seconds"), FOLLOWED)
@pytest.mark.parametrize("status", [200, 404])
def test_cache_control_is_followed(
    headers: dict[str, str], seconds: float | None, status: int
) -> None:
    """RFC 9111. What it says counts instead of `ttl`; when it says nothing, `ttl` counts."""
    rule = {"cache": {"ttl": {"pass": "50s", "fail": "50s"}, "followCacheControl": True}}
    gate = keeping(rule, answered({}, status=status, headers=headers))
    kept = 50 if seconds is None else seconds
    assert lasting(gate, 0, kept - 0.1 if kept else 0, kept) == ([1, 1, 2] if kept else [1, 2, 3])


def test_cache_control_alone_keeps_what_it_allows() -> None:
    follow = {"cache": {"followCacheControl": True}}
    allowed = answered({}, headers={"cache-control": "max-age=30"})
    assert lasting(keeping(follow, allowed), 0, 29, 30) == [1, 1, 2]
    assert lasting(keeping(follow, answered({})), 0, 0) == [1, 2]
    assert lasting(keeping({"cache": TTL}, allowed), 0, 59, 60) == [1, 1, 2]


def test_nothing_is_kept_longer_than_the_server_says() -> None:
    rule = {"backendApi": BACKEND, "cache": {"followCacheControl": True}}
    configuration = one_rule(rule) | {"server": {"cache": {"maxTtl": "20s"}}}
    long = answered({}, headers={"cache-control": "max-age=3600"})
    assert lasting(Gate(configuration, outside=lambda _: long), 0, 19, 20) == [1, 1, 2]


# What a hit gives back


def exporting(outcome: str) -> Gate:
    exports = {"a": "backend.body.a", "b": "request.path"}
    first = {
        "backendApi": BACKEND | {"acceptedStatuses": [200]},
        "cache": TTL,
        "responses": {outcome: {"variables": exports}},
    }
    rules: dict[str, Any] = {"first": first}
    if outcome == "pass":
        rules["second"] = {
            "conditions": {"whenAll": ["rules.first.a.n == 1", "response.a.l[1] == 'x'"]},
            "responses": {"pass": {"variables": {"b": "'second'"}}},
        }
    policy = {
        "pass": {"headers": {"x-a": "{{ response.a | tojson }}", "x-b": "{{ response.b }}", "x-r": "{{ rules.first | tojson }}"}},
        "fail": {"body": "{{ response | tojson }}"},
    }  # fmt: skip
    if outcome == "fail":
        policy.pop("pass")
    body = {"a": {"n": 1, "l": [None, "x", 1.5, True], "é": {}}}
    return Gate(
        {"endpoints": {"api": endpoint(*rules, responsePolicy=policy)}, "rules": rules},
        outside=lambda _: answered(body, status=200 if outcome == "pass" else 404),
    )


@pytest.mark.parametrize("outcome", ["pass", "fail"])
def test_a_hit_restores_what_was_exported(outcome: str) -> None:
    gate = exporting(outcome)
    fresh, kept = gate.ask(request()), gate.ask(request())
    assert len(gate.calls) == 1
    assert (fresh.outcome, fresh) == (outcome, kept)
    assert '"l":[null,"x",1.5,true]' in str(fresh)


def test_a_hit_on_a_chain_restores_what_its_rules_exported() -> None:
    gate = exporting("pass")
    configuration = dict(gate.configuration)
    api = configuration["endpoints"]["api"] | {"cache": {"resultTTL": "60s"}}
    gate = Gate(configuration | {"endpoints": {"api": api}}, outside=gate.outside)
    fresh, kept = gate.ask(request()), gate.ask(request())
    assert (fresh.origin, kept.origin) == ("fresh", "memory")
    assert fresh == kept._replace(origin="fresh")
    assert len(gate.calls) == 1


# The chain


def test_a_chain_is_kept_no_longer_than_its_rules() -> None:
    long = {"cache": {"ttl": {"pass": "60s"}}}
    rules = {"long": long, "short": {"backendApi": BACKEND, "cache": {"ttl": {"pass": "5s"}}}}
    chained = endpoint("long", "short", cache={"resultTTL": "30s"})
    configuration = {"endpoints": {"api": chained}, "rules": rules}
    assert lasting(Gate(configuration, outside=lambda _: answered({})), 0, 4.9, 5) == [1, 1, 2]


def test_a_chain_of_rules_that_are_not_kept_is_kept_itself() -> None:
    gate = keeping({"cache": {}}, cache={"resultTTL": "30s"})
    assert lasting(gate, 0, 29.9, 30) == [1, 1, 2]
    refused = keeping({"cache": {}}, answered({}, status=404), cache={"resultTTL": "30s"})
    assert lasting(refused, 0, 29.9, 30) == [1, 1, 2]


def test_a_chain_is_kept_for_the_credentials_it_was_asked_with() -> None:
    gate = keeping({"cache": {}}, cache={"resultTTL": "30s"})
    given = [{}, bearer("t"), bearer("u"), {"x-key": "k"}, {"cookie": "sid=1"}]
    for calls, headers in enumerate(given, start=1):
        for _ in range(2):
            gate.ask(request(headers=headers))
            assert len(gate.calls) == calls
    gate.ask(request(query="key=k"))
    assert len(gate.calls) == len(given) + 1


JWT = {"auth": [{"match": [{"type": "jwt", "issuer": "one"}]}, {"match": [{"type": "none"}]}], "cache": {}}  # fmt: skip


def issuer(*, unknown: bool = False) -> Callable[[Any], Any]:
    def outside(effect: Any) -> Any:
        if not isinstance(effect, VerifyToken):
            return answered({})
        return Rejected(503, "not now") if unknown else {"sub": "a", "exp": NOW + 7}

    return outside


def test_a_chain_is_kept_no_longer_than_a_token_it_was_judged_by() -> None:
    gate = keeping(JWT, issuer(), cache={"resultTTL": "30s"})
    original = request(headers=bearer("t"))
    for moment, calls in ((0, 1), (6.9, 1), (7, 2)):
        gate.now = NOW + moment
        gate.ask(original)
        assert len(gate.calls) == calls


def test_nothing_is_kept_of_a_token_whose_issuer_cannot_be_asked() -> None:
    for cache in ({}, TTL):
        gate = keeping(JWT | {"cache": cache}, issuer(unknown=True), cache={"resultTTL": "30s"})
        for calls in (1, 2):
            assert gate.ask(request(headers=bearer("t"))).outcome is Outcome.PASS
            assert len(gate.calls) == calls


# The tiers


def result(until: float = NOW + 60, **exports: Any) -> RuleResult:
    return RuleResult(Outcome.PASS, "", {"rule": exports}, until)


def test_memory_is_bounded_and_the_least_recently_used_goes_first() -> None:
    memory = Memory(3)
    for name in (b"a", b"b", b"c"):
        memory.put(name, result(), NOW)
    assert memory.get(b"a", NOW) is not None
    memory.put(b"d", result(), NOW)
    assert len(memory) == 3
    assert memory.get(b"b", NOW) is None
    assert memory.get(b"a", NOW) is not None
    assert memory.get(b"a", NOW + 60) is None
    assert len(memory) == 2
    memory.put(b"e", result(NOW), NOW)
    assert memory.get(b"e", NOW) is None


def test_an_entry_of_the_shared_tier_is_as_it_was() -> None:
    kept = result(a={"é": [1, 1.5, None, True, "\ud800"]})
    sealed = caching.encode(kept, b"k" * 32, b"secret")
    assert caching.decode(sealed, b"k" * 32, b"secret") == kept._replace(origin="shared")


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_an_entry_of_which_one_byte_is_another_is_none(at: int, by: int) -> None:
    sealed = bytearray(caching.encode(result(a="b"), b"k" * 32, b"secret"))
    sealed[at % len(sealed)] ^= by
    assert caching.decode(bytes(sealed), b"k" * 32, b"secret") is None


def test_an_entry_under_another_key_or_secret_or_cut_short_is_none() -> None:
    sealed = caching.encode(result(a="b"), b"k" * 32, b"secret")
    assert caching.decode(sealed, b"l" * 32, b"secret") is None
    assert caching.decode(sealed, b"k" * 32, b"other") is None
    for size in (0, 1, 31, 32, 33, len(sealed) - 1):
        assert caching.decode(sealed[:size], b"k" * 32, b"secret") is None
