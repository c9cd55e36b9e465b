"""An answer that is remembered is the answer that would be made."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factories.decisions import ANYBODY, BEARER, Gate, bearer, compiled, endpoint, request
from gatekeeper.forwardauth.agents import recall
from gatekeeper.forwardauth.model import Answer, OriginalRequest, Outcome

TOKEN = {"auth": [{"match": [{"type": "bearer", "value": "good"}]}]}


def remembered(rule: Mapping[str, Any], **api: Any) -> recall.Recall | None:
    authentication = api.pop("authentication", BEARER)
    found = compiled(
        {
            "endpoints": {"api": endpoint("rule", authentication=authentication, **api)},
            "rules": {"rule": rule},
        }
    ).generation
    assert not found.skipped
    return found.plans["api"].recall


BACKEND = {"backendApi": {"url": "https://facts.example/"}}
KEEPS = {"cache": {"ttl": {"pass": "1m"}}}


@pytest.mark.parametrize(
    ("rule", "api"),
    [
        (BACKEND, {}),
        ({"auth": [{"match": [{"type": "jwt", "issuer": "corp"}]}]}, {}),
        ({"conditions": {"whenAll": ["session.live"]}}, {}),
        ({"conditions": {"whenAll": ["now.getHours() < 24"]}}, {}),
        ({"conditions": {"whenAll": ["request.id != ''"]}}, {}),
        ({"conditions": {"whenAll": ["size(request.headers) > 0"]}}, {}),
        ({"conditions": {"whenAll": ["size(forward.headers) == 0"]}}, {}),
        (TOKEN | KEEPS, {}),
        (TOKEN, {"cache": {"resultTTL": "1m"}}),
        (TOKEN, {"responsePolicy": {"pass": {"headers": {"x-id": "{{ request.id }}"}}}}),
        (TOKEN, {"variables": {"a": "size(request.headersAll)"}}),
    ],
)
def test_what_asks_others_or_depends_on_too_much_is_not_remembered(
    rule: dict[str, Any], api: dict[str, Any]
) -> None:
    assert remembered(rule, **api) is None


def test_refusals_and_large_or_repeated_parts_are_not_remembered() -> None:
    memory = remembered(TOKEN)
    assert memory is not None
    passed, refused = Answer(Outcome.PASS, 200), Answer(Outcome.FAIL, 403)
    large = memory.parts(request(headers=bearer("x" * recall.MAX_PART_BYTES)))
    memory.keep(large, passed)
    assert memory.get(large) is None
    small = memory.parts(request(headers=bearer("x")))
    memory.keep(small, refused)
    assert memory.get(small) is None
    memory.keep(small, passed)
    assert memory.get(small) is passed
    twice = request(headers=bearer("x"))._replace(repeated={b"accept": (b"a", b"b")})
    assert memory.parts(twice) is None


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "MAX_REMEMBERED", 2)
    memory = remembered(TOKEN)
    assert memory is not None
    for name in "abc":
        memory.keep(memory.parts(request(headers=bearer(name))), Answer(Outcome.PASS, 200))
    held = [name for name in "abc" if memory.get(memory.parts(request(headers=bearer(name))))]
    assert held == ["c"]


READS = [
    "request.method",
    "request.scheme",
    "request.host",
    "string(request.port)",
    "request.path",
    "request.rawPath",
    "request.rawQuery",
    "lookup(request.query, 'a')",
    "lookup(request.queryAll, 'a')",
    "lookup(request.headers, 'x-a')",
    "lookup(request.headersAll, 'x-a')",
    "lookup(request.cookies, 'c')",
    "request.client",
    "string(request.proxied)",
    "vars.global.g",
    "env.e",
]
CONDITIONS = [
    "request.method == 'GET'",
    "request.path.startsWith('/a')",
    "lookup(request.headers, 'x-a') != 'no'",
    "lookup(request.cookies, 'c') != 'no'",
    "lookup(request.query, 'a') != 'no'",
    "admission.authenticated",
    "request.client != '203.0.113.9'",
]
VALUES = st.sampled_from(["", "a", "b", "no"])
REQUESTS = st.builds(
    OriginalRequest,
    method=st.sampled_from(["GET", "POST"]),
    scheme=st.sampled_from(["http", "https"]),
    host=st.sampled_from(["a.example", "b.example"]),
    port=st.sampled_from([None, 80, 8443]),
    path=st.sampled_from(["/a", "/b"]),
    raw_path=st.sampled_from(["/a", "/%61"]),
    raw_query=st.sampled_from(["", "a=1", "a=no", "b=1"]),
    fields=st.dictionaries(
        st.sampled_from([b"x-a", b"x-b", b"cookie", b"authorization"]),
        st.sampled_from([b"no", b"a", b"c=no", b"c=1; d=2", b"Bearer good", b"Bearer bad"]),
    ),
    repeated=st.sampled_from([{}, {b"x-a": (b"a", b"b")}]),
    client=st.sampled_from(["203.0.113.7", "203.0.113.9"]),
    proxied=st.booleans(),
)


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    read = st.sampled_from(READS)
    variables = {"a": draw(read)}
    rule: dict[str, Any] = {
        "auth": draw(st.sampled_from([[], TOKEN["auth"]])),
        "variables": variables,
        "conditions": {"whenAll": draw(st.lists(st.sampled_from(CONDITIONS), max_size=2))},
        "responses": {"pass": {"variables": {"a": "vars.local.a", "b": draw(read)}}},
    }
    headers = {
        "x-out": "{{ response.a | default('') }}/{{ response.b | default('') }}",
        "x-b": None,
    }
    admitted: list[dict[str, Any]] = [ANYBODY, BEARER, {"required": False, **BEARER}]
    authentication = draw(st.sampled_from(admitted))
    api = endpoint(
        "rule",
        authentication=authentication,
        variables={"g": "request.path"},
        responsePolicy={"pass": {"headers": headers}},
    )
    return {"endpoints": {"api": api}, "rules": {"rule": rule}}


@settings(max_examples=60, deadline=None)
@given(configuration=configurations(), requests=st.lists(REQUESTS, min_size=2, max_size=8))
def test_a_remembered_answer_is_the_one_that_would_be_made(
    configuration: dict[str, Any], requests: list[OriginalRequest]
) -> None:
    gate = Gate(configuration, environment={"e": "here"})
    memory = gate.plans["api"].recall
    assert memory is not None
    for original in requests * 2:
        parts, fresh = memory.parts(original), gate.ask(original)
        assert memory.get(parts) in (None, fresh)
        memory.keep(parts, fresh)
