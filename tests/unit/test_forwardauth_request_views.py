"""Headers, query and cookies as expressions see them."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.forwardauth.errors import EvaluationError
from gatekeeper.forwardauth.model import OriginalRequest
from gatekeeper.forwardauth.request import views

PATIENT = settings(deadline=None)
"""A busy machine is no failure."""


def request(
    *,
    query: str = "",
    fields: dict[bytes, bytes] | None = None,
    repeated: dict[bytes, tuple[bytes, ...]] | None = None,
) -> OriginalRequest:
    return OriginalRequest(
        method="GET",
        scheme="https",
        host="app.example",
        port=None,
        path="/",
        raw_path="/",
        raw_query=query,
        fields=fields or {},
        repeated=repeated or {},
        client="203.0.113.9",
        proxied=True,
    )


def test_headers_are_text_of_which_each_character_is_a_byte() -> None:
    original = request(
        fields={b"x-a": b"\xc3\xa9\xff", b"x-b": b"1, 2"}, repeated={b"x-b": (b"1", b"2")}
    )

    assert views.headers(original) == {"x-a": "Ã©ÿ", "x-b": "1, 2"}
    assert views.headers_all(original) == {"x-a": ["Ã©ÿ"], "x-b": ["1", "2"]}


@pytest.mark.parametrize(
    ("query", "everything"),
    [
        ("", {}),
        ("a=1", {"a": ["1"]}),
        ("a=1&b=2&a=3", {"a": ["1", "3"], "b": ["2"]}),
        ("a=1&%61=2", {"a": ["1", "2"]}),
        ("a", {"a": [""]}),
        ("a=", {"a": [""]}),
        ("=a", {"": ["a"]}),
        ("a=b=c", {"a": ["b=c"]}),
        ("a=b+c%2B+", {"a": ["b c+ "]}),
        ("a=1;b=2", {"a": ["1;b=2"]}),
        ("&&a=1&", {"a": ["1"]}),
        ("a=caf%C3%A9&a%5B%5D=1", {"a": ["café"], "a[]": ["1"]}),
        ("a=%26%3D", {"a": ["&="]}),
        ("a=%2526", {"a": ["%26"]}),
    ],
)
def test_a_query_is_read_as_a_form_is(query: str, everything: dict[str, list[str]]) -> None:
    assert views.query_all(request(query=query)) == everything


def test_a_parameter_that_stands_twice_has_no_single_value() -> None:
    """Two equal ones too: what follows them may take either for another."""
    assert views.query(request(query="a=1&a=2&b=3&c=4&c=4")) == {"b": "3"}


@pytest.mark.parametrize("query", ["a=%", "a=%2", "%zz=1", "a=%ff", "a=%c0%af", "b=1&a=%ed%a0%80"])
def test_a_query_that_cannot_be_decoded_is_an_error(query: str) -> None:
    for view in (views.query, views.query_all):
        with pytest.raises(EvaluationError):
            view(request(query=query))


def test_parameters_and_cookies_are_bounded_in_number() -> None:
    assert len(views.query(request(query="&".join(f"p{n}" for n in range(256))))) == 256
    with pytest.raises(EvaluationError, match="256 parameters"):
        views.query(request(query="&" * 256))
    assert (
        len(views.cookies(request(fields={b"cookie": b";".join(b"c%d=" % n for n in range(256))})))
        == 256
    )
    with pytest.raises(EvaluationError, match="256 cookies"):
        views.cookies(request(fields={b"cookie": b";" * 256}))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, {}),
        (b"", {}),
        (b"a=1", {"a": "1"}),
        (b"a=1; b=2;c=3 ;\td=4", {"a": "1", "b": "2", "c": "3", "d": "4"}),
        (b"a=1; A=2", {"a": "1", "A": "2"}),
        (b"a=b=c", {"a": "b=c"}),
        (b'a="1"', {"a": '"1"'}),
        (b"a=%41", {"a": "%41"}),
        (b"nameless; ; a=1", {"a": "1"}),
        (b"a=1; a=1", {"a": "1"}),
        (b"a=1; a=2; b=3", {"b": "3"}),
        (b"a=1; a=2; a=1", {}),
        (b"\xa0__Host-a=1; \x85b=2", {"\xa0__Host-a": "1", "\x85b": "2"}),
    ],
)
def test_cookies_are_those_that_have_one_value(
    header: bytes | None, expected: dict[str, str]
) -> None:
    fields = {} if header is None else {b"cookie": header}

    assert views.cookies(request(fields=fields)) == expected


PAIRS = st.lists(st.tuples(st.text(), st.text()), max_size=10)


@PATIENT
@given(PAIRS)
def test_reading_a_query_loses_nothing_of_it(pairs: list[tuple[str, str]]) -> None:
    usable = [(name, value) for name, value in pairs if _encodes(name + value)]
    expected: dict[str, list[str]] = {}
    for name, value in usable:
        expected.setdefault(name, []).append(value)

    for quoted in (urlencode(usable), urlencode(usable, quote_via=quote)):
        assert views.query_all(request(query=quoted)) == expected


def _encodes(text: str) -> bool:
    return text == text.encode("utf-8", "ignore").decode()


@PATIENT
@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E)), st.binary(max_size=60))
def test_nothing_but_an_evaluation_error_is_raised(query: str, cookie: bytes) -> None:
    original = request(query=query, fields={b"cookie": cookie})
    try:
        single, every = views.query(original), views.query_all(original)
    except EvaluationError:
        return
    assert single == {name: values[0] for name, values in every.items() if len(values) == 1}
    assert not [name for name in views.cookies(original) if set(name) & set(";=")]
