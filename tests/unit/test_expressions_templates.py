"""Templates: what they say, what they never say, and how far they can go."""

from __future__ import annotations

import json

import pytest

from factories.scopes import scope
from gatekeeper.forwardauth.adapters.language import Language
from gatekeeper.forwardauth.errors import EvaluationError
from gatekeeper.platform.expressions.templates import MAX_TEMPLATE_CHARS
from gatekeeper.platform.expressions.values import MAX_TEXT_CHARS

LANGUAGE = Language()


def said(source: str, **values: object) -> str:
    text = LANGUAGE.template(source)(scope(**values))
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("", ""),
        ("plain } text {", "plain } text {"),
        ("{{ request.method }} {{ request.headers['x-role'] }}", "GET admin"),
        ('{{ request.headers["x-role"] }}{{ request["path"] }}', "admin/reports"),
        ("{{ rules.login.variables.name }}", "Jo"),
        ("{{ secrets.api }}", "s3cr3t"),
        ("{{ backend.body.roles[0] }} {{ backend.body.roles[-1] }}", "dev ops"),
        ("{{ request.proxied }} {{ backend.status }} {{ backend.body.left }}", "true 200 2.5"),
        ("{{ now }}", "2026-03-01T12:30:00Z"),
        (
            "{{ backend.status + 1 }} {{ 7 // 2 }} {{ 7 % 4 }} {{ -backend.status }} {{ 3 / 2 * 2 - 1 }}",
            "201 3 3 -200 2.0",
        ),
        ("{{ request.method ~ '-' ~ backend.status }}", "GET-200"),
        ("{{ request.path[1:4] }} {{ backend.body.roles[:1] | join }}", "rep dev"),
        (
            "{% if backend.status >= 200 and not backend.body.none %}ok{% elif true %}x{% else %}y{% endif %}",
            "ok",
        ),
        ("{% if backend.status == 1 %}1{% elif backend.status != 1 %}2{% else %}3{% endif %}", "2"),
        ("{{ 'a' if request.method == 'POST' else 'b' }}", "b"),
        (
            "{{ 'dev' in backend.body.roles }} {{ 'x' not in backend.body.roles }} {{ 1 < 2 < 3 }} {{ 3 <= 2 }}",
            "true true true false",
        ),
        ("{{ request.method == 'X' or request.proxied }}", "true"),
        (
            "{% for r in backend.body.roles %}{{ loop.index }}{{ r }}{% if not loop.last %},{% endif %}{% endfor %}",
            "1dev,2ops",
        ),
        ("{% for k in vars.global | keys %}{{ k }}={{ vars.global[k] }}{% endfor %}", "tier=gold"),
        ("{% for r in backend.body.roles if r == 'ops' %}{{ r }}{% endfor %}", "ops"),
        ("{% for r in backend.pages %}{{ r }}{% else %}none{% endfor %}", "none"),
        ("{# a comment #}{% raw %}{{ x }}{% endraw %}", "{{ x }}"),
        ("{{ ['a', 1, {'k': true}] | tojson }}", '["a",1,{"k":true}]'),
        (
            "{{ lookup(request.headers, 'x-role') }}{{ lookup(rules.nope, 'x') | default('-') }}",
            "admin-",
        ),
        (
            "{{ lookup(request.headers, request.path) | default('-') }}{{ lookup([1], 0) | default('-') }}",
            "--",
        ),
        ("{{ rules.nope.variables.x | default('none') }}", "none"),
        (
            "{{ backend.body.none | default('null') }}{{ '' | default('e') }}{{ '' | default('e', true) }}",
            "nulle",
        ),
        (
            "{{ rules.nope is defined }} {{ rules.login is defined }} {{ rules.nope is undefined }}",
            "false true true",
        ),
        (
            "{{ backend.body.none is none }} {{ rules is mapping }} {{ request.path is startswith('/r') }}",
            "true true true",
        ),
        (
            "{{ backend.status is number }} {{ true is number }} {{ '' is empty }} {{ 'ab' is contains('b') }}",
            "true false true true",
        ),
        (
            "{{ 'a' is string }} {{ [] is list }} {{ true is boolean }} {{ 'ab' is endswith 'b' }}",
            "true true true true",
        ),
    ],
)
def test_a_template_says(source: str, text: str) -> None:
    assert said(source) == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ 'Ab' | lower }}{{ 'Ab' | upper }}{{ 'ab cd' | title }}", "abABAb Cd"),
        ("{{ ' a ' | trim }}{{ '--a-' | trim('-') }}", "aa"),
        ("{{ 'Bearer x' | trimPrefix('Bearer ') }}{{ 'a.txt' | trimSuffix('.txt') }}", "xa"),
        ("{{ 'abc' | trunc(2) }}{{ 'abc' | trunc(-1) }}", "abc"),
        ("{{ 'a-b-c' | replace('-', '_') }}", "a_b_c"),
        ("{{ 'a,b' | split(',') | last }}{{ 'a,b' | split(',') | first }}", "ba"),
        ("{{ [1, true, 'x'] | join('; ') }}", "1; true; x"),
        ("{{ 'abc' | first }}{{ 'abc' | length }}{{ [1] | length }}", "a31"),
        ("{{ ['b', 'a', 'b'] | unique | sort | join }}", "ab"),
        ("{{ {'b': 1, 'a': 2} | keys | join }}{{ {'b': 1, 'a': 2} | values | join }}", "ab21"),
        ("{{ 'é' | b64enc }}{{ 'w6k=' | b64dec }}", "w6k=é"),
        ("{{ 'a b/ü&' | urlencode }}{{ '~' | urlquery }}", "a%20b%2F%C3%BC%26~"),
        (
            "{{ 'a' | sha256sum }}",
            "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
        ),
        ("{{ 'a\"\n' | quote }}{{ {'a': none} | tojson }}", '"a\\"\\n"{"a":null}'),
        ("{{ ('{\"a\": [1]}' | fromjson).a[0] }}", "1"),
        (
            "{{ 'ab' | contains('b') }}{{ [1] | contains(2) }}{{ {'a': 1} | contains('a') }}",
            "truefalsetrue",
        ),
        ("{{ 'ab' | hasPrefix('a') }}{{ 'ab' | hasSuffix('a') }}", "truefalse"),
        ("{{ '12' | int + 1 }}{{ '-3' | int }}{{ 5 | string }}", "13-35"),
        ("{{ true | ternary('y', 'n') }}", "y"),
    ],
)
def test_a_filter_gives(source: str, text: str) -> None:
    assert said(source) == text


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ request.headers.nope }}", "a key is not there"),
        ("{{ rules.nope.variables.x }}", "a key is not there"),
        ("{{ backend.bodyText }}", "backend.bodyText has no value here"),
        ("{{ backend.body.none }}", "null has no text"),
        ("{{ backend.body }}", "a map or list has no text"),
        ("{{ backend.body.roles }}", "a map or list has no text"),
        ("{{ backend.body.roles[9] }}", "a key is not there"),
        ("{{ 'x' if false }}", "an if without else"),
        ("{{ 1 // 0 }}", "not of the kind"),
        ("{{ 'a' < 1 }}", "not of the kind"),
        ("{{ 'a' + 'b' }}", "not of the kind"),
        ("{{ request.path * 2 }}", "not of the kind"),
        ("{{ [] | first }}", "it is empty"),
        ("{{ 'x' | int }}", "no whole number"),
        ("{{ 'a' | replace('', 'b') }}", "nothing to replace"),
        ("{{ 'a' | split('') }}", "no separator"),
        ("{{ 'ü' | b64dec }}", "no Base64"),
        ("{{ '{' | fromjson }}", "no JSON"),
        ("{{ now | tojson }}", "JSON cannot say"),
        ("{{ 'a' | keys }}", "no map"),
        ("{{ 'a' | sort }}", "no list"),
        ("{{ 1 | length }}", "neither text, list nor map"),
        ("{{ 1 | contains(1) }}", "neither text, list nor map"),
        ("{{ 'a' | trunc('b') }}", "a whole number"),
        ("{% for x in 5 %}{% endfor %}", "not of the kind"),
        ("{{ 5[1:] }}", "not of the kind"),
        ("{{ 9223372036854775807 + 1 }}", "not of the kind"),
    ],
)
def test_what_cannot_be_said_is_an_error_and_never_text(source: str, reason: str) -> None:
    with pytest.raises(EvaluationError, match=reason) as failed:
        said(source)
    assert source in str(failed.value)


