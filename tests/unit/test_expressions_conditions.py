"""CEL: what is refused when it is loaded, what it means, and what it costs nobody."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from factories.scopes import NOW, scope
from gatekeeper.forwardauth.adapters.language import Language
from gatekeeper.forwardauth.errors import EvaluationError
from gatekeeper.platform.expressions.conditions import MAX_EXPRESSION_CHARS

if TYPE_CHECKING:
    from gatekeeper.forwardauth.model import Scope

LANGUAGE = Language()


def holds(source: str, at: Scope | None = None) -> bool:
    answer = LANGUAGE.condition(source)(at or scope())
    assert isinstance(answer, bool)
    return answer


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("request.methd == 'GET'", "there is no request.methd; did you mean request.method?"),
        ("requst.method == 'GET'", "did you mean request.method?"),
        ("request == 1", "request is no value, its members are: request.id"),
        ("nothing", "there is no nothing"),
        ("request.method == 1", "no matching overload"),
        ("request.method.size", "cannot be the operand of a select"),
        ("request.method", "must be true or false, this is string"),
        ("'a' + 'b'", "must be true or false, this is string"),
        ("request.method ==", "Syntax error"),
        ("", "Syntax error"),
        ("lookup(request.headers)", "lookup takes two values"),
        ("ip_in(request.client, request.path)", "a literal network"),
        ("['10.0.0.0/8'].exists(n, ip_in(request.client, n))", "a literal network"),
        ("ip_in(request.client, '10.0.0.1/8')", "has host bits set"),
        ("true" + " || true" * MAX_EXPRESSION_CHARS, "at most 4096 characters"),
        ("(" * 300 + "true" + ")" * 300, "recursion"),
    ],
)
def test_a_wrong_condition_is_refused_when_it_is_loaded(source: str, reason: str) -> None:
    with pytest.raises(ValueError, match=".") as refused:
        LANGUAGE.condition(source)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "source",
    [
        # An error is absorbed by || and && when the other side decides (in either order).
        "backend.body.nope == 1 || true",
        "true || backend.body.nope == 1",
        "!(backend.body.nope == 1 && false)",
        # Numbers of different kinds compare by value, other kinds are unequal and no error.
        "backend.body.left == 2.5 && backend.body.left > 2",
        "dyn(1) == 1.0 && dyn(1) == 1u",
        "dyn('1') != 1",
        "backend.body.active == true && backend.body.active != 1",
        "backend.status in [200, 204]",
        # What is there, what is null, what is missing.
        "has(request.headers.a) == false && !('a' in request.headers)",
        "backend.body.none == null && has(backend.body.none)",
        "request.headers[?'a'].orValue('') == ''",
        # Text.
        "request.headers['x-role'].startsWith('ad') && request.path.matches('^/re.*s$')",
        "request.path.lowerAscii().split('/')[1] == 'reports'",
        "base64.encode(b'a') == 'YQ==' && math.greatest(1, 2) == 2",
        "'{{ request.path }}'.size() == 18",
        # Time.
        "now > timestamp('2026-03-01T12:00:00Z') && now - timestamp('2026-03-01T12:00:00Z') == duration('30m')",
        "now.getHours('Europe/Berlin') == 13 && now.getDayOfWeek() == 0",
        # Lists.
        "backend.body.roles.exists(r, r == 'dev') && backend.body.roles.all(r, r.size() == 3)",
        "[1, 2, 3].filter(n, n > 1).map(n, n * 2) == [4, 6]",
        "[{'method': 1}].exists(request, request.method == 1)",
    ],
)
def test_what_conditions_rely_on_holds(source: str) -> None:
    assert holds(source)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("lookup(request.headers, 'x-role')", "admin"),
        ("lookup(request.headers, 'nope')", None),
        ("lookup(backend.body, 'none')", None),
        ("lookup(backend.body, 'roles')[1]", "ops"),
        ("lookup(lookup(lookup(rules, 'login'), 'variables'), 'name')", "Jo"),
        ("lookup(lookup(lookup(rules, 'nope'), 'variables'), 'name')", None),
        ("lookup(backend.body.roles, 'a')", None),
        ("lookup(null, 'a')", None),
        ("lookup(1, 'a')", None),
        ("lookup({1: 'one'}, 1)", "one"),
        ("lookup({'a': 1}, [1])", None),
        ("lookup(request.headers, lookup({'a': 'x-team'}, 'a'))", "blue"),
        ("[lookup(request.headers, 'x-role'), {'a': lookup(rules, 'x')}]", ["admin", {"a": None}]),
        ("['x-role', 'y'].map(k, lookup(request.headers, k))", ["admin", None]),
        ("has(backend.body.active) ? lookup(vars.global, 'tier') : ''", "gold"),
    ],
)
def test_lookup_gives_null_for_what_is_not_there(source: str, value: object) -> None:
    assert LANGUAGE.expression(source)(scope()) == value


@pytest.mark.parametrize(
    ("address", "network", "inside"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("::ffff:10.1.2.3", "10.0.0.0/8", True),
        ("2001:db8::1", "2001:db8::/32", True),
        ("2001:db8::1", "10.0.0.0/8", False),
    ],
)
def test_an_address_is_in_a_network_or_not(address: str, network: str, inside: bool) -> None:
    at = scope(request__client=address)
    assert holds(f"ip_in(request.client, '{network}')", at) is inside
    assert (
        LANGUAGE.template(f"{{{{ ip_in(request.client, '{network}') }}}}")(at)
        == str(inside).lower()
    )


@pytest.mark.parametrize("address", ["unix", "", "10.0.0.1\0", "10.0.0.0/8"])
def test_what_is_no_address_is_an_error_that_another_side_may_absorb(address: str) -> None:
    at = scope(request__client=address)
    with pytest.raises(EvaluationError, match="ip_in is given what is no address"):
        holds("ip_in(request.client, '10.0.0.0/8')", at)
    assert holds("ip_in(request.client, '10.0.0.0/8') || request.client != ''", scope())
    with pytest.raises(EvaluationError, match="no address"):
        LANGUAGE.template("{{ ip_in(request.client, '10.0.0.0/8') }}")(at)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("backend.body.nope == 1", "a key is not there"),
        ("backend.bodyText == ''", "a name has no value here"),
        ("backend.body.left / 0 == 1", "it cannot be evaluated|not of the kind"),
        ("1 / 0 == 1", "divides by zero"),
        ("backend.body.roles[7] == ''", "out of bounds"),
        ("backend.body", "neither true nor false"),
        ("backend.body.none", "neither true nor false"),
        ("lookup(rules, 'nope')", "neither true nor false"),
        ("backend.body.roles > 1", "not of the kind"),
        ("'a'.matches(request.path + '(')", "cannot be evaluated"),
    ],
)
def test_a_condition_without_an_answer_is_an_error(source: str, reason: str) -> None:
    with pytest.raises(EvaluationError, match=reason):
        holds(source)


def test_a_condition_that_takes_too_many_steps_is_an_error() -> None:
    at = scope(backend__body=list(range(200)))
    with pytest.raises(EvaluationError, match="more than 10,000 steps"):
        holds("backend.body.all(a, backend.body.all(b, a + b >= 0))", at)


@pytest.mark.parametrize(
    "source", ["'a'.matches(request.path + '(')", "lookup(rules, request.path)"]
)
def test_an_error_tells_the_source_and_no_value(source: str) -> None:
    with pytest.raises(EvaluationError) as failed:
        holds(source, scope(request__path="/s3cr3t"))
    assert source in str(failed.value)
    assert "s3cr3t" not in str(failed.value)
    assert failed.value.__cause__ is None


def test_text_ends_at_no_nul() -> None:
    """The binding hands text over up to its first NUL; then this would be a way in."""
    at = scope(auth__selected="jwt\0x", backend__body={"role\0x": "a", "l": [{"k": "b\0"}]})
    assert not holds("auth.selected == 'jwt'", at)
    assert not holds("has(backend.body.role)", at)
    assert not holds("backend.body.l[0].k == 'b'", at)
    assert holds("auth.selected.size() == 5 && request.headers['x-role'] == 'admin'", at)
    assert holds("auth.selected == 'jwt'", scope(auth__selected="jwt"))


def test_any_bytes_of_a_header_can_be_compared() -> None:
    value = bytes(range(1, 256)).decode("latin-1")
    at = scope(request__headers={"x": value})
    assert holds("request.headers.x.size() == 255", at)
    assert LANGUAGE.expression("request.headers.x")(at) == value


def test_text_that_is_no_unicode_is_an_error() -> None:
    with pytest.raises(EvaluationError):
        holds("request.method == 'GET'", scope(request__method="\ud800"))


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("request.path", "/reports"),
        ("backend.status + 1", 201),
        ("backend.body.left", 2.5),
        ("true", True),
        ("null", None),
        ("now", NOW),
        ("backend.body", {"active": True, "roles": ["dev", "ops"], "left": 2.5, "none": None}),
        ("[1, null, {'a': [null]}]", [1, None, {"a": [None]}]),
        ("Hi {{ auth.input.user }}", "Hi jo"),
        ("{% if request.proxied %}yes{% endif %}", "yes"),
    ],
)
def test_an_expression_has_a_plain_value(source: str, value: Any) -> None:
    found = LANGUAGE.expression(source)(scope())
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "source", ["b'a'", "type(1)", "duration('1s')", "optional.of(1)", "[b'a']"]
)
def test_what_only_cel_knows_is_no_value(source: str) -> None:
    with pytest.raises(EvaluationError):
        LANGUAGE.expression(source)(scope())


def test_a_changed_scope_is_seen() -> None:
    at = scope()
    assert holds("vars.global.tier == 'gold'", at)
    at.set("vars.global", {"tier": "lead"})
    assert holds("vars.global.tier == 'lead'", at)


def test_values_that_look_like_expressions_are_text() -> None:
    at = scope(request__path="{{ secrets.api }}", request__method="' || true || '")
    assert not holds("request.method == ''", at)
    assert LANGUAGE.expression("request.path")(at) == "{{ secrets.api }}"
    assert LANGUAGE.template("{{ request.path }}")(at) == "{{ secrets.api }}"


@pytest.mark.parametrize(
    "source",
    [
        "lookup(backend.body, 'none')",
        "backend.body",
        "[null, {'a': null}]",
        "null",
        "backend.body.none == null",
        "ip_in(request.client, '10.0.0.0/8')",
    ],
)
def test_references_neither_leak_nor_run_out(source: str) -> None:
    """The binding takes references of None away, and keeps what it hands to Python."""
    expression, at = LANGUAGE.expression(source), scope()
    watched = [None, True, at.values["request.client"]]
    expression(at)
    before = [sys.getrefcount(one) for one in watched]
    for _ in range(1_000):
        expression(at)
    after = [sys.getrefcount(one) for one in watched]
    assert [abs(now - then) < 500 for now, then in zip(after, before, strict=True)] == [True] * 3
