"""Agent 4 and the scopes: of an endpoint (`vars.global`), of a rule (`vars.local`), exported."""

from typing import Any

import pytest

from factories.decisions import Gate, compiled, endpoint, request
from gatekeeper.forwardauth.model import Outcome

READY = {"pass": {"headers": {"x-a": "{{ response.a | default('none') }}"}}}


def chain(*rules: dict[str, Any], **of_the_endpoint: Any) -> dict[str, Any]:
    """Make a configuration of one endpoint with these rules: `first`, `second`, `third`."""
    named = dict(zip(["first", "second", "third"], rules, strict=False))
    return {"endpoints": {"api": endpoint(*named, **of_the_endpoint)}, "rules": named}


def exporting(**variables: str) -> dict[str, Any]:
    return {"responses": {"pass": {"variables": variables}}}


def whole(name: str) -> dict[str, Any]:
    return {"pass": {"headers": {"x-a": f"{{{{ {name} | tojson }}}}"}}}


def seen(configuration: dict[str, Any]) -> str:
    answer = Gate(configuration).ask(request())
    assert answer.outcome is Outcome.PASS, answer
    return dict(answer.headers)["x-a"]


KINDS = [
    ("1 + 1", "2"),
    ("1.5", "1.5"),
    ("request.path == '/'", "true"),
    ("null", "null"),
    ("['a', 'b']", '["a","b"]'),
    ("{'a': {'b': 1}}", '{"a":{"b":1}}'),
    ("timestamp('2026-01-02T03:04:05Z')", '"2026-01-02T03:04:05Z"'),
    ("'1'", '"1"'),
    ("{{ 1 + 1 }}", '"2"'),
    ("{{ request.path == '/' }}", '"true"'),
    ("plain {{ request.method }}", '"plain GET"'),
]


@pytest.mark.parametrize(("source", "json"), KINDS)
def test_cel_keeps_its_type_and_a_template_gives_text(source: str, json: str) -> None:
    exported = chain(exporting(a=source), responsePolicy=whole("response.a"))
    assert seen(exported) == json


@pytest.mark.parametrize(("source", "json"), KINDS[:6] + KINDS[7:])
def test_a_variable_of_an_endpoint_keeps_its_type(source: str, json: str) -> None:
    configuration = chain({}, variables={"a": source}, responsePolicy=whole("vars.global.a"))
    assert seen(configuration) == json


def test_variables_see_those_before_them() -> None:
    local = {
        "variables": {"a": "vars.global.b + 1", "b": "{{ vars.local.a }}!"},
        "responses": {"pass": {"variables": {"a": "vars.local.b"}}},
    }
    configuration = chain(
        local, variables={"a": "1", "b": "vars.global.a + 1"}, responsePolicy=READY
    )
    assert seen(configuration) == "3!"


@pytest.mark.parametrize(
    "configuration",
    [
        chain({}, variables={"a": "vars.global.b", "b": "1"}),
        chain({}, variables={"a": "vars.global.a"}),
        chain({}, variables={"a": "vars.global.c"}),
        chain({"variables": {"a": "vars.local.b", "b": "1"}}),
        chain({"variables": {"a": "1"}, "conditions": {"whenAll": ["vars.local.aa == 1"]}}),
        chain({"conditions": {"whenAll": ["vars.global.a == 1"]}}),
        chain({}, variables={"a": "backend.status"}),
        chain({}, variables={"a": "vars.local"}),
        chain({}, variables={"a": "rules"}),
        chain({}, variables={"a": "secrets.key"}),
    ],
)
def test_a_variable_that_is_not_there_is_found_at_load(configuration: dict[str, Any]) -> None:
    found = compiled(configuration, secrets={"key": "hidden"})
    assert "api" in found.generation.quarantined
    assert found.faults
    assert all("variables" in fault.where or "rules" in fault.where for fault in found.faults)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ('lookup(request.headers, "X-Blocked") != null', "lower case here: request.headers['x-blocked']"),
        ('"X-Blocked" in request.headers', "lower case here: request.headers['x-blocked']"),
        ("request.headers.?Blocked.hasValue()", "lower case here: request.headers['blocked']"),
        ("has(request.headersAll.Blocked)", "lower case here: request.headersAll['blocked']"),
        ('lookup(backend.headers, "X-Blocked") != null', "lower case here: backend.headers['x-blocked']"),
        ('"x-forwarded-for" in request.headers', "request.headers never has x-forwarded-for"),
        ('lookup(request.headers, "host") == "admin.example"', "request.headers never has host"),
        ("has(auth.input.beerer)", "auth.input has no beerer, only basic, bearer, cookie, header, jwt, query"),
        ('lookup(auth.input, "token") != null', "auth.input has no token"),
        ('auth.forward.headers["X-Key"] == "blocked"', "lower case here: auth.forward.headers['x-key']"),
        ('lookup(env, "BLOKED") == request.path', "server.variables names no env.BLOKED"),
        ('"kee" in secrets', "server.variables names no secrets.kee"),
    ],
)  # fmt: skip
def test_a_refusal_that_could_never_come_is_found_at_load(condition: str, words: str) -> None:
    """Nothing is there under such a name, for any request: whoever is to be refused passes."""
    found = compiled(
        chain({"conditions": {"failWhen": [condition]}}),
        environment={"BLOCKED": "/"},
        secrets={"key": "hidden"},
    )

    (fault,) = found.faults
    assert fault.where == ("rules", "first", "conditions", "failWhen", 0)
    assert words in fault.message
    assert "api" in found.generation.quarantined


