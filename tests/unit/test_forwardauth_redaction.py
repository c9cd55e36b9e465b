"""No credential survives the redaction, wherever it stands and however it is written."""

import base64
import json
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.forwardauth.redaction import MAX_READ_CHARS, MAX_TEXT_CHARS, Redactor, is_credential

CANARY = 'canary/+"s3cret ä%'
WRITTEN = [
    CANARY,
    quote(CANARY),
    quote(CANARY, safe=""),
    quote(CANARY, safe="").lower(),
    quote_plus(CANARY),
    json.dumps(CANARY),
    json.dumps(CANARY, ensure_ascii=False),
    repr(CANARY),
    base64.b64encode(CANARY.encode()).decode(),
    base64.urlsafe_b64encode(CANARY.encode()).decode(),
]


def leaked(shown: object) -> bool:
    text = json.dumps(shown, ensure_ascii=False)
    return "s3cret" in text or base64.b64encode(CANARY.encode()).decode()[:12] in text


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("around", ["{}", "before {} after", "https://a.example/x/{}?y=1", "k={};"])
def test_a_known_secret_is_taken_out_of_every_text(written: str, around: str) -> None:
    assert leaked(written) or leaked(written.lower())
    assert not leaked(Redactor([CANARY]).text(around.format(written)))


@pytest.mark.parametrize(
    "value",
    [
        {"x": CANARY},
        {CANARY: "x"},
        [[{"deep": (CANARY,)}]],
        {"body": json.dumps({"inner": [CANARY]})},
        b"raw " + CANARY.encode("latin-1"),
    ],
)
def test_a_known_secret_is_taken_out_of_every_value(value: Any) -> None:
    assert not leaked(Redactor([CANARY]).value(value))


@given(st.text(max_size=40), st.text("abc \n?=", max_size=20), st.text("abc \n?=", max_size=20))
def test_whatever_the_secret_is_it_is_not_shown(rest: str, before: str, after: str) -> None:
    shown = Redactor([f"zq42{rest}"]).text(f"{before}zq42{rest}{after}")
    assert "zq42" not in shown
    assert shown.startswith(before[:1])


@pytest.mark.parametrize(
    "text",
    [
        "https://user:s3cret-word@db.example/x",
        "Authorization: Bearer s3cret-word",
        "basic czNjcmV0LXdvcmQ=s3cret-word",
        "x eyJhbGciOiJSUzI1NiJ9.s3cret-word.sig",
        "https://a.example/cb?code=s3cret-word&x=1",
        "https://a.example/?api_key=s3cret-word",
        "-----BEGIN PRIVATE KEY-----\ns3cret-word\n-----END PRIVATE KEY-----",
        '{"access_token": "s3cret-word", "ok": true}',
        '{"nested": [{"client_secret": "s3cret-word"}]}',
    ],
)
def test_what_looks_like_a_credential_is_taken_out_though_nobody_knows_it(text: str) -> None:
    shown = Redactor([]).value(text)
    assert "s3cret-word" not in shown
    assert "[secret]" in shown


@pytest.mark.parametrize("name", ["password", "X-Api-Key", "Set-Cookie", "refreshToken", "sid"])
def test_a_value_under_a_name_of_credentials_is_not_shown(name: str) -> None:
    assert is_credential(name)
    assert Redactor([]).value({name: "s3cret"}) == {name: "[secret]"}


def test_what_is_no_credential_is_shown_as_it_is() -> None:
    value = {
        "url": "https://a.example/?page=2",
        "status": 200,
        "ok": True,
        "none": None,
        "l": [1.5],
    }
    assert Redactor(["other"]).value(value) == value


def test_a_short_secret_is_taken_out_where_it_stands_alone() -> None:
    assert Redactor(["abc"]).text("abc, abcd and x=abc") == "[secret], abcd and x=[secret]"


def test_a_secret_that_is_a_number_is_taken_out_of_numbers() -> None:
    assert Redactor(["471100"]).value({"pin": 471100, "n": 471}) == {"pin": "[secret]", "n": 471}


def test_a_secret_inside_another_leaves_nothing_of_it() -> None:
    assert Redactor(["s3cret", "s3cret-and-more"]).text("s3cret-and-more") == "[secret]"


def test_a_long_text_is_cut_after_the_secrets_are_out() -> None:
    text = "x" * (MAX_TEXT_CHARS - 4) + " " + CANARY + "y" * 100
    shown = Redactor([CANARY]).text(text)
    assert len(shown) < MAX_TEXT_CHARS + 20
    assert not leaked(shown)
    assert "canary" not in shown


@pytest.mark.parametrize("shift", range(len(CANARY)))
def test_a_secret_at_the_end_of_what_is_read_does_not_show_its_beginning(shift: int) -> None:
    filler = "https://u:password-of-somebody@h " * (MAX_READ_CHARS // 33)
    text = filler.ljust(MAX_READ_CHARS - shift) + CANARY + "z" * 100
    shown = Redactor([CANARY]).text(text)
    assert "canary" not in shown
    assert shown.endswith(" [cut]")


def test_a_thousand_secrets_are_looked_for() -> None:
    redactor = Redactor(f"secret-number-{number}-of-many" for number in range(1_000))
    assert redactor.text("x secret-number-999-of-many") == "x [secret]"
