"""Agent 6, credentials: which group wins, what it forwards, what never leaves."""

import base64
from typing import Any

import pytest

from factories.decisions import NOW, Gate, bearer, compiled, endpoint, gate, request
from fakes.backends import answered
from gatekeeper.forwardauth.agents import matching
from gatekeeper.forwardauth.model import (
    Answer,
    BackendResponse,
    CallBackend,
    Effect,
    Outcome,
    Rejected,
    VerifyToken,
)

ALLOW = {
    "allow": {
        "authorization": ["basic", "bearer"],
        "header": ["X-Key", "X-Tenant"],
        "query": ["key", "Key"],
        "cookie": ["sid", "lang"],
        "none": True,
    }
}
OK = BackendResponse(status=200)


def basic(user: str, password: str) -> dict[str, str]:
    text = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"authorization": f"Basic {text}"}


def match(type_: str, **more: Any) -> dict[str, Any]:
    return {"type": type_, **more}


def outcome(
    groups: list[list[dict[str, Any]]], headers: dict[str, str], query: str = ""
) -> Outcome:
    rule = {"auth": [{"match": group} for group in groups]}
    asked = gate(rule, authentication=ALLOW)
    return asked.ask(request(headers=headers, query=query)).outcome


KEY = match("header", name="X-KEY")
TENANT = match("header", name="x-tenant", value=["a", "b"])
TABLE: list[tuple[list[list[dict[str, Any]]], dict[str, str], str, bool]] = [
    ([[match("bearer")]], bearer("t"), "", True),
    ([[match("bearer")]], basic("a", "b"), "", False),
    ([[match("bearer")]], {}, "", False),
    ([[match("bearer", value="t")]], bearer("t"), "", True),
    ([[match("bearer", value="t")]], bearer("T"), "", False),
    ([[match("bearer", value="t")]], bearer("tt"), "", False),
    ([[match("bearer", value=["s", "t"])]], bearer("t"), "", True),
    ([[match("bearer", value="/^t[0-9]+$/")]], bearer("t12"), "", True),
    ([[match("bearer", value="/^t[0-9]+$/")]], bearer("xt12"), "", False),
    ([[match("bearer", value="/[0-9]/")]], bearer("xt12y"), "", True),
    ([[match("bearer", value="//")]], bearer("//"), "", True),
    ([[match("bearer", value="//")]], bearer("t"), "", False),
    ([[match("bearer", value="/t")]], bearer("/t"), "", True),
    ([[match("bearer", value=["s", "/^t/"])]], bearer("tt"), "", True),
    ([[match("bearer", value=["s", "/^t/"])]], bearer("s"), "", True),
    ([[match("basic")]], basic("a", "b"), "", True),
    ([[match("basic", username="a")]], basic("a", "x"), "", True),
    ([[match("basic", username="a", password="b")]], basic("a", "b"), "", True),
    ([[match("basic", username="a", password="b")]], basic("a", "x"), "", False),
    ([[match("basic", username="a", password="b")]], basic("x", "b"), "", False),
    ([[match("basic", password="/^b/")]], basic("x", "bb"), "", True),
    ([[match("basic", username="a:b")]], basic("a:b", "c"), "", False),
    ([[match("basic", username="zoë")]], basic("zoë", "c"), "", True),
    ([[KEY]], {"x-key": "k"}, "", True),
    ([[match("header", name="x-key", value="é")]], {"x-key": "é"}, "", True),
    ([[match("query", name="key")]], {}, "key=k", True),
    ([[match("query", name="Key")]], {}, "key=k", False),
    ([[match("query", name="key", value="a&b c")]], {}, "key=a%26b+c", True),
    ([[match("cookie", name="sid", value="1")]], {"cookie": "lang=de; sid=1"}, "", True),
    ([[match("cookie", name="sid", value="1")]], {"cookie": "lang=1"}, "", False),
    ([[match("none")]], {}, "", True),
    ([[match("none")]], bearer("t"), "", True),
    ([[KEY, TENANT]], {"x-key": "k", "x-tenant": "a"}, "", True),
    ([[KEY, TENANT]], {"x-key": "k", "x-tenant": "c"}, "", False),
    ([[KEY, TENANT]], {"x-tenant": "a"}, "", False),
    ([[KEY, TENANT], [match("bearer")]], bearer("t"), "", True),
    ([[KEY, TENANT], [match("bearer")]], {"x-key": "k"}, "", False),
    ([[match("basic"), match("bearer")]], bearer("t"), "", False),
]


