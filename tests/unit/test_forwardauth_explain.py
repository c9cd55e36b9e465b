"""A decision explained is the decision that is made, and shows no credential."""

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from factories.decisions import BEARER, NOW, compiled, endpoint
from gatekeeper.forwardauth.agents.memory import Memory
from gatekeeper.forwardauth.config.recorded import Question
from gatekeeper.forwardauth.model import Outcome, Rejected, RuleResult
from gatekeeper.forwardauth.rehearsal.explaining import explain
from gatekeeper.forwardauth.rehearsal.message import read_message
from gatekeeper.forwardauth.rehearsal.replaying import replay
from gatekeeper.wire.forwardauth import DecisionExplained

TRUSTED = {"forwardProxyPolicy": {"trustedProxyIPs": ["10.0.0.0/8"]}}
RULE = {
    "auth": [{"match": [{"type": "bearer", "value": "canary-literal"}]}],
    "backendApi": {
        "url": "https://facts.example/u/{{ request.query.user }}",
        "headers": {"X-Key": "{{ secrets.key }}"},
    },
    "conditions": {"whenAll": ["backend.body.active"]},
    "responses": {"pass": {"variables": {"user": "backend.body.name"}}},
    "cache": {"ttl": {"pass": "30s"}},
}
CONFIGURATION = {
    "endpoints": {
        "app": endpoint(
            "facts",
            authentication=BEARER,
            responsePolicy={"pass": {"headers": {"X-User": "{{ response.user }}", "X-By": "gate"}}},
            **TRUSTED,
        )
    },
    "rules": {"facts": RULE},
}
REQUEST: dict[str, Any] = {
    "url": "https://app.example/x?user=ada&token=canary-parameter",
    "headers": {"Authorization": "Bearer canary-literal", "Cookie": "sid=canary-cookie"},
}
ANSWER = {
    "url": "https://facts.example/u/ada",
    "body": {
        "active": True,
        "name": "ada",
        "access_token": "canary-answer",
        "echo": "canary-cookie",
    },
}


def generation(configuration: Mapping[str, Any] = CONFIGURATION) -> Any:
    return compiled(configuration, secrets={"key": "canary-key"}, digest=b"d").generation


def asked(memory: Memory | None = None, **question: Any) -> DecisionExplained:
    whole = Question.model_validate(
        {"endpoint": "app", "request": REQUEST, "backends": [ANSWER], **question}
    )
    return replay(explain(whole, generation(), memory=memory, now=NOW), whole)


def test_every_agent_says_what_it_did() -> None:
    told = asked()
    assert (told.outcome, told.status, told.generation) == ("pass", 200, 1)
    assert [(step.agent, step.result) for step in told.steps] == [
        ("admission", "bearer"),
        ("rule execution", "matched by bearer"),
        ("backend interaction", "status 200"),
        ("rule execution", "pass"),
        ("result caching", "miss: kept for 30 s"),
        ("response policy", "status 200"),
    ]


def test_no_credential_is_shown() -> None:
    text = asked().model_dump_json()
    assert "canary" not in text
    assert "[secret]" in text
    assert "https://facts.example/u/ada" in text


@pytest.mark.parametrize(
    "header",
    [
        {"authorization": "Basic " + base64.b64encode(b"ada:canary-password").decode()},
        {"x-api-key": "canary-password"},
        {"cookie": "a=1; session=canary-password"},
    ],
)
def test_a_credential_the_rule_repeats_is_not_shown(header: dict[str, str]) -> None:
    echo = {"url": "https://facts.example/u/ada", "status": 403, "bodyText": "you: canary-password"}
    headers = {**REQUEST["headers"], **header}
    if "authorization" in header:
        del headers["Authorization"]
    told = asked(request={**REQUEST, "headers": headers}, backends=[echo])
    assert "canary" not in told.model_dump_json()


def test_headers_are_shown_only_where_they_are_the_same_for_all() -> None:
    assert {header.name: header.value for header in asked().headers} == {
        "x-user": "[secret]",
        "x-by": "gate",
    }


def test_a_call_without_a_recorded_answer_is_an_error_that_names_it() -> None:
    told = asked(backends=[])
    assert told.outcome == "error"
    assert "no recorded answer fits: GET https://facts.example/u/ada" in told.reason


