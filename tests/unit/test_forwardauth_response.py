"""Agent 8: what is answered for an outcome, and what never is."""

from typing import Any

import pytest

from factories.decisions import Gate, compiled, endpoint, request
from gatekeeper.forwardauth.adapters.language import Language
from gatekeeper.forwardauth.config import Configuration
from gatekeeper.forwardauth.model import Answer, Outcome
from gatekeeper.forwardauth.plan import compile_configuration

OUTCOMES = {"pass": {}, "fail": {"failWhen": ["true"]}, "error": {"errorWhen": ["true"]}}


def configured(outcome: str, policy: dict[str, Any], **more: Any) -> dict[str, Any]:
    exports = {"variables": {"user": "'alice'", "path": "request.path", "bad": "request.headers['x-bad']"}}  # fmt: skip
    rule = {
        "conditions": OUTCOMES[outcome],
        "responses": {outcome: exports if "bad" in str(policy) else {"variables": dict(list(exports["variables"].items())[:2])}},
    }  # fmt: skip
    return {
        "endpoints": {"api": endpoint("rule", responsePolicy={outcome: policy}, **more)},
        "rules": {"rule": rule},
    }


def answer(outcome: str, policy: dict[str, Any] | None = None, **original: Any) -> Answer:
    return Gate(configured(outcome, policy or {})).ask(request(**original))


@pytest.mark.parametrize(("outcome", "status"), [("pass", 200), ("fail", 403), ("error", 502)])
def test_every_outcome_has_a_status_and_no_reason_leaves(outcome: str, status: int) -> None:
    said = answer(outcome)
    assert (said.outcome, said.status, said.headers, said.body) == (outcome, status, (), b"")
    assert bool(said.reason) is (outcome != "pass")


@pytest.mark.parametrize("outcome", ["fail", "error"])
def test_a_refusal_in_words_of_ones_own(outcome: str) -> None:
    policy = {
        "status": 451,
        "headers": {"X-Who": "{{ response.user }}", "X-Copied": None, "X-Empty": " ", "X-Absent": None},
        "body": "no: {{ response.path }}",
    }  # fmt: skip
    said = answer(outcome, policy, path="/p", headers={"x-copied": "c"})
    assert (said.outcome, said.status) == (outcome, 451)
    assert said.headers == (
        ("x-who", "alice"),
        ("x-copied", "c"),
        ("content-type", "text/plain; charset=utf-8"),
    )
    assert said.body == b"no: /p"


def test_a_body_can_say_what_it_is() -> None:
    policy = {"body": '{"a": 1}', "headers": {"Content-Type": "application/json"}}
    assert answer("fail", policy).headers == (("content-type", "application/json"),)


def test_identity_headers_are_sent_also_when_they_are_empty() -> None:
    policy = {"headers": {"X-User": "{{ response.user }}", "X-Copied": None, "X-Absent": None, "X-Empty": ""}}  # fmt: skip
    said = answer("pass", policy, headers={"x-copied": "c"})
    assert said.headers == (("x-user", "alice"), ("x-copied", "c"), ("x-absent", ""), ("x-empty", ""))  # fmt: skip


@pytest.mark.parametrize("outcome", ["pass", "fail", "error"])
def test_a_header_without_a_value_is_an_error_that_says_nothing(outcome: str) -> None:
    said = answer(outcome, {"headers": {"x-a": "{{ request.headers['x-absent'] }}"}})
    assert (said.outcome, said.status, said.headers, said.body) == (Outcome.ERROR, 500, (), b"")
    assert "x-absent" in said.reason


@pytest.mark.parametrize("value", ["a\r\nset-cookie: a=b", "a\nb", "a\0b", "a\x7fb", "a\u2028b", "\u20ac", "a" * 8_193])  # fmt: skip
@pytest.mark.parametrize("outcome", ["pass", "fail"])
def test_what_is_no_value_of_a_header_is_an_error(outcome: str, value: str) -> None:
    said = answer(outcome, {"headers": {"x-a": "{{ request.path }}"}}, path=value)
    assert (said.outcome, said.status, said.headers) == (Outcome.ERROR, 500, ())


