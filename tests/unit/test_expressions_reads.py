"""What expressions read: exact where it can be told, and never too little."""

from __future__ import annotations

import copy
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatekeeper.forwardauth.adapters.language import Language
from gatekeeper.forwardauth.errors import EvaluationError
from gatekeeper.forwardauth.model import Read, Scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatekeeper.forwardauth.ports import Expression

LANGUAGE = Language()


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("true", set()),
        ("request.method == 'GET'", {("request.method",)}),
        (
            "request.headers.a == request.headers['b-c']",
            {("request.headers", "a"), ("request.headers", "b-c")},
        ),
        ("request.headers[request.method] == ''", {("request.headers",), ("request.method",)}),
        ("lookup(request.headers, 'a') == null", {("request.headers", "a")}),
        (
            "lookup(request.headers, request.path) == null",
            {("request.headers",), ("request.path",)},
        ),
        (
            "'a' in request.headers && has(request.query.b)",
            {("request.headers", "a"), ("request.query", "b")},
        ),
        ("request.path in request.headers", {("request.headers",), ("request.path",)}),
        ("request.headers[?'a'].orValue('') == ''", {("request.headers", "a")}),
        ("rules.?a.b.orValue(1) == 1", {("rules", "a")}),
        ("rules.login.variables.name == 'Jo'", {("rules", "login", "variables", "name")}),
        ("has(rules.login.variables)", {("rules", "login")}),
        ("has(backend.body.a)", {("backend.body",)}),
        ("'a' in backend.pages", {("backend.pages",)}),
        (
            "backend.body.roles.exists(r, r == request.method)",
            {("backend.body", "roles"), ("request.method",)},
        ),
        ("rules.exists(name, rules[name] == 1)", {("rules",)}),
        ("[{'m': 1}].exists(request, request.m == 1)", set()),
        ("{'a': rules.x}.a == [vars.local.y][0]", {("rules", "x"), ("vars.local", "y")}),
        (
            "request.path.startsWith(vars.global.prefix)",
            {("request.path",), ("vars.global", "prefix")},
        ),
        ("ip_in(request.client, '10.0.0.0/8')", {("request.client",)}),
        ("now > timestamp('2026-01-01T00:00:00Z')", {("now",)}),
        ("true || secrets.api == ''", {("secrets", "api")}),
    ],
)
def test_a_condition_reads(source: str, reads: set[Read]) -> None:
    assert LANGUAGE.condition(source).reads == reads


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("text", set()),
        ("{{ request.method }}", {("request.method",)}),
        (
            "{{ request.headers['a'] }}{{ request['headers'].b }}",
            {("request.headers", "a"), ("request.headers", "b")},
        ),
        ("{{ request.headers[request.path] }}", {("request.headers",), ("request.path",)}),
        ("{{ lookup(request.headers, 'a') }}", {("request.headers", "a")}),
        ("{{ lookup(request.headers, request.path) }}", {("request.headers",), ("request.path",)}),
        (
            "{{ rules.a.b.c | default(vars.local.d) }}",
            {("rules", "a", "b", "c"), ("vars.local", "d")},
        ),
        ("{{ rules.a is defined }}", {("rules", "a")}),
        (
            "{% if rules.a %}{{ env.b }}{% else %}{{ env.c }}{% endif %}",
            {("rules", "a"), ("env", "b"), ("env", "c")},
        ),
        (
            "{% for x in backend.body.l if x.a == env.b %}{{ x.name }}{% endfor %}",
            {("backend.body", "l"), ("env", "b")},
        ),
        ("{% for now2 in rules %}{{ rules[now2] }}{% endfor %}", {("rules",)}),
        ("{{ secrets.api | sha256sum }}{{ secrets | length }}", {("secrets", "api"), ("secrets",)}),
        ("{{ rules.a[1:backend.status] ~ now }}", {("rules", "a"), ("backend.status",), ("now",)}),
        ("{{ {'a': rules.b, rules.c: 1} | tojson }}", {("rules", "b"), ("rules", "c")}),
    ],
)
def test_a_template_reads(source: str, reads: set[Read]) -> None:
    assert LANGUAGE.template(source).reads == reads


def test_a_url_reads() -> None:
    source = "https://a/{{ auth.input.user }}?q={{ request.query.q }}"
    assert LANGUAGE.url(source).reads == {("auth.input", "user"), ("request.query", "q")}


# Soundness: two scopes that agree on what an expression reads give it the same value.