def test_a_hint_names_what_may_be_meant() -> None:
    rule = {"variables": {"tenant": "1"}, "conditions": {"whenAll": ["vars.local.tenent == 1"]}}
    (fault,) = compiled(chain(rule)).faults
    assert fault.message == "there is no vars.local.tenent; did you mean 'tenant'?"


@pytest.mark.parametrize(
    "configuration",
    [
        chain({}, variables={"a": "request.headers['x-absent']"}),
        chain({"variables": {"a": "request.headers['x-absent']"}}),
        chain({"variables": {"a": "{{ request.headers['x-absent'] }}"}}),
        chain(exporting(a="1 / (size(request.path) - 1)")),
        chain(exporting(a="request.headers['x-absent']")),
    ],
)
def test_one_without_a_value_is_an_error(configuration: dict[str, Any]) -> None:
    answer = Gate(configuration).ask(request())
    assert (answer.outcome, answer.status) == (Outcome.ERROR, 502)
    assert ".a" in answer.reason or "variables" in answer.reason


@pytest.mark.parametrize(("outcome", "condition"), [("fail", "failWhen"), ("error", "errorWhen")])
def test_a_refusal_is_one_also_when_its_export_has_no_value(outcome: str, condition: str) -> None:
    rule = {
        "conditions": {condition: ["true"]},
        "responses": {outcome: {"variables": {"a": "request.headers['x-absent']"}}},
    }
    assert Gate(chain(rule)).ask(request()).outcome.value == outcome


def test_a_later_rule_sees_what_one_before_it_exported() -> None:
    second = {
        "conditions": {"whenAll": ["rules.first.a == 'x'", "response.a == 'x'"]},
        **exporting(b="{{ rules.first.a }}y"),
    }
    third = exporting(c="rules.second.b + rules.first.a")
    policy = whole("rules")
    assert seen(chain(exporting(a="'x'"), second, third, responsePolicy=policy)) == (
        '{"first":{"a":"x"},"second":{"b":"xy"},"third":{"c":"xyx"}}'
    )


def test_of_one_name_the_response_sees_the_last() -> None:
    configuration = chain(exporting(a="'one'"), exporting(a="'two'"), {}, responsePolicy=READY)
    assert seen(configuration) == "two"


def test_a_failing_rule_tells_why_in_its_own_variables() -> None:
    second = {
        "conditions": {"failWhen": ["true"]},
        "responses": {
            "pass": {"variables": {"a": "'never'"}},
            "fail": {"variables": {"a": "'because'"}},
        },
    }
    policy = {"fail": {"body": "{{ response.a }} {{ rules.first.a }}"}}
    answer = Gate(chain(exporting(a="'one'"), second, responsePolicy=policy)).ask(request())
    assert answer.body == b"because one"


@pytest.mark.parametrize("source", ["size(vars.local)", "size(auth.input)", "auth.selected == '' ? 0 : 1", "backend.requested ? 1 : 0"])  # fmt: skip
def test_a_rule_sees_nothing_of_the_one_before_it(source: str) -> None:
    first = {
        "auth": [{"match": [{"type": "header", "name": "x-key"}]}],
        "variables": {"a": "1"},
        "conditions": {"whenAll": ["size(auth.input) == 1", "auth.selected == 'header'"]},
    }
    configuration = chain(
        first,
        exporting(a=source),
        authentication={"allow": {"header": ["x-key"]}},
        responsePolicy=READY,
    )
    answer = Gate(configuration).ask(request(headers={"x-key": "k"}))
    assert dict(answer.headers)["x-a"] == "0"


def test_what_a_rule_without_a_match_exports_is_nothing_of_the_one_before_it() -> None:
    first = {"auth": [{"match": [{"type": "header", "name": "x-key"}]}], "variables": {"a": "1"}}
    second = {
        "auth": [{"match": [{"type": "bearer"}]}],
        "variables": {"a": "2"},
        "responses": {"fail": {"variables": {"a": "[auth.input, vars.local]"}}},
    }
    configuration = chain(
        first,
        second,
        authentication={"allow": {"header": ["x-key"]}},
        responsePolicy={"fail": {"body": "{{ response.a | tojson }}"}},
    )
    answer = Gate(configuration).ask(request(headers={"x-key": "k"}))
    assert answer.body == b"[{},{}]"


def test_what_has_no_place_in_json_cannot_be_exported() -> None:
    answer = Gate(chain(exporting(a="b'bytes'"))).ask(request())
    assert answer.outcome is Outcome.ERROR
    assert Gate(chain(exporting(a="0.0 / 0.0"))).ask(request()).outcome is Outcome.ERROR
