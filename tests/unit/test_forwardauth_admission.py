"""Agent 2: which credentials count, who is let in to be judged, how the others are answered."""

import base64
from typing import Any

import pytest

from factories.decisions import Gate, bearer, endpoint, gate, request
from gatekeeper.forwardauth.model import Outcome

EVERYTHING = {
    "authorization": ["basic", "bearer"],
    "header": ["X-Key"],
    "query": ["key"],
    "cookie": ["sid"],
}
SEEN = {
    "basic": [{"type": "basic"}],
    "bearer": [{"type": "bearer"}],
    "header": [{"type": "header", "name": "x-key"}],
    "query": [{"type": "query", "name": "key"}],
    "cookie": [{"type": "cookie", "name": "sid"}],
}


def basic(text: str | bytes) -> dict[str, str]:
    raw = text.encode() if isinstance(text, str) else text
    return {"authorization": "Basic " + base64.b64encode(raw).decode()}


def admission(**authentication: Any) -> Gate:
    """Make a gate that shows what was found: one rule, a group for each kind of credential."""
    groups = [{"match": match} for match in SEEN.values()]
    rule = {
        "auth": [*groups, {"match": [{"type": "none"}]}],
        "responses": {"pass": {"variables": {"found": "auth.selected", "given": "auth.input"}}},
    }
    configuration = {
        "endpoints": {
            "api": endpoint(
                "rule",
                authentication={"allow": EVERYTHING, **authentication},
                responsePolicy={
                    "pass": {
                        "headers": {
                            "x-found": "{{ response.found }}",
                            "x-given": "{{ response.given | tojson }}",
                            "x-authenticated": "{{ admission.authenticated }}",
                        }
                    }
                },
            )
        },
        "rules": {"rule": rule},
    }
    return Gate(configuration)


CREDENTIALS: list[tuple[str, dict[str, str], str]] = [
    ("basic", basic("alice:secret"), ""),
    ("basic", {"authorization": "bASIC YTpi"}, ""),
    ("basic", basic("alice:"), ""),
    ("basic", basic(":secret"), ""),
    ("basic", basic("ali:ce:secret"), ""),
    ("basic", basic("zoë:schön"), ""),
    ("bearer", bearer("t0ken"), ""),
    ("bearer", {"authorization": "bearer   t0ken"}, ""),
    ("bearer", bearer("1|sanctum=="), ""),
    ("header", {"x-key": "k"}, ""),
    ("query", {}, "key=k"),
    ("query", {}, "a=b&key=k%20k"),
    ("cookie", {"cookie": "a=b; sid=1"}, ""),
]


@pytest.mark.parametrize(("kind", "headers", "query"), CREDENTIALS)
def test_a_credential_is_found(kind: str, headers: dict[str, str], query: str) -> None:
    answer = admission().ask(request(headers=headers, query=query))
    assert dict(answer.headers)["x-found"] == kind
    assert dict(answer.headers)["x-authenticated"] == "true"


BROKEN: list[tuple[dict[str, str], str]] = [
    ({}, ""),
    ({"authorization": ""}, ""),
    ({"authorization": "Bearer"}, ""),
    ({"authorization": "Bearer   "}, ""),
    ({"authorization": "Bearer one two"}, ""),
    ({"authorization": "Bearer one\ttwo"}, ""),
    ({"authorization": "Bearer one, Bearer two"}, ""),
    ({"authorization": "Bearer\ttoken"}, ""),
    ({"authorization": "Negotiate YTpi"}, ""),
    ({"authorization": "BearerX token"}, ""),
    ({"authorization": "Basic"}, ""),
    ({"authorization": "Basic !!!"}, ""),
    ({"authorization": "Basic YT pi"}, ""),
    (basic("nocolon"), ""),
    (basic(b"\xff\xfe:x"), ""),
    (basic("a\nb:c"), ""),
    (basic("admin\0:c"), ""),
    (basic("a:c\x7f"), ""),
    ({"x-key": ""}, ""),
    ({}, "key="),
    ({}, "key"),
    ({}, "KEY=k"),
    ({"cookie": "sid="}, ""),
    ({"cookie": "SID=1"}, ""),
    ({"cookie": "sid=1; sid=2"}, ""),
]


@pytest.mark.parametrize(("headers", "query"), BROKEN)
def test_what_is_broken_or_not_there_is_no_credential(headers: dict[str, str], query: str) -> None:
    answer = admission().ask(request(headers=headers, query=query))
    assert (answer.outcome, answer.status) == (Outcome.FAIL, 401)


@pytest.mark.parametrize("query", ["key=a&key=b", "key=a&key=a", "key=a&k%65y=b", "key=&key=b"])
def test_a_credential_that_stands_twice_is_not_judged(query: str) -> None:
    answer = admission().ask(request(query=query))
    assert (answer.outcome, answer.status) == (Outcome.FAIL, 400)