@pytest.mark.parametrize("rule", [RULE, {"cache": {"ttl": {"pass": "30s"}}}])
def test_nothing_is_written_to_the_cache(rule: dict[str, Any]) -> None:
    configuration = {
        "endpoints": {"app": endpoint("facts", authentication=BEARER, **TRUSTED)},
        "rules": {"facts": rule},
    }
    memory = Memory(10)
    question = Question.model_validate(
        {"endpoint": "app", "request": REQUEST, "backends": [ANSWER]}
    )
    steps = explain(question, generation(configuration), memory=memory, now=NOW)
    assert replay(steps, question).outcome == "pass"
    assert len(memory) == 0


def test_the_key_that_is_told_is_the_key_of_the_decision() -> None:
    memory, first = Memory(10), asked()
    key = next(keeping.key for keeping in first.cache if keeping.subject == "facts")
    assert key is not None
    kept = RuleResult(Outcome.PASS, "", {"facts": {"user": "ada"}}, NOW + 10)
    memory.put(bytes.fromhex(key), kept, NOW)
    again = asked(memory, backends=[])
    assert again.outcome == "pass"
    assert next(k.result for k in again.cache if k.subject == "facts") == "hit: memory"
    assert len(memory) == 1


def test_what_expressions_read_is_named() -> None:
    reads = {one.subject: one.names for one in asked().reads}
    assert "request.query.user" in reads["facts"]
    assert "secrets.key" in reads["facts"]


def test_a_quarantined_endpoint_says_why() -> None:
    broken = {
        **CONFIGURATION,
        "rules": {"facts": {"conditions": {"whenAll": ["nonsense.here"]}}},
    }
    question = Question.model_validate({"endpoint": "app", "request": REQUEST})
    told = replay(explain(question, generation(broken), memory=None, now=NOW), question)
    assert (told.outcome, told.status) == ("error", 503)
    assert "missing rule dependencies: facts" in told.reason
    assert {one.name for one in told.skipped} == {"app", "facts"}


@pytest.mark.parametrize(
    "dialect", ["nginx", "ingress-nginx", "traefik", "caddy", "envoy", "haproxy"]
)
def test_every_dialect_sees_the_same_request(dialect: str) -> None:
    assert asked(dialect=dialect).model_copy(update={"dialect": "generic"}) == asked()


TEXTS = [
    ("GET https://app.example/x?user=ada HTTP/1.1\nAuthorization: Bearer canary-literal\n", "pass"),
    (
        "GET /x?user=ada HTTP/1.1\r\nHost: app.example\r\nAuthorization: Bearer canary-literal\r\n\r\nbody",
        "pass",
    ),
    ("GET /x HTTP/1.1\nAuthorization: Bearer canary-literal\n", "expected exactly one Host"),
    ("GET /x HTTP/1.1\nHost: a\nHost: b\n", "expected exactly one Host"),
    ("GET https://a.example/ HTTP/1.1\nHost: b.example\n", "different hosts"),
    ("GET  https://a.example/ HTTP/1.1\n", "line 1"),
    ("GET https://a.example/\n", "line 1"),
    ("GET https://a.example/ HTTP/1.1\nno colon\n", "line 2"),
    ("GET https://a.example/ HTTP/1.1\nX : y\n", "line 2"),
    ("GET https://a.example/ HTTP/1.1\nX: y\n folded\n", "line 3"),
    ("GET https://a.example/ HTTP/1.1\r\nX: y\nZ: z\r\n", "CRLF"),
    ("GET https://u:p@a.example/ HTTP/1.1\n", "expected a URL"),
]


@pytest.mark.parametrize(("text", "said"), TEXTS)
def test_the_text_of_a_request_is_read_strictly(text: str, said: str) -> None:
    told = asked(request=text)
    assert told.outcome == said if said == "pass" else said in told.reason


def test_a_text_that_is_too_long_is_refused() -> None:
    refused = read_message(b"GET https://a.example/ HTTP/1.1\n" + b"x: y\n" * 20_000)
    assert isinstance(refused, Rejected)


def test_a_header_by_which_the_proxy_speaks_is_replaced_and_a_twin_is_refused() -> None:
    lies = {**REQUEST["headers"], "X-Forwarded-For": "1.2.3.4", "X-Forwarded-Uri": "/?user=eve"}
    assert asked(request={**REQUEST, "headers": lies}).outcome == "pass"
    twin = {**REQUEST["headers"], "X_Forwarded_For": "1.2.3.4"}
    assert asked(request={**REQUEST, "headers": twin}).status == 400


def test_what_is_told_is_plain_json() -> None:
    assert json.loads(asked().model_dump_json(by_alias=True))["endpoint"] == "app"
