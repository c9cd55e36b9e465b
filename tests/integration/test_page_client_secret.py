"""Signing in to the pages at an issuer that gives no token without a client secret."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from fakes.confidential_issuer import BASIC, NONE, POST, ConfidentialIssuer
from fakes.page_stack import page_stack
from gatekeeper.platform.console.cookies import HEADER, SESSION

SECRET = "canary:of+the%client /ž"
"""As awkward as a secret may be: each of these is a trap on the way to the issuer."""


class Browser:
    """Follows the code flow, and keeps all that it is ever told."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.told: list[str] = []
        self._cookies: dict[str, str] = {}

    def ask(self, address: str, **form: str) -> httpx.Response:
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        ours = address.startswith(self.url)
        with httpx.Client(headers={"Cookie": cookies, HEADER: "1"} if ours else {}) as client:
            answer = client.post(address, data=form) if form else client.get(address)
        for line in answer.headers.get_list("set-cookie"):
            name, _, rest = line.partition("=")
            self._cookies[name] = rest.partition(";")[0].strip('"')
        self.told.append(f"{answer.headers}{answer.text}")
        return answer

    def sign_in(self, issuer: str) -> httpx.Response:
        left = self.ask(f"{self.url}/console/sign-in?issuer={issuer}")
        assert left.status_code == 303, left.text
        approved = self.ask(left.headers["location"], user="dana")
        return self.ask(approved.headers["location"])

    @property
    def has_session(self) -> bool:
        return bool(self._cookies.get(SESSION))


@contextmanager
def stack(folder: Path, store: str, issuer: ConfidentialIssuer, **more: Any) -> Iterator[Browser]:
    with issuer.serving(), page_stack(folder, store, issuers=[issuer.settings(**more)]) as served:
        yield Browser(served.url)


@pytest.mark.parametrize(
    ("says", "takes"),
    [
        (None, BASIC),
        ([POST, BASIC], BASIC),
        (["private_key_jwt", POST], POST),
        (["none"], BASIC),
        ("client_secret_post", BASIC),
    ],
)
def test_an_issuer_that_insists_is_given_the_secret_the_way_it_takes_it(
    tmp_path: Path, store_dsn: str, says: Any, takes: str
) -> None:
    issuer = ConfidentialIssuer(SECRET, takes=(takes,), says=says)
    with stack(tmp_path, store_dsn, issuer, client_secret=SECRET) as browser:
        came = browser.sign_in(issuer.url)

        assert (came.status_code, came.headers["location"]) == (303, "/console"), came.text
        me = browser.ask(f"{browser.url}/whoami").json()
    assert (me["issuer"], me["subject"]) == (issuer.url, "dana")
    assert issuer.came == [takes]


def test_a_public_client_is_named_in_the_form(tmp_path: Path, store_dsn: str) -> None:
    issuer = ConfidentialIssuer(SECRET, takes=(NONE,))
    with stack(tmp_path, store_dsn, issuer) as browser:
        assert browser.sign_in(issuer.url).status_code == 303
    assert issuer.came == [NONE]


@pytest.mark.parametrize(
    ("more", "way"), [({}, NONE), ({"client_secret": "another"}, None)], ids=["none", "another"]
)
def test_without_its_secret_nobody_is_signed_in_and_the_page_says_why(
    tmp_path: Path, store_dsn: str, more: dict[str, str], way: str | None
) -> None:
    issuer = ConfidentialIssuer(SECRET)
    with stack(tmp_path, store_dsn, issuer, **more) as browser:
        came = browser.sign_in(issuer.url)

    assert (came.status_code, browser.has_session) == (401, False)
    assert "client_id and client_secret" in came.text
    assert issuer.came == [way]


def test_the_secret_is_nowhere_but_at_the_issuer(
    tmp_path: Path,
    store_dsn: str,
    store_owner_dsn: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    issuer = ConfidentialIssuer(SECRET)
    with stack(tmp_path, store_dsn, issuer, client_secret=SECRET) as browser:
        assert browser.sign_in(issuer.url).status_code == 303
        for page in ("/console", "/auth/config", "/openapi.json", "/metrics", "/readyz"):
            assert browser.ask(browser.url + page).text
        issuer.secret = "changed"
        assert browser.sign_in(issuer.url).status_code == 401
    with psycopg.connect(store_owner_dsn) as connection:
        stored = connection.execute(
            "SELECT convert_from(canonical, 'UTF8') FROM gatekeeper.audit_event"
            " UNION ALL SELECT event::text FROM gatekeeper.audit_outbox"
            " UNION ALL SELECT row_to_json(s)::text FROM gatekeeper.console_session s"
        ).fetchall()
    output = capfd.readouterr()

    everything = "\n".join([*browser.told, str(stored), caplog.text, output.out, output.err])
    assert "the issuer does not take our client" in everything
    assert "console.signed_in" in everything
    assert issuer.came == [BASIC, None]
    spellings = (SECRET, json.dumps(SECRET)[1:-1], "canary%3A", "Y2FuYXJ5", "of+the")
    assert [spelled for spelled in spellings if spelled in everything] == []


def test_gk_is_not_sent_to_a_client_whose_secret_it_cannot_have(
    tmp_path: Path, store_dsn: str
) -> None:
    issuer = ConfidentialIssuer(SECRET)
    with stack(tmp_path, store_dsn, issuer, client_secret=SECRET) as browser:
        offered = browser.ask(f"{browser.url}/auth/config").json()["issuers"]
        assert (
            f"issuer={issuer.url.replace(':', '%3A')}" in browser.ask(f"{browser.url}/console").text
        )

    assert [one["issuer"] for one in offered] == [f"{browser.url}/dev-issuer"]
