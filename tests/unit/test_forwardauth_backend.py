"""Agent 7: the request a rule makes, and what is seen of its answer."""

from typing import Any
from urllib.parse import urlsplit

import pytest

from factories.decisions import NOW, Gate, bearer, compiled, endpoint, gate, request
from fakes.backends import answered
from gatekeeper.forwardauth.model import (
    BackendPage,
    BackendRequest,
    BackendResponse,
    Outcome,
)

URL = "https://facts.example/x"
ALLOW = {"allow": {"authorization": ["bearer"], "none": True}}
BEARER = [{"match": [{"type": "bearer"}]}]


def asked(backend: dict[str, Any], *, auth: Any = (), **original: Any) -> BackendRequest:
    """Return the one request that a rule makes."""
    rule = {"auth": list(auth), "backendApi": {"url": URL, **backend}}
    one = gate(rule, authentication=ALLOW, outside=lambda _: answered({}), secrets={"key": "s3cret"})  # fmt: skip
    one.ask(request(**original))
    (call,) = one.calls
    made: BackendRequest = call
    return made


def test_headers_are_copied_fixed_or_made_and_empty_ones_left_out() -> None:
    headers = {
        "X-Copied": None,
        "X-Absent": None,
        "X-Blank": None,
        "X-Fixed": " a b ",
        "X-Made": "{{ request.method }} {{ request.path }}",
        "X-Empty": "{{ '' }}",
        "X-Spaces": "   ",
        "X-Secret": "{{ secrets.key }}",
    }
    call = asked({"headers": headers}, headers={"X-COPIED": "c", "x-blank": "", "x-other": "o"})
    assert dict(call.headers) == {
        "x-copied": "c",
        "x-fixed": "a b",
        "x-made": "GET /",
        "x-secret": "s3cret",
    }


def test_parameters_keep_their_names_and_are_escaped() -> None:
    query = {"Page": None, "absent": None, "who": "{{ request.client }}", "a b": "{{ request.path }}", "no": ""}  # fmt: skip
    call = asked({"query": query}, query="Page=1%262&page=3", path="/é?&=#")
    assert call.url == f"{URL}?Page=1%262&who=203.0.113.7&a%20b=%2F%C3%A9%3F%26%3D%23"


def test_parameters_are_added_to_those_of_the_url() -> None:
    assert asked({"url": f"{URL}?a=1", "query": {"b": "2"}}).url == f"{URL}?a=1&b=2"


def test_method_and_body() -> None:
    body = '{"path": {{ request.path | tojson }}}'
    call = asked({"method": "POST", "body": body}, path='/"é')
    assert (call.method, call.body) == ("POST", '{"path": "/\\"é"}'.encode())
    assert asked({}).body is None


def test_bounds_of_a_call() -> None:
    call = asked({"acceptedStatuses": [200, 404], "timeout": "2s", "retries": 3, "pagination": {"type": "link-header", "maxPages": 7}})  # fmt: skip
    assert (call.accepted, call.timeout, call.retries, call.max_pages) == (
        frozenset({200, 404}),
        2.0,
        3,
        7,
    )
    call = asked({})
    assert (call.accepted, call.timeout, call.retries, call.max_pages) == (
        frozenset({200}),
        10.0,
        0,
        1,
    )


HOSTILE = ["../admin#", "@evil.example", "?x=1", "%2f..%2f", "//evil.example", "a/b;c", "é\u2028", ".%2e"]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_stays_in_its_part_of_a_url(value: str) -> None:
    url = "https://facts.example/users/{{ request.headers['x-v'] }}/roles?q={{ request.headers['x-v'] }}&z=1"  # fmt: skip
    headers = {"x-v": value.encode().decode("latin-1")}
    parts = urlsplit(asked({"url": url}, headers=headers).url)
    assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "facts.example", "")
    assert parts.path.startswith("/users/")
    assert parts.path.endswith("/roles")
    assert parts.path.count("/") == 3
    assert parts.query.endswith("&z=1")
    assert parts.query.count("&") == 1


@pytest.mark.parametrize("value", ["..", ".", ""])
def test_a_value_that_is_a_step_up_is_an_error(value: str) -> None:
    rule = {"backendApi": {"url": "https://facts.example/users/{{ request.query.v }}/roles"}}
    one = gate(rule)
    assert one.ask(request(query=f"v={value}")).outcome is Outcome.ERROR
    assert not one.calls