@pytest.mark.parametrize(("groups", "headers", "query", "matches"), TABLE)
def test_all_of_a_group_and_any_of_the_groups(
    groups: list[list[dict[str, Any]]], headers: dict[str, str], query: str, matches: bool
) -> None:
    assert outcome(groups, headers, query) is (Outcome.PASS if matches else Outcome.FAIL)


def shown(
    groups: list[dict[str, Any]], headers: dict[str, str], query: str = ""
) -> tuple[str, str]:
    """Return `auth.selected` and `auth.input`, as JSON."""
    configuration = {
        "endpoints": {
            "api": endpoint(
                "rule",
                authentication=ALLOW,
                responsePolicy={"pass": {"headers": {"x-a": "{{ response.a }}", "x-b": "{{ response.b | tojson }}"}}},
            )
        },
        "rules": {
            "rule": {
                "auth": groups,
                "responses": {"pass": {"variables": {"a": "auth.selected", "b": "auth.input"}}},
            }
        },
    }  # fmt: skip
    answer = Gate(configuration).ask(request(headers=headers, query=query))
    assert answer.outcome is Outcome.PASS
    found = dict(answer.headers)
    return found["x-a"], found["x-b"]


def test_the_first_group_that_is_complete_wins_and_only_its_credentials_are_shown() -> None:
    groups = [{"match": [match("bearer"), KEY]}, {"match": [TENANT, match("query", name="key")]}, {"match": [match("bearer")]}]  # fmt: skip
    both = bearer("t") | {"x-tenant": "a", "cookie": "sid=1"}
    assert shown(groups, both, "key=k") == ("header", '{"header":{"x-tenant":"a"},"query":{"key":"k"}}')  # fmt: skip
    assert shown(groups, both) == ("bearer", '{"bearer":{"token":"t"}}')
    assert shown(groups, both | {"x-key": "k"}) == ("bearer", '{"bearer":{"token":"t"},"header":{"x-key":"k"}}')  # fmt: skip
    assert shown([{"match": [match("none")]}], both) == ("none", "{}")
    assert shown([{"match": [match("basic")]}], basic("u", "p")) == ("basic", '{"basic":{"password":"p","user":"u"}}')  # fmt: skip


# JSON Web Tokens


def tokens(**known: Any) -> Any:
    """Make the outside: what each issuer says of any token."""

    def outside(effect: Effect) -> Any:
        if isinstance(effect, CallBackend):
            return OK
        assert isinstance(effect, VerifyToken)
        assert effect.token == "t"
        return known[effect.issuer]

    return outside


CLAIMS = {"sub": "alice", "exp": NOW + 60}
REFUSED = Rejected(401, "of another issuer")
UNKNOWN = Rejected(503, "the keys cannot be had")
JWT: dict[str, Any] = {
    "auth": [
        {"match": [match("jwt", issuer="one")]},
        {"match": [match("jwt", issuer="two"), TENANT]},
    ],
    "conditions": {"whenAll": ["auth.input.jwt.claims.sub == 'alice'"]},
}


@pytest.mark.parametrize(
    ("one", "two", "headers", "expected"),
    [
        (CLAIMS, REFUSED, {}, Outcome.PASS),
        (CLAIMS | {"sub": "bob"}, REFUSED, {}, Outcome.FAIL),
        (REFUSED, CLAIMS, {"x-tenant": "a"}, Outcome.PASS),
        (REFUSED, CLAIMS, {}, Outcome.FAIL),
        (REFUSED, REFUSED, {"x-tenant": "a"}, Outcome.FAIL),
        (CLAIMS, UNKNOWN, {}, Outcome.PASS),
        (UNKNOWN, REFUSED, {}, Outcome.ERROR),
        (UNKNOWN, CLAIMS, {"x-tenant": "a"}, Outcome.PASS),
    ],
)
def test_a_token_counts_when_its_issuer_says_so(
    one: Any, two: Any, headers: dict[str, str], expected: Outcome
) -> None:
    asked = gate(JWT, authentication=ALLOW, outside=tokens(one=one, two=two))
    assert asked.ask(request(headers=bearer("t") | headers)).outcome is expected


def test_no_issuer_is_asked_without_a_token() -> None:
    asked = gate(JWT, authentication=ALLOW)
    assert asked.ask(request(headers=basic("a", "b"))).outcome is Outcome.FAIL
    assert not asked.effects


