"""A target has one spelling that is understood, or it is refused.

The names of cases are those of published bypasses where there is one.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.forwardauth.model import Rejected
from gatekeeper.forwardauth.request.target import MAX_TARGET_BYTES, read_target

PATIENT = settings(deadline=None)
"""A busy machine is no failure."""


def path_of(raw: bytes, *, keep: bool = False) -> str | None:
    """Return the path as it is understood, None when it is refused."""
    target = read_target(raw, keep_encoded_slashes=keep)
    return None if isinstance(target, Rejected) else target[0]


BYPASSES = {
    "GHSA-p224-6x5r-fjpm dot dot": b"/public/../admin",
    "CVE-2026-42274 encoded dots": b"/public/%2e%2e/admin",
    "encoded dots upper case": b"/public/%2E%2E/admin",
    "encoded dots and slash": b"/public/%2e%2e%2fadmin",
    "half encoded dots": b"/public/.%2e/admin",
    "other half encoded": b"/public/%2E./admin",
    "dots at the end": b"/public/..",
    "encoded dots at the end": b"/public/%2e%2e",
    "single dot": b"/./admin",
    "single encoded dot": b"/%2e/admin",
    "single dot at the end": b"/admin/.",
    "servlet dots": b"/public/..;/admin",
    "servlet dots with a parameter": b"/public/..;x=1/admin",
    "servlet dots encoded": b"/public/%2e%2e%3b/admin",
    "servlet single dot": b"/.;x/admin",
    "servlet empty segment": b"/;x/admin",
    "Windows dots": b"/public/..%20/admin",
    "Windows dots before": b"/public/%20../admin",
    "CVE-2026-42272 upper slash": b"/public%2Fadmin",
    "CVE-2026-42272 lower slash": b"/public%2fadmin",
    "CVE-2026-26205 double slash": b"//admin",
    "CVE-2021-29492 merged slashes": b"/public//admin",
    "double slash at the end": b"/admin//",
    "CVE-2021-29492 encoded backslash": b"/public%5C..%5Cadmin",
    "encoded backslash lower case": b"/public%5cadmin",
    "backslash": b"/public\\..\\admin",
    "authority by backslash": b"/\\evil",
    "CVE-2026-41059 fragment": b"/admin#/public",
    "fragment in the query": b"/admin?x#/public",
    "CVE-2026-33186 no slash": b"admin",
    "CVE-2026-54282 authority": b"@evil/admin",
    "asterisk": b"*",
    "absolute": b"http://app.example/admin",
    "authority form": b"app.example:443",
    "empty": b"",
    "query alone": b"?x=/public",
    "double encoding": b"/%252e%252e/admin",
    "double encoded slash": b"/public%252fadmin",
    "triple encoding": b"/%25252e/admin",
    "overlong slash": b"/public%c0%afadmin",
    "overlong dot": b"/%c0%ae%c0%ae/admin",
    "overlong three bytes": b"/%e0%80%af",
    "surrogate": b"/%ed%a0%80",
    "lone byte": b"/%ff",
    "IIS encoding": b"/%u002e%u002e/admin",
    "cut triplet": b"/admin%2",
    "bare percent": b"/admin%",
    "malformed triplet": b"/admin%zz",
    "NUL": b"/admin%00.png",
    "raw NUL": b"/admin\x00.png",
    "line feed": b"/admin%0a",
    "CR LF": b"/admin%0d%0aX-Role:%20admin",
    "tab": b"/%09/evil",
    "vertical tab": b"/%0b",
    "DEL": b"/admin%7f",
    "next line": b"/admin%c2%85",
    "raw space": b"/admin x",
    "raw UTF-8": "/admin/é".encode(),
    "raw UTF-8 in the query": "/admin?é".encode(),
    "raw control in the query": b"/admin?\x0b",
}


@pytest.mark.parametrize("raw", BYPASSES.values(), ids=BYPASSES)
def test_a_path_that_can_be_read_in_two_ways_is_refused(raw: bytes) -> None:
    assert path_of(raw) is None


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/", "/"),
        (b"/orders/7", "/orders/7"),
        (b"/orders/", "/orders/"),
        (b"/%61dmin", "/admin"),
        (b"/a%20b", "/a b"),
        (b"/caf%C3%A9", "/café"),
        (b"/caf%c3%a9", "/café"),
        (b"/.well-known/x", "/.well-known/x"),
        (b"/...", "/..."),
        (b"/..a/.b", "/..a/.b"),
        (b"/a..", "/a.."),
        (b"/admin.", "/admin."),
        (b"/admin%20", "/admin "),
        (b"/a;v=1/b", "/a;v=1/b"),
        (b"/a;jsessionid=..", "/a;jsessionid=.."),
        (b"/100%25", "/100%"),
        (b"/100%25zz", "/100%zz"),
        (b"/a%3Fb", "/a?b"),
        (b"/a%23b", "/a#b"),
        (b"/a+b", "/a+b"),
        (b'/[a]|^`{}"<>', '/[a]|^`{}"<>'),
        (b"/" + b"a" * (MAX_TARGET_BYTES - 1), "/" + "a" * (MAX_TARGET_BYTES - 1)),
    ],
)
def test_a_path_is_decoded_exactly_once(raw: bytes, path: str) -> None:
    assert path_of(raw) == path
    assert path_of(raw, keep=True) == path


def test_a_target_is_bounded() -> None:
    refused = read_target(b"/" + b"a" * MAX_TARGET_BYTES, keep_encoded_slashes=False)

    assert isinstance(refused, Rejected)
    assert refused.status == 414


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(b"/a?b?c", ("/a", "/a", "b?c"), id="CVE-2026-32811 first question mark"),
        pytest.param(b"/admin?x=/public", ("/admin", "/admin", "x=/public"), id="CVE-2025-54576"),
        (b"/a?", ("/a", "/a", "")),
        (b"/%61?..%2f//\\%zz;", ("/a", "/%61", "..%2f//\\%zz;")),
    ],
)
def test_the_query_is_no_part_of_the_path(raw: bytes, expected: tuple[str, str, str]) -> None:
    assert read_target(raw, keep_encoded_slashes=False) == expected


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/a%2Fb", "/a%2Fb"),
        (b"/a%2fb", "/a%2Fb"),
        (b"/https:%2f%2Fx", "/https:%2F%2Fx"),
        (b"/a%2F..%2Fb", None),
        (b"/a%2f%2e%2e", None),
        (b"/..%2Fadmin", None),
        (b"/a%2F.", None),
        (b"/a%2F..;x", None),
        (b"/a%252Fb", None),
        (b"//a%2Fb", None),
    ],
)
def test_an_encoded_slash_that_is_kept_has_one_spelling(raw: bytes, path: str | None) -> None:
    assert path_of(raw, keep=True) == path


SEGMENTS = st.text(st.characters(codec="utf-8", exclude_characters="/\\"), min_size=1)


def spelled(text: str, choices: list[bool]) -> bytes:
    """Percent-encode bytes of a text, in either case, also where there is no need to."""
    out = bytearray()
    for position, byte in enumerate(text.encode()):
        chosen = choices[position % len(choices)] if choices else False
        if chosen or not (chr(byte).isascii() and chr(byte).isalnum()):
            triplet = b"%%%02x" % byte
            out += triplet.upper() if chosen else triplet
        else:
            out.append(byte)
    return bytes(out)


@PATIENT
@given(SEGMENTS, st.lists(st.booleans(), max_size=8), st.lists(st.booleans(), max_size=8))
def test_two_spellings_of_a_path_are_one_path_or_none(
    segment: str, one: list[bool], other: list[bool]
) -> None:
    first, second = (path_of(b"/x/" + spelled(segment, each)) for each in (one, other))

    assert first == second
    assert first in {None, f"/x/{segment}"}


NASTY = st.lists(
    st.sampled_from(
        [
            b"/",
            b"//",
            b".",
            b"..",
            b"%2e",
            b"%2E",
            b"%2f",
            b"%2F",
            b"%5c",
            b"\\",
            b";",
            b"%3b",
            b"%25",
            b"%",
            b"?",
            b"#",
            b"a",
            b"%00",
            b"%20",
            b"%c0%ae",
            b"2e",
            b"2F",
        ]
    ),
    max_size=8,
).map(b"".join) | st.binary(max_size=64)


@PATIENT
@given(NASTY, st.booleans())
def test_whatever_comes_a_path_that_is_understood_has_nothing_ambiguous(
    raw: bytes, keep: bool
) -> None:
    target = read_target(b"/" + raw, keep_encoded_slashes=keep)
    if isinstance(target, Rejected):
        return
    path, raw_path, _ = target

    assert path.startswith("/")
    assert not re.search(r"[\x00-\x1f\x7f\\]|//", path)
    for decoded in (path, path.replace("%2F", "/"), unquote_to_bytes(raw_path).decode()):
        assert not {".", ".."} & {part.partition(";")[0].strip() for part in decoded.split("/")}
    # Spelled again and read again, it is the same path.
    if "%" not in path:
        assert path_of(quote(path).encode(), keep=keep) == path