@pytest.mark.parametrize(
    "backend",
    [
        {"url": "https://{{ request.host }}/"},
        {"url": "{{ request.path }}"},
        {"url": "https://facts.example{{ request.path }}"},
        {"url": "ftp://facts.example/"},
        {"headers": {"x-a": "{{ vars.local.a }}"}},
        {"headers": {"x-a": "{{ backend.status }}"}},
        {"body": "{{ nonsense }}"},
        {"bodyFile": "absent.txt"},
    ],
)
def test_what_cannot_be_made_is_found_at_load(backend: dict[str, Any]) -> None:
    rule = {"variables": {"a": "1"}, "backendApi": {"url": URL, **backend}}
    found = compiled({"endpoints": {"api": endpoint("rule")}, "rules": {"rule": rule}})
    assert "api" in found.generation.quarantined
    assert {fault.where[:3] for fault in found.faults} == {("rules", "rule", "backendApi")}


# Introspection (RFC 7662)


def test_introspection_asks_about_the_token_in_a_form() -> None:
    call = asked(
        {"introspection": {"tokenTypeHint": "access_token"}, "headers": {"content-type": "text/x"}},
        auth=BEARER,
        headers=bearer("a+b/c=&d"),
    )
    assert call.method == "POST"
    assert call.body == b"token=a%2Bb%2Fc%3D%26d&token_type_hint=access_token"
    assert dict(call.headers) == {
        "content-type": "application/x-www-form-urlencoded",
        "accept": "application/json",
    }


def test_the_client_of_an_introspection_authenticates_itself() -> None:
    introspection = {"clientId": "a:b", "clientSecret": "{{ secrets.key }} +"}
    call = asked({"introspection": introspection}, auth=BEARER, headers=bearer("t"))
    # RFC 6749 section 2.3.1: both are form-encoded first, "a%3Ab:s3cret+%2B".
    assert dict(call.headers)["authorization"] == "Basic YSUzQWI6czNjcmV0KyUyQg=="


def test_a_credential_written_for_an_introspection_is_sent() -> None:
    group = {"match": [{"type": "bearer"}], "forwardAs": [{"type": "bearer", "token": "{{ secrets.key }}"}]}  # fmt: skip
    call = asked({"introspection": {}}, auth=[group], headers=bearer("t"))
    assert dict(call.headers)["authorization"] == "Bearer s3cret"
    assert call.body == b"token=t"


def test_without_a_token_there_is_no_introspection() -> None:
    rule = {"backendApi": {"url": URL, "introspection": {"token": "{{ request.query.t }}"}}}
    one = gate(rule)
    assert one.ask(request(query="t=")).outcome is Outcome.ERROR
    assert not one.calls


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ({"active": True}, Outcome.PASS),
        ({"active": False}, Outcome.FAIL),
        ({"active": "true"}, Outcome.FAIL),
        ({"active": 1}, Outcome.FAIL),
        ({}, Outcome.FAIL),
        ([True], Outcome.FAIL),
        (None, Outcome.FAIL),
    ],
    ids=repr,
)
def test_a_token_that_an_introspection_does_not_call_active_never_passes(
    body: Any, outcome: Outcome
) -> None:
    """An inactive token is a 200 as well (RFC 7662 section 2.2), and needs no condition."""
    rule = {"auth": BEARER, "backendApi": {"url": URL, "introspection": {}}}
    one = gate(rule, authentication=ALLOW, outside=lambda _call: answered(body))
    assert one.ask(request(headers=bearer("t"))).outcome is outcome


def test_an_introspection_is_kept_no_longer_than_the_token_lives() -> None:
    rule = {
        "auth": BEARER,
        "backendApi": {"url": URL, "introspection": {}},
        "cache": {"ttl": {"pass": "1h"}},
    }
    answers = iter([{"active": True, "exp": NOW + 10}, {"active": False}])
    one = gate(rule, authentication=ALLOW, outside=lambda _call: answered(next(answers)))
    assert one.ask(request(headers=bearer("t"))).outcome is Outcome.PASS
    one.now = NOW + 9
    assert one.ask(request(headers=bearer("t"))).outcome is Outcome.PASS
    assert len(one.calls) == 1
    one.now = NOW + 11
    assert one.ask(request(headers=bearer("t"))).outcome is Outcome.FAIL


# X-Forwarded-*


def proxying(*, policy: bool, rule: bool) -> Gate:
    backend = {"url": URL, "forwardProxyHeaders": rule, "headers": {"x-forwarded-for": "me"}}
    return Gate(
        {
            "endpoints": {
                "api": endpoint("rule", forwardRequestPolicy={"forwardProxyHeaders": policy})
            },
            "rules": {"rule": {"backendApi": backend}},
        },
        outside=lambda _: answered({}),
    )


