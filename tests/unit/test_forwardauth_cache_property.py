"""A gate that keeps results answers as one that keeps none, whatever its configuration says.

Configurations are drawn from a grammar over the vocabulary. Backends and issuers answer as
scripted: what they say depends on what they are asked and on the second alone. The clock moves
between requests, so what reads it, or a session, shows when it was kept.
"""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factories.decisions import NOW, Gate, request
from gatekeeper.forwardauth.model import (
    Answer,
    BackendResponse,
    CallBackend,
    Claim,
    Effect,
    FindSessions,
    LiveSession,
    OriginalRequest,
    Rejected,
    Settle,
    VerifyToken,
)

CONDITIONS = [
    "request.method == 'GET'",
    "request.path.startsWith('/a')",
    "request.host == 'app.example'",
    "request.rawQuery != ''",
    "lookup(request.headers, 'x-role') == 'admin'",
    "'x-role' in request.headers",
    "request.headers['x-role'] == 'admin'",
    "size(request.headers) > 2",
    "has(request.query.q)",
    "lookup(request.query, 'q') == '1'",
    "size(request.queryAll) > 1",
    "lookup(request.cookies, 'c') == '1'",
    "request.client == '203.0.113.7'",
    "request.endpoint == 'api'",
    "admission.authenticated",
    "size(rules) > 0",
    "size(response) > 0",
    "lookup(vars.global, 'g') == 'GET'",
    "size(vars.global) > 1",
    "now.getSeconds() % 2 == 0",
    "session.live",
    "env.mode == 'a'",
]
OF_THE_RULE = [
    "auth.selected == 'bearer'",
    "lookup(lookup(auth.input, 'bearer'), 'token') == 'a'",
    "lookup(lookup(auth.input, 'header'), 'x-key') == 'k'",
    "lookup(auth.input, 'header') != null",
    "size(auth.input) == 0",
    "backend.status == 200",
    "lookup(backend.body, 'n') == 1",
    "backend.accepted",
    "backend.error == ''",
    "size(vars.local) > 0",
]
VALUES = [
    "{{ request.method }}",
    "{{ request.path }}",
    "{{ request.headers['x-role'] | default('none') }}",
    "{{ request.query.q | default('none') }}",
    "{{ request.cookies | tojson }}",
    "{{ request.endpoint }}",
    "request.queryAll",
    "request.headers",
    "size(request.query)",
    "request.client",
    "env.mode",
]
VALUES_OF_THE_RULE = [
    "backend.body",
    "{{ backend.status }}",
    "{{ auth.selected }}",
    "auth.input",
    "forward.headers",
    "size(vars.local)",
]
FAVOURITES = [
    [],
    ["now.getSeconds() % 2 == 0"],
    ["lookup(lookup(auth.input, 'bearer'), 'token') == 'a'"],
    ["session.live"],
    ["lookup(request.headers, 'x-role') == 'admin'"],
]
"""A rule that reads much shows little: some read one thing above all."""
TTL = st.sampled_from([None, "3s", "60s", "60s"])


@st.composite
def keeping(draw: st.DrawFn, *keys: str) -> dict[str, str]:
    """Give some of these keys a time; None: the key is left out."""
    drawn = {key: draw(TTL) for key in keys}
    return {key: seconds for key, seconds in drawn.items() if seconds is not None}


GROUPS: list[list[dict[str, Any]]] = [
    [],
    [{"match": [{"type": "bearer"}]}],
    [{"match": [{"type": "bearer", "value": ["a", "/^b/"]}]}, {"match": [{"type": "none"}]}],
    [
        {"match": [{"type": "header", "name": "x-key"}, {"type": "bearer"}]},
        {"match": [{"type": "header", "name": "x-key"}]},
    ],
    [{"match": [{"type": "jwt", "issuer": "one"}]}, {"match": [{"type": "none"}]}],
    [
        {
            "match": [{"type": "query", "name": "q"}],
            "forwardAs": [{"type": "header", "name": "x-q", "value": "{{ auth.input.query.q }}"}],
        },
        {"match": [{"type": "none"}]},
    ],
    [{"match": [{"type": "cookie", "name": "c"}]}, {"match": [{"type": "none"}]}],
]
"""What the matchers look for is among what both endpoints allow."""