def test_the_winner_shows_claims_and_issuer() -> None:
    rule = JWT | {
        "conditions": {
            "whenAll": ["auth.input.jwt.issuer == 'one'", "auth.input.bearer.token == 't'", "auth.selected == 'jwt'"]
        }
    }  # fmt: skip
    asked = gate(rule, authentication=ALLOW, outside=tokens(one=CLAIMS, two=REFUSED))
    assert asked.ask(request(headers=bearer("t"))).outcome is Outcome.PASS


def test_a_result_is_kept_no_longer_than_its_token_lives() -> None:
    rule = JWT | {"cache": {"ttl": {"pass": "5m", "fail": "5m"}}, "backendApi": {"url": "https://facts.example/"}}  # fmt: skip
    asked = gate(rule, authentication=ALLOW, outside=tokens(one=CLAIMS, two=REFUSED))
    for at, calls in ((0, 1), (59, 1), (60, 2)):
        asked.now = NOW + at
        asked.ask(request(headers=bearer("t")))
        assert len(asked.calls) == calls


# What is forwarded


def forwarded(
    group: dict[str, Any] | None,
    given: dict[str, str],
    query_given: str = "",
    *,
    others: list[dict[str, Any]] | None = None,
    **backend: Any,
) -> tuple[Answer, dict[str, str], str]:
    """Ask, and return the answer, the headers and the URL of the backend's request."""
    auth = ([] if group is None else [group]) + (others or [])
    rule = {"auth": auth, "backendApi": {"url": "https://facts.example/x", **backend}}
    asked = gate(rule, authentication=ALLOW, outside=lambda _: OK)
    answer = asked.ask(request(headers=given, query=query_given))
    if not asked.calls:
        return answer, {}, ""
    (call,) = asked.calls
    assert len(call.headers) == len({name.lower() for name, _ in call.headers})
    return answer, dict(call.headers), call.url


