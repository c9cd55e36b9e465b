"""URLs: a value stays in the part of the URL it stands in."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factories.scopes import scope
from gatekeeper.forwardauth.adapters.language import Language
from gatekeeper.forwardauth.errors import EvaluationError

LANGUAGE = Language()


def url(source: str, **values: object) -> str:
    text = LANGUAGE.url(source)(scope(**values))
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("https://api.internal", "https://api.internal"),
        ("http://API.internal:8080/", "http://API.internal:8080/"),
        ("https://[2001:db8::1]:8443/a?b=c", "https://[2001:db8::1]:8443/a?b=c"),
        ("https://a/u/{{ auth.input.user }}/x", "https://a/u/jo/x"),
        ("https://a/{{ auth.input.user }}-{{ backend.status }}.json", "https://a/jo-200.json"),
        ("https://a?q={{ request.query.q }}", "https://a?q=a%20b%26c%3D1"),
        (
            "https://a/?q={{ request.query.q }}&r=/?{{ request.path }}",
            "https://a/?q=a%20b%26c%3D1&r=/?%2Freports",
        ),
        ("https://a/x%20y/{{ 'é' }}", "https://a/x%20y/%C3%A9"),
        ("https://a/{{ lookup(rules, 'x') | default('none') }}", "https://a/none"),
        ("https://a//b/", "https://a//b/"),
    ],
)
def test_a_url_is_made(source: str, text: str) -> None:
    assert url(source) == text


@pytest.mark.parametrize(
    "value",
    [
        "../admin#",
        "a/b",
        "?x",
        "@evil",
        "a\\b",
        "%2e%2e",
        "a\r\nHost: b",
        "a\0b",
        "#",
        ";x",
        ":80",
        "../..",
        "{{ secrets.api }}",
    ],
)
def test_a_hostile_value_stays_in_its_part(value: str) -> None:
    made = urlsplit(
        url("https://a/u/{{ request.path }}/end?q={{ request.path }}", request__path=value)
    )
    assert (made.scheme, made.netloc, made.fragment) == ("https", "a", "")
    assert made.path.split("/")[1::2] == ["u", "end"]
    assert unquote(made.path.split("/")[2]) == value
    assert parse_qs(made.query) == {"q": [value]}


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_whatever_a_value_is_it_comes_back_whole(value: str) -> None:
    try:
        made = urlsplit(
            url("https://a/{{ request.path }}?q={{ request.path }}", request__path=value)
        )
    except EvaluationError:
        assert value in {".", ".."}
        return
    assert made.netloc == "a"
    assert made.path.count("/") == 1
    assert unquote(made.path[1:]) == value
    assert parse_qs(made.query, keep_blank_values=True) == {"q": [value]}


@pytest.mark.parametrize(
    "source", ["https://a/{{ request.path }}", "https://a/x/{{ request.path }}/y"]
)
@pytest.mark.parametrize("value", [".", "..", ""])
def test_a_value_that_would_climb_or_vanish_is_an_error(source: str, value: str) -> None:
    with pytest.raises(EvaluationError, match="part of the path"):
        url(source, request__path=value)


@pytest.mark.parametrize(
    "source", ["https://a/.{{ request.path }}", "https://a/%2E{{ request.path }}/b"]
)
def test_two_dots_are_not_put_together(source: str) -> None:
    with pytest.raises(EvaluationError, match="part of the path"):
        url(source, request__path=".")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "begins with http"),
        ("/path", "begins with http"),
        ("ftp://a/", "begins with http"),
        ("file:///etc/passwd", "begins with http"),
        ("{{ request.scheme }}://a/", "begins with http"),
        ("https://{{ request.host }}/", "begins with http"),
        ("https://a.{{ request.host }}/", "begins with http"),
        ("https://a{{ request.path }}", "stands between the host and the first value"),
        ("https://a:{{ request.port }}/", "begins with http"),
        ("https://a:80{{ request.path }}", "stands between the host and the first value"),
        ("https://user@a/", "begins with http"),
        ("https://user:pw@a/", "begins with http"),
        ("https://{{ auth.input.user }}@a/", "begins with http"),
        ("https://a\\b/", "begins with http"),
        ("https://a:0/", "a port is between"),
        ("https://a:65536/", "a port is between"),
        ("https:///x", "begins with http"),
        ("https://a/#x", "no fragment"),
        ("https://a/{{ request.path }}#x", "no fragment"),
        ("https://a/a b", "no space"),
        ("https://a/\n", "no space"),
        ("https://a/é", "no space"),
        ("https://a/%2{{ request.path }}", "no space"),
        ("https://a/../b", "is . or .."),
        ("https://a/%2e%2E", "is . or .."),
        ("https://a/{% if true %}x{% endif %}", "no statements"),
        ("https://a/{{ request.nope }}", "there is no request.nope"),
        ("request.path", "begins with http"),
        ("https://a/" + "{{ " + "(" * 3_000 + "1" + ")" * 3_000 + " }}", "nested too deeply"),
    ],
)
def test_a_wrong_url_is_refused_when_it_is_loaded(source: str, reason: str) -> None:
    with pytest.raises(ValueError, match=".") as refused:
        LANGUAGE.url(source)
    assert reason in str(refused.value)


def test_a_url_does_not_grow_beyond_its_limit() -> None:
    with pytest.raises(EvaluationError, match="8192"):
        url("https://a/{{ request.path }}", request__path="/" * 4_000)


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="a key is not there"):
        url("https://a/{{ request.headers.nope }}")


def test_half_a_character_is_an_error() -> None:
    with pytest.raises(EvaluationError):
        url("https://a/{{ request.path }}", request__path="\ud800")