URLS = [
    "https://facts.example/x",
    "https://facts.example/x/{{ request.method }}",
    "https://facts.example/x?q={{ request.query.q | default('') }}",
    "https://facts.example/{{ auth.selected | default('none', true) }}/{{ request.headers['x-role'] | default('none') }}",
]


def some(values: list[str], most: int) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), max_size=most, unique=True)


@st.composite
def backends(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "url": draw(st.sampled_from(URLS)),
        "headers": draw(
            st.sampled_from(
                [{}, {"x-role": None}, {"cookie": None}, {"x-path": "{{ request.path }}"}]
            )
        ),
        "query": draw(st.sampled_from([{}, {"q": None}, {"host": "{{ request.host }}"}])),
        "forwardProxyHeaders": draw(st.booleans()),
        "acceptedStatuses": draw(st.sampled_from([[200], [200, 404], [200, 500]])),
    }


@st.composite
def rules(draw: st.DrawFn) -> dict[str, Any]:
    conditions = [*CONDITIONS, *OF_THE_RULE, *draw(st.sampled_from(FAVOURITES)) * 8]
    values = VALUES + VALUES_OF_THE_RULE
    rule: dict[str, Any] = {
        "auth": draw(st.sampled_from(GROUPS)),
        "conditions": {
            "whenAll": draw(
                st.sampled_from([[], draw(some(conditions, 1)), draw(some(conditions, 2))])
            ),
            "failWhen": draw(st.sampled_from([[], draw(some(conditions, 1))])),
            "errorWhen": draw(st.sampled_from([[], [], [], draw(some(conditions, 1))])),
        },
        "responses": {
            outcome: {
                "variables": dict(zip(["seen", outcome], draw(some(values, 2)), strict=False))
            }
            for outcome in ("pass", "fail", "error")
        },
        "cache": {
            "ttl": draw(keeping("pass", "fail")),
            "followCacheControl": draw(st.booleans()),
        },
    }
    if draw(st.booleans()):
        rule["backendApi"] = draw(backends())
    if draw(st.booleans()):
        rule["variables"] = {"local": draw(st.sampled_from(VALUES))}
        rule["conditions"]["whenAll"].append("vars.local.local != 'POST'")
    return rule


@st.composite
def endpoints(draw: st.DrawFn, names: list[str]) -> dict[str, Any]:
    return {
        "authentication": {
            "allow": {"authorization": ["bearer"], "header": ["x-key"], "query": ["q"], "cookie": ["c"], "none": draw(st.booleans())},
            "required": False,
        },
        "forwardRequestPolicy": {"forwardProxyHeaders": draw(st.booleans())},
        "variables": {"g": draw(st.sampled_from(VALUES)), "h": draw(st.sampled_from([*VALUES, "now"]))},
        "rules": [{"name": name} for name in names],
        "responsePolicy": {
            "pass": {"headers": {"x-response": "{{ response | tojson }}", "x-rules": "{{ rules | tojson }}", "x-role": None}},
            "fail": {"body": "{{ response | tojson }}"},
            "error": {"body": "{{ rules | tojson }}"},
        },
        "cache": draw(keeping("resultTTL")),
    }  # fmt: skip


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    made = {f"rule{index}": draw(rules()) for index in range(draw(st.integers(1, 3)))}
    names = list(made)
    return {
        "endpoints": {
            "api": draw(endpoints(names)),
            "web": draw(endpoints(draw(st.permutations(names)))),
        },
        "rules": made,
    }