AGAIN: list[tuple[list[dict[str, Any]], dict[str, str], str, dict[str, str], str]] = [
    ([match("bearer")], bearer("t"), "", {"authorization": "Bearer t"}, ""),
    ([match("basic")], basic("u", ""), "", {"authorization": "Basic dTo="}, ""),
    ([KEY], {"x-key": "k"} | bearer("t"), "", {"x-key": "k"}, ""),
    ([match("query", name="key")], {}, "key=a%26b&other=1", {}, "?key=a%26b"),
    ([match("cookie", name="sid")], {"cookie": "sid=1; lang=de"}, "", {"cookie": "sid=1"}, ""),
    ([match("none")], bearer("t"), "key=k", {}, ""),
    ([KEY, match("bearer")], {"x-key": "k"} | bearer("t"), "", {"x-key": "k", "authorization": "Bearer t"}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("group", "headers", "query", "sent", "asked"), AGAIN)
def test_without_forward_as_the_winner_goes_on_as_it_came(
    group: list[dict[str, Any]],
    headers: dict[str, str],
    query: str,
    sent: dict[str, str],
    asked: str,
) -> None:
    _, found, url = forwarded({"match": group}, headers, query)
    assert found == sent
    assert url == f"https://facts.example/x{asked}"


def test_without_auth_no_credential_goes_on() -> None:
    everything = bearer("t") | {"x-key": "k", "cookie": "sid=1"}
    assert forwarded(None, everything, "key=k")[1:] == ({}, "https://facts.example/x")


AS: list[tuple[list[dict[str, Any]], dict[str, str], str]] = [
    ([{"type": "bearer", "token": "{{ auth.input.header['x-key'] }}"}], {"authorization": "Bearer k"}, ""),
    ([{"type": "bearer", "token": "fixed"}], {"authorization": "Bearer fixed"}, ""),
    ([{"type": "basic", "user": "{{ auth.input.header['x-key'] }}", "password": " p:w "}], {"authorization": "Basic azogcDp3IA=="}, ""),
    ([{"type": "basic", "user": "u", "password": ""}], {"authorization": "Basic dTo="}, ""),
    ([{"type": "header", "name": "X-Other", "value": "{{ auth.selected }}"}], {"x-other": "header"}, ""),
    ([{"type": "query", "name": "token", "value": "{{ auth.input.header['x-key'] }}&"}], {}, "?token=k%26"),
    ([{"type": "header", "name": "x-a", "value": "1"}, {"type": "bearer", "token": "2"}, {"type": "query", "name": "c", "value": "3"}],
     {"x-a": "1", "authorization": "Bearer 2"}, "?c=3"),
    ([{"type": "none"}], {}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("forward_as", "sent", "query"), AS)
def test_the_winner_is_forwarded_in_another_form(
    forward_as: list[dict[str, Any]], sent: dict[str, str], query: str
) -> None:
    group = {"match": [KEY], "forwardAs": forward_as}
    _, headers, url = forwarded(group, {"x-key": "k"})
    assert headers == sent
    assert url == f"https://facts.example/x{query}"


@pytest.mark.parametrize(
    "forward",
    [
        {"type": "bearer", "token": "{{ '' }}"},
        {"type": "bearer", "token": "  "},
        {"type": "bearer", "token": "{{ auth.input.bearer.token }}"},
        {"type": "header", "name": "x-a", "value": "{{ request.headers['x-absent'] }}"},
        {"type": "query", "name": "a", "value": ""},
        {"type": "basic", "user": "", "password": "p"},
        {"type": "basic", "user": "a:b", "password": "p"},
        {"type": "basic", "user": "u", "password": "{{ auth.input.basic.password }}"},
    ],
)
def test_a_missing_piece_is_an_error_and_nothing_is_asked(forward: dict[str, Any]) -> None:
    answer, headers, url = forwarded({"match": [KEY], "forwardAs": [forward]}, {"x-key": "k"})
    assert (answer.outcome, headers, url) == (Outcome.ERROR, {}, "")


STRIPPED = [
    {"match": [match("bearer"), match("header", name="x-tenant")]},
    {"match": [match("query", name="key"), match("cookie", name="sid")]},
]
"""Groups that do not win here; what they name is stripped all the same."""


def test_every_source_that_any_group_names_is_stripped_from_copies() -> None:
    copies = {"Authorization-Copy": "x", "X-Key": None, "X-Tenant": None, "Cookie": None, "Accept": None}  # fmt: skip
    winner = {"match": [KEY], "forwardAs": [{"type": "none"}]}
    given = bearer("t") | {"x-key": "k", "x-tenant": "a", "cookie": "sid=1; lang=de", "accept": "*/*"}  # fmt: skip
    _, headers, url = forwarded(
        winner, given, "key=k&Key=K&page=2", others=STRIPPED, headers=copies,
        query={"key": None, "Key": None, "page": None},
    )  # fmt: skip
    assert headers == {"authorization-copy": "x", "cookie": "lang=de", "accept": "*/*"}
    assert url == "https://facts.example/x?Key=K&page=2"


def test_a_cookie_header_of_nothing_but_credentials_is_left_out() -> None:
    winner = {"match": [match("cookie", name="sid")], "forwardAs": [{"type": "none"}]}
    _, headers, _ = forwarded(winner, {"cookie": "sid=1"}, headers={"cookie": None})
    assert headers == {}


def test_an_explicit_template_can_write_a_credential() -> None:
    winner = {"match": [KEY], "forwardAs": [{"type": "none"}]}
    _, headers, _ = forwarded(winner, {"x-key": "k"}, headers={"x-key": "{{ auth.input.header['x-key'] }}"})  # fmt: skip
    assert headers == {"x-key": "k"}


def test_what_the_winner_forwards_owns_its_header() -> None:
    forward = [{"type": "header", "name": "X-Key", "value": "winner"}]
    _, headers, _ = forwarded(
        {"match": [KEY], "forwardAs": forward}, {"x-key": "k"}, headers={"X-KEY": "static"}
    )
    assert headers == {"x-key": "winner"}


def test_authorization_cannot_be_written_twice() -> None:
    forward = [{"type": "bearer", "token": "a"}, {"type": "header", "name": "Authorization", "value": "b"}]  # fmt: skip
    with pytest.raises(ValueError, match="same header"):
        compiled({"rules": {"rule": {"auth": [{"match": [KEY], "forwardAs": forward}]}}})


@pytest.mark.parametrize("read", ["vars.local.a", "backend.status", "session.live", "auth.forward"])
def test_what_is_not_there_when_credentials_are_forwarded_is_found_at_load(read: str) -> None:
    forward = [{"type": "bearer", "token": f"{{{{ {read} }}}}"}]
    rule = {"auth": [{"match": [KEY], "forwardAs": forward}], "variables": {"a": "1"}}
    found = compiled({"endpoints": {"api": endpoint("rule")}, "rules": {"rule": rule}})
    assert any("not there by then" in fault.message for fault in found.faults)


# Timing


def test_no_literal_is_kept_in_a_plan() -> None:
    literals = ["plain-literal", "/^pattern/"]
    rule = {"auth": [{"match": [match("bearer", value=literals)]}, {"match": [match("basic", username="plain-user", password="plain-word")]}]}  # fmt: skip
    plan = gate(rule, authentication=ALLOW).plans["api"]
    assert "plain-" not in repr(plan)


@pytest.mark.parametrize("count", [1, 1_000])
def test_one_digest_is_made_for_a_credential_however_many_literals_there_are(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    literals = [f"literal-{index}" for index in range(count)]
    asked = gate({"auth": [{"match": [match("bearer", value=literals)]}]}, authentication=ALLOW)
    made: list[str] = []
    digest = matching._digest

    def counted(key: bytes, text: str) -> bytes:
        made.append(text)
        return digest(key, text)

    monkeypatch.setattr(matching, "_digest", counted)
    for token in ("literal-0", "literal-none", "x"):
        made.clear()
        asked.ask(request(headers=bearer(token)))
        assert made == [token]


def test_user_and_password_are_compared_also_when_one_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    groups = [{"match": [match("basic", username="u", password="p")]}]
    asked = gate({"auth": groups}, authentication=ALLOW)
    made: list[str] = []
    digest = matching._digest

    def counted(key: bytes, text: str) -> bytes:
        made.append(text)
        return digest(key, text)

    monkeypatch.setattr(matching, "_digest", counted)
    asked.ask(request(headers=basic("x", "y")))
    assert sorted(made) == ["x", "y"]


# Who is recognised

ANY = {"authentication": {"allow": {"authorization": ["bearer"], "header": ["x-key"], "none": True}, "challenge": {"type": "bearer", "realm": "r"}}}  # fmt: skip
KNOWS = {"auth": [{"match": [{"type": "bearer", "value": "known"}]}]}
ADMINS = {"auth": [{"match": [{"type": "header", "name": "x-key", "value": "admin"}]}]}
GUESTS = {"auth": [{"match": [{"type": "none"}]}]}


@pytest.mark.parametrize(
    ("rules", "headers", "status"),
    [
        ([KNOWS], {"authorization": "Bearer guessed"}, 401),
        ([KNOWS], {}, 401),
        ([KNOWS, ADMINS], {"authorization": "Bearer known"}, 403),
        ([KNOWS, ADMINS], {"authorization": "Bearer known", "x-key": "guessed"}, 403),
        ([KNOWS, ADMINS], {"authorization": "Bearer known", "x-key": "admin"}, 200),
        ([GUESTS, KNOWS], {}, 401),
        ([GUESTS, KNOWS], {"authorization": "Bearer guessed"}, 401),
        ([KNOWS, {"conditions": {"whenAll": ["false"]}}], {"authorization": "Bearer known"}, 403),
        ([{"conditions": {"whenAll": ["false"]}}], {}, 403),
    ],
)
@pytest.mark.parametrize("kept", [{}, {"cache": {"resultTTL": "1m"}}])
def test_a_credential_nobody_knows_is_answered_like_none(
    rules: list[dict[str, Any]], headers: dict[str, str], status: int, kept: dict[str, Any]
) -> None:
    names = [f"rule{number}" for number in range(len(rules))]
    api = {**endpoint(*names), **ANY, **kept}
    gate = Gate({"endpoints": {"api": api}, "rules": dict(zip(names, rules, strict=True))})
    for _ in range(2):  # the second is kept, where it can be
        answer = gate.ask(request(headers=headers))
        assert answer.status == status
        assert (("www-authenticate", 'Bearer realm="r"') in answer.headers) is (status == 401)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("key=s3cret", "/"),
        ("a=1&key=s3cret&b=%2F", "/?a=1&b=%2F"),
        ("a=1&k%65y=s3cret", "/?a=1"),
        ("a=1&keys=2", "/?a=1&keys=2"),
    ],
)
def test_a_parameter_that_a_group_names_is_stripped_from_what_a_backend_is_told(
    query: str, told: str
) -> None:
    """X-Forwarded-Uri has the whole query of the client, its credential too."""
    configuration = {
        "endpoints": {
            "api": endpoint(
                "rule",
                authentication={"allow": {"query": ["key"], "none": True}},
                forwardRequestPolicy={"forwardProxyHeaders": True},
            )
        },
        "rules": {
            "rule": {
                "auth": [{"match": [{"type": "none"}]}, {"match": [{"type": "query", "name": "key"}]}],
                "backendApi": {"url": "https://facts.example/", "forwardProxyHeaders": True},
            }
        },
    }  # fmt: skip
    one = Gate(configuration, outside=lambda _: answered({}))
    one.ask(request(query=query))
    (call,) = one.calls
    assert dict(call.headers)["x-forwarded-uri"] == told