PARTS: Final[list[Any]] = [
    None, True, 0, 1, "a", "b", [], ["a"], [1, None], {}, {"a": 1}, {"a": None}, {"b": "a"},
    {"a": {}}, {"a": {"b": 1}}, {"a": {"b": "b"}, "b": []}, {"a": [1], "b": {"a": "a"}},
]  # fmt: skip
MAPS: Final = [part for part in PARTS if isinstance(part, dict)]
KINDS: Final[dict[str, list[Any]]] = {
    "request.method": ["a", "b"],
    "request.headers": [{}, {"a": "a"}, {"a": "b"}, {"b": "a"}, {"a": "a", "b": "b"}],
    "rules": MAPS,
    "vars.local": MAPS,
    "backend.body": PARTS,
}
VALUES: Final = st.fixed_dictionaries({name: st.sampled_from(some) for name, some in KINDS.items()})

STEPS: Final = [".a", ".b", "['a']", "['b']"]
PATHS: Final = st.sampled_from(
    [
        name + "".join(steps)
        for name in KINDS
        for size in range(3)
        for steps in product(STEPS, repeat=size)
    ]
)


@st.composite
def filled(draw: st.DrawFn, forms: list[str], inner: st.SearchStrategy[str]) -> str:
    """Fill the holes of a form: P a path, E an expression."""
    form = draw(st.sampled_from(forms))
    return "".join(
        draw(PATHS) if one == "P" else draw(inner) if one == "E" else one for one in form
    )


CEL_VALUES: Final = [
    "P", "lookup(P, 'a')", "lookup(lookup(P, 'a'), 'b')", "lookup(P, P)", "P[?'a'].orValue(1)",
    "P.?a.b.orValue(1)", "P.?a.?b.orValue(dyn(1))", "P[P]", "dyn(P.map(x, x))", "dyn([P, P])", "dyn({'a': P}.a)",
    "dyn(P.filter(k, lookup(P, k) == 1))", "dyn(size(P))",
]  # fmt: skip
CEL_TRUTHS: Final = [
    "dyn(E) == dyn(E)", "has(P.a)", "'a' in P", "P in P", "has(P.a.b)", "P.exists(x, x == dyn(E))", "P.all(x, x != P)",
    "type(E) == type(E)", "dyn(E)",
]  # fmt: skip
TRUTHS: Final = filled(CEL_TRUTHS, filled(CEL_VALUES, st.nothing()))
CONDITIONS: Final = TRUTHS | filled(["E && E", "E || E", "!(E)", "(E) ? (E) : (E)"], TRUTHS)

JINJA_VALUES: Final = [
    "P", "lookup(P, 'a')", "lookup(lookup(P, 'a'), 'b')", "lookup(P, P)", "P[P]", "(P | default('d'))", "(P | default(P, true))",
    "(P | tojson)", "(P | first)", "(P | length)", "(P is defined)", "(P is none)", "('a' in P)", "[P, P]", "(P.a | default('e'))",
]  # fmt: skip
TEXTS: Final = filled(
    ["{{ E | tojson }}", "{{ (E == E) | tojson }}", "{{ E }}"], filled(JINJA_VALUES, st.nothing())
)
TEMPLATES: Final = TEXTS | filled(
    [
        "{% if P %}E{% else %}E{% endif %}",
        "{% for x in P %}{{ x | tojson }}E{% else %}E{% endfor %}",
        "EE",
    ],
    TEXTS,
)

MISSING: Final = object()


def at(values: dict[str, Any], path: Read) -> object:
    value: Any = values
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return MISSING
        value = value[key]
    return value


def same(one: object, other: object) -> bool:
    return one is other or (type(one) is type(other) and repr(one) == repr(other))


def outcome(expression: Expression, values: dict[str, Any]) -> str:
    try:
        return repr(expression(Scope(copy.deepcopy(values))))
    except EvaluationError:
        return "error"


def agree(
    compiling: Callable[[str], Expression], source: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    try:
        expression = compiling(source)
    except ValueError:
        return  # of wrong types
    # As much as it reads is made the same, so that few pairs are of no use.
    other = {
        name: one[name] if (name,) in expression.reads else value for name, value in other.items()
    }
    if all(same(at(one, path), at(other, path)) for path in expression.reads):
        assert outcome(expression, one) == outcome(expression, other), expression.reads


@settings(max_examples=300, deadline=None)
@given(CONDITIONS, VALUES, VALUES)
@example("has(rules.a.b)", {"rules": {"a": {}}}, {"rules": {}})
@example("lookup(rules.a, 'b') == null", {"rules": {"a": {}}}, {"rules": {}})
@example("'a' in backend.body", {"backend.body": {}}, {"backend.body": None})
def test_a_condition_reads_no_more_than_it_says(
    source: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    agree(LANGUAGE.expression, source, one, other)


@settings(max_examples=300, deadline=None)
@given(TEMPLATES, VALUES, VALUES)
def test_a_template_reads_no_more_than_it_says(
    source: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    agree(LANGUAGE.template, source, one, other)