@pytest.mark.parametrize("source", ["{{ request.path }}", "a{{ request.path | lower }}b"])
def test_half_a_character_is_never_said(source: str) -> None:
    """It has no bytes: what sends the text would fail, after the decision."""
    with pytest.raises(EvaluationError):
        said(source, request__path="\ud800")


def test_half_a_character_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="half a character"):
        said("{{ request.path | sha256sum }}", request__path="\ud800")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "{{ request.mehtod }}",
            "line 1: there is no request.mehtod; did you mean request.method?",
        ),
        (
            "\n{{ reqest.method }}",
            "line 2: there is no reqest.method; did you mean request.method?",
        ),
        ("{{ request }}", "request is no value, its members are: request.id"),
        ("{{ request[request.method] }}", "request is no value"),
        ("{{ request.method.x }}", "request.method is text and has no x"),
        ("{{ 'a' | lowr }}", "there is no filter lowr; did you mean lower?"),
        ("{{ 'a' is defned }}", "there is no test defned; did you mean defined?"),
        ("{{ 'a' | trunc }}", "trunc does not take these arguments"),
        ("{{ 'a' | trim(characters='a') }}", "trim does not take these arguments"),
        ("{{ rules.x | default }}", "default does not take these arguments"),
        ("{{ lookup(rules) }}", "lookup does not take these arguments"),
        ("{{ x", "unexpected end"),
        ("{% for request in [1] %}{% endfor %}", "cannot be called request"),
        ("{% for a, b in [1] %}{% endfor %}", "one variable"),
        ("{% for a in [1] recursive %}{% endfor %}", "one variable"),
        ("{% for a in [1] %}{% endfor %}{{ a }}", "there is no a"),
        ("{{ " + "(" * 3_000 + "1" + ")" * 3_000 + " }}", "nested too deeply"),
        ("{{ " + "not " * 900 + "1 }}", "nested too deeply"),
        ("a" * (MAX_TEMPLATE_CHARS + 1), "at most 65536 characters"),
    ],
)
def test_a_wrong_template_is_refused_when_it_is_loaded(source: str, reason: str) -> None:
    with pytest.raises(ValueError, match=".") as refused:
        LANGUAGE.template(source)
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ ''['__class__'] }}",
        "{{ [].__class__ | default('x') ~ [].append }}",
        "{{ request.headers.items() }}",
        "{{ request.headers.__class__ }}",
        "{{ rules.login.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ joiner }}",
        "{{ namespace() }}",
        "{{ lipsum.__globals__ }}",
        "{{ dict(a=1) }}",
        "{{ self.__init__ }}",
        "{{ self._TemplateReference__context }}",
        "{{ request.application.__globals__ }}",
        "{{ request | attr('__class__') }}",
        "{{ [request.headers] | map(attribute='__class__') | list }}",
        "{{ ['a'] | map('upper') | list }}",
        "{{ '' | attr('format') }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ '%s' | format(1) }}",
        "{{ '%s' % 1 }}",
        "{{ lookup.__globals__ }}",
        "{{ lookup }}",
        "{{ (lookup)(rules, 'x').y() }}",
        "{{ (1).real }}",
        "{{ now.year }}",
        "{{ loop }}",
        "{% for x in [1] %}{{ loop.cycle('a') }}{% endfor %}",
        "{% for x in [1] %}{{ loop._iterator }}{% endfor %}",
        "{% set x = ''.__class__ %}",
        "{% set ns = namespace() %}",
        "{% with x = 1 %}{% endwith %}",
        "{% macro f() %}{{ f() }}{% endmacro %}",
        "{% call f() %}{% endcall %}",
        "{% filter upper %}a{% endfilter %}",
        "{% include '/etc/passwd' %}",
        "{% import 'x' as y %}",
        "{% extends 'x' %}",
        "{% block a %}{% endblock %}",
        "{% autoescape true %}{% endautoescape %}",
        "{% do [].append(1) %}",
        "{% debug %}",
        "{{ range(999999999) | list }}",
        "{{ [1] | random }}",
        "{{ 'a' | safe }}",
        "{{ 'a' | xmlattr }}",
        "{{ caller() }}",
        "{{ varargs }}",
        "{{ environ }}",
    ],
)
def test_there_is_no_way_out_of_a_template(source: str) -> None:
    with pytest.raises((ValueError, EvaluationError)):
        said(source)