def test_a_header_can_be_any_bytes_that_http_has() -> None:
    said = answer("pass", {"headers": {"x-a": "{{ request.path }}", "x-b": None}}, path="é\tz", headers={"x-b": "\xff"})  # fmt: skip
    assert said.headers == (("x-a", "é\tz"), ("x-b", "\xff"))


# Redirects

LOGIN = {"to": "{{ request.headers['x-to'] }}", "hosts": ["Login.example", "other.example:8443"]}
GOOD = [
    "/login",
    "/login?rd=%2F%2Fevil.example",
    "/%09/evil.example",
    "/",
    "https://login.example/a?b=c#d",
    "HTTPS://LOGIN.EXAMPLE",
    "http://login.example",
    "https://other.example:8443/",
]
EVIL = [
    "",
    "login",
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\tevil.example",
    "/\t/evil.example",
    "\t//evil.example",
    " /login",
    "https:evil.example",
    "https:/evil.example",
    "https:///evil.example",
    "https://evil.example",
    "https://login.example@evil.example",
    "https://evil.example#@login.example",
    "https://user@login.example",
    "https://login.example:8443/",
    "https://login.example.evil.example",
    "https://login.example\\.evil.example",
    "https://login.example%2eevil.example",
    "https://other.example/",
    "https://[login.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "ftp://login.example",
    "https://login.example/\r\nset-cookie: a=b",
    "https://login.example/\x00",
    "https://l\u00f6gin.example",
    "https://login.example/ a",
]


def redirected(to: str, **redirect: Any) -> Answer:
    return answer("fail", {"redirect": LOGIN | redirect}, headers={"x-to": to})


@pytest.mark.parametrize("to", GOOD)
def test_a_redirect_leads_to_paths_and_named_hosts(to: str) -> None:
    said = redirected(to)
    assert (said.outcome, said.status, said.location) == (Outcome.FAIL, 302, to)
    assert redirected(to, status=307).status == 307


@pytest.mark.parametrize("to", EVIL)
def test_a_redirect_leads_nowhere_else(to: str) -> None:
    said = redirected(to)
    assert (said.outcome, said.status, said.location) == (Outcome.ERROR, 500, None)


# What an answer may read


def faults(configuration: dict[str, Any]) -> list[str]:
    found = compiled(configuration, secrets={"key": "hidden"})
    assert "api" not in found.generation.plans
    return [fault.message for fault in found.faults]


@pytest.mark.parametrize("place", ["headers", "body", "redirect"])
@pytest.mark.parametrize(
    ("read", "message"),
    [
        ("secrets.key", "a response may not read secrets"),
        ("backend.status", "a response does not see backend.status; let the rule export it (responses.*.variables)"),
        ("auth.selected", "a response does not see auth.selected; let the rule export it (responses.*.variables)"),
        ("vars.local.a", "a response does not see vars.local; let the rule export it (responses.*.variables)"),
        ("session.live", "a response does not see session.live; let the rule export it (responses.*.variables)"),
        ("response.usr", "it reads response.usr: no rule that has run by then exports it"),
        ("rules.role.user", "it reads rules.role.user: this rule has not run by then"),
        ("rules.rule.usr", "it reads rules.rule.usr: the rule does not export it"),
        ("vars.global.a", "it reads vars.global.a: the endpoint has no such variable"),
    ],
)  # fmt: skip
def test_what_an_answer_cannot_read_is_found_at_load(place: str, read: str, message: str) -> None:
    text = f"/{{{{ {read} }}}}"
    parts = {"headers": {"x-a": text}, "body": text, "redirect": {"to": text}}
    assert faults(configured("fail", {place: parts[place]})) == [message]


@pytest.mark.parametrize("read", ["vars.global.a", "response.user", "rules", "forward.headers"])
def test_an_answer_to_who_is_not_admitted_reads_the_request_alone(read: str) -> None:
    configuration = configured("fail", {}, variables={"a": "1"})
    configuration["endpoints"]["api"]["authentication"] = {
        "allow": {"header": ["x-key"]},
        "response": {"body": f"{{{{ {read} }}}}"},
    }
    name = read if read == "vars.global" else ".".join(read.split(".")[: 2 if read.startswith(("vars", "forward")) else 1])  # fmt: skip
    assert f"a response to who is not admitted does not see {name}" in faults(configuration)