@pytest.mark.parametrize(
    ("condition", "query", "cookie"),
    [
        ("size(request.query) > 0", "a=1&a=2", ""),
        ("request.query.exists(k, k == 'debug')", "debug=1&debug=1", ""),
        ("lookup(request.query, request.method) == '1'", "GET=1&GET=2", ""),
        ("lookup(request.query, 'debug') == '1'", "debug=1&debug=2", ""),
        ("lookup(request.cookies, 'debug') == 'on'", "", "debug=on; debug=off"),
        ("'debug' in request.cookies", "", "debug=off; debug=on"),
        ("size(request.cookies) > 0", "", "a=1; a=2"),
    ],
)
def test_a_refusal_is_not_avoided_by_saying_a_thing_twice(
    condition: str, query: str, cookie: str
) -> None:
    """What stands twice has no single value, and what is left out would be as if not there."""
    one = gate({"conditions": {"failWhen": [condition]}})
    said = request(query=query, headers={"cookie": cookie} if cookie else {})
    answer = one.ask(said)
    assert (answer.outcome, answer.status) == (Outcome.FAIL, 400)


def test_what_nobody_reads_may_stand_twice() -> None:
    one = gate({"conditions": {"failWhen": ["lookup(request.query, 'debug') == '1'", "lookup(request.cookies, 'debug') == 'on'"]}})  # fmt: skip
    said = request(query="a=1&a=2", headers={"cookie": "a=1; a=2; debug=off; debug=off"})
    assert one.ask(said).status == 200


@pytest.mark.parametrize(
    ("headers", "query"),
    [({}, "key=%zz"), ({}, "other=%ff"), ({}, "&".join(["a=b"] * 257)), ({"cookie": "; ".join(["a=b"] * 257)}, "")],
)  # fmt: skip
def test_what_cannot_be_read_is_not_judged(headers: dict[str, str], query: str) -> None:
    answer = admission().ask(request(headers=headers | bearer("t"), query=query))
    assert (answer.outcome, answer.status) == (Outcome.FAIL, 400)


def test_only_what_the_endpoint_allows_is_looked_at() -> None:
    everything = request(
        headers=bearer("t") | {"x-key": "k", "cookie": "sid=1"}, query="key=k&other=%zz"
    )
    only = admission(allow={"header": ["x-other"]})
    assert only.ask(everything).status == 401
    assert only.ask(request(headers={"x-other": "k"})).outcome is Outcome.PASS


@pytest.mark.parametrize(
    "authentication",
    [{"required": False}, {"allow": {**EVERYTHING, "none": True}}],
)
def test_without_a_credential_nobody_is_authenticated(authentication: dict[str, Any]) -> None:
    answer = admission(**authentication).ask(request())
    assert answer.outcome is Outcome.PASS
    assert dict(answer.headers)["x-found"] == "none"
    assert dict(answer.headers)["x-authenticated"] == "false"


def test_a_credential_counts_also_where_none_is_asked_for() -> None:
    answer = admission(allow={**EVERYTHING, "none": True}).ask(request(headers=bearer("t")))
    assert dict(answer.headers)["x-authenticated"] == "true"
    assert dict(answer.headers)["x-given"] == '{"bearer":{"token":"t"}}'


CHALLENGES = [
    ({"type": "basic", "realm": "app"}, 'Basic realm="app"'),
    ({"type": "basic", "realm": "app", "charset": "UTF-8"}, 'Basic realm="app", charset="UTF-8"'),
    ({"type": "bearer", "realm": "app"}, 'Bearer realm="app"'),
    ({"type": "bearer", "realm": 'a"b\\c'}, 'Bearer realm="a\\"b\\\\c"'),
]


@pytest.mark.parametrize(("challenge", "text"), CHALLENGES)
def test_a_challenge_is_a_quoted_string(challenge: dict[str, str], text: str) -> None:
    answer = admission(challenge=challenge).ask(request())
    assert answer.headers == (("www-authenticate", text),)
    assert answer.status == 401


def test_who_is_not_admitted_can_be_answered_in_words_of_ones_own() -> None:
    response = {
        "status": 407,
        "headers": {"x-why": "{{ request.path }}", "x-client": None, "x-empty": "{{ '' }}"},
        "body": "not you, {{ request.client }}",
    }
    challenge = {"type": "bearer", "realm": "app"}
    answer = admission(response=response, challenge=challenge).ask(
        request(path="/p", headers={"x-client": "c"})
    )
    assert answer.status == 407
    assert answer.headers == (
        ("www-authenticate", 'Bearer realm="app"'),
        ("x-why", "/p"),
        ("x-client", "c"),
        ("content-type", "text/plain; charset=utf-8"),
    )
    assert answer.body == b"not you, 203.0.113.7"


def test_who_is_not_admitted_can_be_sent_to_log_in() -> None:
    redirect = {"to": "https://login.example/?rd={{ request.path | urlencode }}", "hosts": ["login.example"], "status": 303}  # fmt: skip
    answer = admission(response={"redirect": redirect}).ask(request(path="/a&b"))
    assert (answer.status, answer.location) == (303, "https://login.example/?rd=%2Fa%26b")


def test_a_rule_is_not_asked_about_who_is_not_admitted() -> None:
    asked = gate(
        {"backendApi": {"url": "https://facts.example/x"}},
        authentication={"allow": {"header": ["x-key"]}},
    )
    assert asked.ask(request()).status == 401
    assert not asked.effects