@pytest.mark.parametrize("key", ["items", "keys", "values", "get", "pop", "__class__", "__len__"])
def test_a_key_named_like_a_method_is_a_key(key: str) -> None:
    assert said(f"{{{{ rules.{key} }}}}{{{{ rules['{key}'] }}}}", rules={key: "mine"}) == "minemine"
    with pytest.raises(EvaluationError, match="a key is not there"):
        said(f"{{{{ rules.{key} }}}}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 1000000000 }}",
        "{{ [1] * 1000000000 }}",
        "{{ 10 ** 1000000000 }}",
        "{{ 9999999999 * 9999999999 * 9999999999 }}",
        "{{ '%1000000000s' | format }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ 'a' | center(1000000000) }}",
        "{{ 'a' | indent(1000000000) }}",
        "{{ backend.bodyText }}{{ backend.bodyText }}",
        "{{ backend.bodyText ~ backend.bodyText }}",
        "{{ backend.bodyText | replace('a', backend.bodyText) }}",
        "{{ [backend.bodyText, backend.bodyText] | join }}",
        "{{ [1, 2, 3] | join(backend.bodyText) }}",
        "{{ backend.bodyText | b64enc }}",
        "{{ backend.bodyText | b64enc | length }}",
        "{% for x in [1, 2] %}{{ backend.bodyText }}{% endfor %}",
        "{% for x in backend.pages %}{% for y in backend.pages %}{% endfor %}{% endfor %}",
        "{% for a in [1] %}" * 4 + "{% endfor %}" * 4,
        "{{ request.path | fromjson | tojson }}",
    ],
)
def test_a_template_bomb_does_not_go_off(source: str) -> None:
    text = "a" * MAX_TEXT_CHARS
    with pytest.raises((ValueError, EvaluationError)):
        said(source, backend__bodyText=text, backend__pages=[1] * 200, request__path="[" * 5_000)


def test_the_longest_text_is_said() -> None:
    text = "a" * MAX_TEXT_CHARS
    assert said("{{ backend.bodyText }}", backend__bodyText=text) == text


@pytest.mark.parametrize(
    "value", ["{{ secrets.api }}", "{% include 'x' %}", "<b>&", "a\0b", "\xff\x80"]
)
def test_a_value_is_text_whatever_it_looks_like(value: str) -> None:
    assert (
        said("{{ request.path }}|{{ request.path ~ '' }}", request__path=value)
        == f"{value}|{value}"
    )
    assert json.loads(said("{{ request.path | quote }}", request__path=value)) == value