TAINTED: list[dict[str, Any]] = [
    {"responses": {"pass": {"variables": {"a": "secrets.key"}}}},
    {"responses": {"error": {"variables": {"a": "{{ secrets.key }}"}}}},
    {"responses": {"fail": {"variables": {"a": "size(secrets)"}}}},
    {"variables": {"b": "secrets.key"}, "responses": {"pass": {"variables": {"a": "vars.local.b"}}}},
    {"variables": {"b": "secrets.key", "c": "vars.local.b + 'x'"}, "responses": {"pass": {"variables": {"a": "{{ vars.local.c }}"}}}},
    {"variables": {"b": "secrets.key"}, "responses": {"pass": {"variables": {"a": "vars.local"}}}},
    {"auth": [{"match": [{"type": "none"}], "forwardAs": [{"type": "bearer", "token": "{{ secrets.key }}"}]}],
     "responses": {"pass": {"variables": {"a": "auth.forward"}}}},
    {"auth": [{"match": [{"type": "none"}], "forwardAs": [{"type": "bearer", "token": "{{ secrets.key }}"}]}],
     "variables": {"b": "auth.forward.headers"}, "responses": {"pass": {"variables": {"a": "vars.local.b"}}}},
    {"backendApi": {"url": "http://b.example/{{ secrets.key }}"}, "responses": {"pass": {"variables": {"a": "backend.pages[0].url"}}}},
    {"backendApi": {"url": "http://b.example/", "query": {"k": "{{ secrets.key }}"}},
     "variables": {"b": "backend.pages"}, "responses": {"fail": {"variables": {"a": "{{ vars.local.b | tojson }}"}}}},
    {"auth": [{"match": [{"type": "none"}], "forwardAs": [{"type": "query", "name": "k", "value": "{{ secrets.key }}"}]}],
     "backendApi": {"url": "http://b.example/"}, "responses": {"error": {"variables": {"a": "backend.pages"}}}},
]  # fmt: skip


@pytest.mark.parametrize("rule", TAINTED)
def test_what_is_made_of_a_secret_is_not_exported(rule: dict[str, Any]) -> None:
    assert "it reads secrets, and what is exported can reach clients" in faults(
        {"endpoints": {"api": endpoint("rule")}, "rules": {"rule": rule}}
    )


def test_a_rule_can_compare_with_a_secret_and_export_something_else() -> None:
    rule = {
        "variables": {"b": "secrets.key", "c": "request.path"},
        "conditions": {"whenAll": ["vars.local.b == 'hidden'"]},
        "responses": {"pass": {"variables": {"a": "vars.local.c"}}},
    }
    configuration = {"endpoints": {"api": endpoint("rule")}, "rules": {"rule": rule}}
    assert Gate(configuration, secrets={"key": "hidden"}).ask(request()).outcome is Outcome.PASS


def test_a_body_comes_from_a_file_of_the_templates_folder(tmp_path: Any) -> None:
    (tmp_path / "no.html").write_text("<p>{{ response.user }}</p>")
    (tmp_path / "secret.html").write_text("{{ secrets.key }}")
    (tmp_path.parent / "outside.html").write_text("outside")

    def load(name: str) -> Any:
        policy = {"bodyFile": name, "headers": {"content-type": "text/html"}}
        return compile_configuration(
            Configuration.model_validate(configured("fail", policy)),
            Language(tmp_path),
            number=1,
            digest=b"",
            environment={},
            secret_values={"key": "hidden"},
        )

    plans = load("no.html").generation.plans
    one = Gate(configured("fail", {}))
    one.plans = plans
    assert one.ask(request()).body == b"<p>alice</p>"
    for name in ("secret.html", "../outside.html", "absent.html"):
        assert load(name).generation.quarantined == {"api"}