PARTS: dict[str, list[Any]] = {
    "endpoint": ["api", "api", "web"],
    "method": ["GET", "GET", "POST"],
    "path": ["/a", "/a", "/b"],
    "query": ["", "", "q=1", "q=1", "q=2", "q=1&p=2", "p=1", "q=1&q=2", "q=%zz"],
    "client": ["203.0.113.7", "203.0.113.8"],
    "authorization": ["Bearer a", "Bearer a", "Bearer b", "Bearer c", None],
    "x-role": ["admin", "user", None],
    "x-key": ["k", "l", None],
    "cookie": ["c=1", "c=2; d=1", None],
}
HEADERS = ("authorization", "x-role", "x-key", "cookie")
PART = st.sampled_from([*PARTS, "authorization", "authorization", "x-role", "query"]).flatmap(
    lambda name: st.tuples(st.just(name), st.sampled_from(PARTS[name]))
)
Asked = tuple[int, str, OriginalRequest]


@st.composite
def sequences(draw: st.DrawFn) -> list[Asked]:
    """A request and others that differ from it in one or two parts, again and again."""
    first = {name: draw(st.sampled_from(values)) for name, values in PARTS.items()}
    others = draw(st.lists(st.lists(PART, min_size=1, max_size=2), min_size=1, max_size=3))
    pool = [first, *(first | dict(parts) for parts in others)]
    return [
        (draw(st.sampled_from([0, 0, 0, 1, 5])), parts["endpoint"], _request(parts))
        for parts in draw(st.lists(st.sampled_from(pool), min_size=4, max_size=12))
    ]


def _request(parts: dict[str, Any]) -> OriginalRequest:
    headers = {name: parts[name] for name in HEADERS if parts[name] is not None}
    return request(parts["method"], parts["path"], query=parts["query"], headers=headers, client=parts["client"])  # fmt: skip


class World:
    """Everything outside: it answers by what it is asked and by the second alone."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self, effect: Effect) -> Any:
        match effect:
            case CallBackend(asked):
                chance = zlib.crc32(repr(asked).encode())
                if chance % 11 == 0:
                    return BackendResponse(error="it cannot be connected to")
                control = ["", "max-age=30", "no-store", "max-age=2"][chance % 4]
                return BackendResponse(
                    status=[200, 200, 200, 404, 500][chance % 5],
                    body={"n": chance % 3, "told": chance},
                    headers={"cache-control": control} if control else {},
                )
            case VerifyToken(_, token):
                if token == "a" and self.now < NOW + 3:
                    return {"sub": "a", "exp": NOW + 3}
                return Rejected(503 if token == "c" and self.now < NOW + 1 else 401, "not now")
            case FindSessions():
                live = LiveSession(id="1", target="t", role="r", expires_at="2030-01-01T00:00:00Z")
                return (live,) if self.now % 2 else ()
            case Claim() | Settle():
                raise AssertionError(effect)


def without_caches(configuration: dict[str, Any]) -> dict[str, Any]:
    return {
        section: {
            name: {key: value for key, value in definition.items() if key != "cache"}
            for name, definition in definitions.items()
        }
        for section, definitions in configuration.items()
    }


def said(answer: Answer) -> tuple[object, ...]:
    return (*answer[:5], answer.reason)


def check(configuration: dict[str, Any], asked: list[Asked]) -> None:
    world = World()
    keeping = Gate(configuration, outside=world, environment={"mode": "a"})
    fresh = Gate(without_caches(configuration), outside=world, environment={"mode": "a"})
    for seconds, endpoint, original in asked:
        world.now = keeping.now = fresh.now = world.now + seconds
        one = keeping.ask(original, endpoint=endpoint)
        other = fresh.ask(original, endpoint=endpoint)
        assert said(one) == said(other)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(configurations(), sequences())
def test_what_is_kept_answers_as_what_is_fresh(
    configuration: dict[str, Any], asked: list[Asked]
) -> None:
    check(configuration, asked)


@pytest.mark.slow
@settings(max_examples=4_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(configurations(), sequences())
def test_what_is_kept_answers_as_what_is_fresh_at_length(
    configuration: dict[str, Any], asked: list[Asked]
) -> None:
    check(configuration, asked)