def test_forwarded_headers_are_made_anew() -> None:
    one = proxying(policy=True, rule=True)
    one.ask(request("PUT", "/p", query="a=1", headers={"x-forwarded-host": "evil"}))
    assert dict(one.calls[0].headers) == {
        "x-forwarded-for": "203.0.113.7",
        "x-forwarded-method": "PUT",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "app.example",
        "x-forwarded-uri": "/p?a=1",
    }


@pytest.mark.parametrize(("policy", "rule"), [(False, True), (True, False), (False, False)])
def test_both_the_endpoint_and_the_rule_must_want_them(policy: bool, rule: bool) -> None:
    one = proxying(policy=policy, rule=rule)
    one.ask(request())
    assert dict(one.calls[0].headers) == {"x-forwarded-for": "me"}


# What is seen of an answer


def judged(response: BackendResponse, condition: str, **backend: Any) -> Outcome:
    rule = {"backendApi": {"url": URL, **backend}, "conditions": {"errorWhen": [f"!({condition})"]}}
    return gate(rule, outside=lambda _: response).ask(request()).outcome


PAGES = tuple(
    BackendPage(url=f"{URL}?{n}", status=200, headers={"n": str(n)}, body=[n], body_text=f"[{n}]")
    for n in (1, 2)
)
NOT_JSON = BackendResponse(status=200, body_text="<html>", error="its body is not JSON")
SEEN: list[tuple[BackendResponse, str]] = [
    (answered({"a": [1, "b", None]}), "backend.body.a[0] == 1 && backend.body.a[2] == null"),
    (answered({"a": 1}), "backend.requested && backend.accepted && backend.error == ''"),
    (answered(text="plain"), "backend.bodyText == 'plain' && backend.body == null"),
    (answered({}, headers={"x-a": "b"}), "backend.headers['x-a'] == 'b'"),
    (answered({}, status=404), "backend.status == 404 && !backend.accepted"),
    (BackendResponse(status=200, pages=PAGES), "backend.pages.map(p, p.body[0]) == [1, 2]"),
    (BackendResponse(status=200, pages=PAGES), "backend.pages[1].headers.n == '2' && backend.pages[0].bodyText == '[1]'"),
    (BackendResponse(error="late"), "backend.status == 0 && !backend.accepted && backend.error == 'late'"),
    (NOT_JSON, "backend.status == 200 && !backend.accepted && backend.bodyText == '<html>'"),
]  # fmt: skip


@pytest.mark.parametrize(("response", "condition"), SEEN)
def test_conditions_see_the_answer(response: BackendResponse, condition: str) -> None:
    one = judged(response, condition)
    # What cannot be relied on is an error anyhow: it must be another condition's doing.
    if response.error is None:
        assert one is (Outcome.PASS if response.status == 200 else Outcome.FAIL)
    rule = {"backendApi": {"url": URL}, "conditions": {"failWhen": [condition]}}
    assert gate(rule, outside=lambda _: response).ask(request()).outcome is Outcome.FAIL


def test_without_a_backend_nothing_was_asked() -> None:
    condition = "!backend.requested && backend.status == 0 && backend.body == null && backend.pages == []"  # fmt: skip
    assert gate({"conditions": {"whenAll": [condition]}}).ask(request()).outcome is Outcome.PASS


STATUSES = [
    (answered({}, status=200), {}, Outcome.PASS),
    (answered({}, status=204), {}, Outcome.FAIL),
    (answered({}, status=204), {"acceptedStatuses": [204]}, Outcome.PASS),
    (answered({}, status=200), {"acceptedStatuses": [204]}, Outcome.FAIL),
    (answered({}, status=302), {}, Outcome.FAIL),
    (answered({}, status=401), {}, Outcome.FAIL),
    (answered({}, status=500), {}, Outcome.ERROR),
    (answered({}, status=500), {"acceptedStatuses": [500]}, Outcome.PASS),
    (BackendResponse(error="late"), {"acceptedStatuses": [200]}, Outcome.ERROR),
    (NOT_JSON, {}, Outcome.ERROR),
]


@pytest.mark.parametrize(("response", "backend", "outcome"), STATUSES)
def test_which_statuses_are_accepted(
    response: BackendResponse, backend: dict[str, Any], outcome: Outcome
) -> None:
    assert judged(response, "true", **backend) is outcome
