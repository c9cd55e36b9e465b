"""Logging in over real sockets: the client's flows against the development issuer."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from joserfc import jwt
from joserfc.jwk import RSAKey

from fakes.browser import press
from gatekeeper.client import login
from gatekeeper.client.login import Issuer, LoginError, challenge_of
from gatekeeper.kernel.errors import UnavailableError
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.crypto.keys import TokenKey
from gatekeeper.platform.oidc.development import (
    DevelopmentIssuer,
    DevelopmentUser,
)
from gatekeeper.platform.oidc.development_routes import development_routes
from gatekeeper.platform.random import SystemRandom
from gatekeeper.wire.identity import LoginIssuer

KEY = TokenKey(RSAKey.generate_key(2048))
VERIFIER = "v" * 43


@dataclass
class Person:
    """Does something with the page she is shown, in a thread, as a browser is."""

    do: Callable[[str], Any]
    saw: list[Any] = field(default_factory=list)
    thread: threading.Thread | None = None

    def __call__(self, url: str, *_: str) -> None:
        self.thread = threading.Thread(target=lambda: self.saw.append(self.do(url)))
        self.thread.start()

    def finish(self) -> list[Any]:
        assert self.thread is not None
        self.thread.join(timeout=30)
        return self.saw


@pytest.fixture(scope="module")
def issuer() -> Iterator[LoginIssuer]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        development = DevelopmentIssuer(
            public_url=address, users=[DevelopmentUser(name="dana", email="d@x")],
            key=KEY, clock=SystemClock(), random=SystemRandom(),
        )  # fmt: skip
        app = FastAPI()
        app.include_router(development_routes(development, KEY))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield LoginIssuer(issuer=development.issuer, client_id="gk")
        server.should_exit = True
        thread.join(timeout=30)


def request_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


def address_with(url: str, **changes: str) -> str:
    return f"{url.partition('?')[0]}?{urlencode({**request_of(url), **changes})}"


def test_a_browser_on_this_machine_logs_a_person_in(issuer: LoginIssuer) -> None:
    person = Person(lambda url: press(url, user="dana"))
    with Issuer(issuer) as there:
        assert there.offers_browser
        assert there.offers_device
        tokens = there.browser_login(person)

    assert "go back to the terminal" in person.finish()[0].text
    claims = jwt.decode(tokens.identity.reveal(), KEY.private, algorithms=["RS256"]).claims
    assert claims["sub"] == "dana"
    assert claims["exp"] == tokens.expires_at
    fresh = login.renew(tokens)
    assert fresh is not None
    assert fresh.expires_at >= tokens.expires_at
    assert login.renew(tokens) is None


def test_who_says_no_is_not_logged_in(issuer: LoginIssuer) -> None:
    person = Person(lambda url: press(url, action="deny"))
    with Issuer(issuer) as there, pytest.raises(LoginError, match="denied"):
        there.browser_login(person)
    person.finish()


def test_an_answer_that_is_not_ours_is_turned_down_and_the_wait_goes_on(
    issuer: LoginIssuer,
) -> None:
    def knock_first(url: str) -> list[int]:
        asked = request_of(url)
        back = asked["redirect_uri"]
        ours = {"state": asked["state"], "code": "stolen"}
        attempts = [
            f"{back}?code=stolen&state=guessed",
            f"{back}?code=stolen",
            f"{back}?{urlencode({**ours, 'iss': 'https://other.example'})}",
            f"{back.replace('/callback', '/other')}?{urlencode(ours)}",
        ]
        answers = [httpx.get(attempt).status_code for attempt in attempts]
        return [*answers, httpx.post(back).status_code, press(url, user="dana").status_code]

    person = Person(knock_first)
    with Issuer(issuer) as there:
        tokens = there.browser_login(person)

    assert person.finish() == [[400, 400, 400, 400, 501, 200]]
    assert tokens.refresh is not None


def test_nobody_at_the_browser_ends_the_wait(issuer: LoginIssuer) -> None:
    with Issuer(issuer) as there, pytest.raises(LoginError, match="in time"):
        there.browser_login(lambda _url: None, patience=0.1)


def test_a_token_for_another_login_is_not_taken(issuer: LoginIssuer) -> None:
    person = Person(lambda url: press(address_with(url, nonce="another"), user="dana"))
    with Issuer(issuer) as there, pytest.raises(LoginError, match="not for this login"):
        there.browser_login(person)
    person.finish()


def test_the_device_flow_needs_no_browser_here(issuer: LoginIssuer) -> None:
    person = Person(lambda url: press(url, user="dana"))
    with Issuer(issuer) as there:
        tokens = there.device_login(person)

    assert "go back to the terminal" in person.finish()[0].text
    assert tokens.refresh is not None


def asked(issuer: LoginIssuer, **changes: str) -> str:
    query = {
        "response_type": "code", "client_id": "gk", "state": "s",
        "redirect_uri": "http://127.0.0.1:7/callback",
        "code_challenge": challenge_of(VERIFIER), "code_challenge_method": "S256",
    } | changes  # fmt: skip
    return f"{issuer.issuer}/authorize?{urlencode(query)}"


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "mallory"},
        {"redirect_uri": "https://evil.example/callback"},
        {"redirect_uri": "http://127.0.0.1.evil.example:80/callback"},
        {"redirect_uri": "http://localhost:7/callback"},
        {"redirect_uri": "http://127.0.0.1@evil.example:7/"},
        {"redirect_uri": "http://127.0.0.1:7/callback?code=x"},
        {"redirect_uri": "http://127.0.0.1/callback"},
        {"redirect_uri": "http://127.0.0.1:x/callback"},
        {"response_type": "token"},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": ""},
        {"code_challenge": ""},
        {"code_challenge": "short"},
    ],
    ids=lambda changes: " ".join(f"{k}={v}" for k, v in changes.items()),
)
def test_the_issuer_shows_nobody_a_request_that_could_lead_astray(
    issuer: LoginIssuer, changes: dict[str, str]
) -> None:
    url = asked(issuer, **changes)
    for answer in (httpx.get(url), httpx.post(url, data={"user": "dana"})):
        assert answer.status_code == 400
        assert "Location" not in answer.headers


def code_from(issuer: LoginIssuer) -> str:
    back = httpx.post(asked(issuer), data={"user": "dana"}).headers["Location"]
    answer = request_of(back)
    assert answer["state"] == "s"
    assert answer["iss"] == issuer.issuer
    return answer["code"]


def redeemed(issuer: LoginIssuer, code: str, **changes: str) -> dict[str, Any]:
    form = {
        "grant_type": "authorization_code", "code": code, "client_id": "gk",
        "redirect_uri": "http://127.0.0.1:7/callback", "code_verifier": VERIFIER,
    } | changes  # fmt: skip
    answer: dict[str, Any] = httpx.post(f"{issuer.issuer}/token", data=form).json()
    return answer


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": "x" * 43},
        {"code_verifier": ""},
        {"code_verifier": challenge_of(VERIFIER)},
        {"redirect_uri": "http://127.0.0.1:8/callback"},
    ],
    ids=lambda changes: " ".join(f"{k}={v}" for k, v in changes.items()),
)
def test_a_stolen_code_is_worth_nothing_and_is_used_up(
    issuer: LoginIssuer, changes: dict[str, str]
) -> None:
    code = code_from(issuer)

    assert redeemed(issuer, code, **changes) == {"error": "invalid_grant"}
    assert redeemed(issuer, code) == {"error": "invalid_grant"}


def test_a_code_is_worth_tokens_once(issuer: LoginIssuer) -> None:
    code = code_from(issuer)

    assert "id_token" in redeemed(issuer, code)
    assert redeemed(issuer, code) == {"error": "invalid_grant"}
    assert redeemed(issuer, "guessed") == {"error": "invalid_grant"}
    assert redeemed(issuer, code, grant_type="password") == {"error": "unsupported_grant_type"}


def test_a_person_who_is_not_on_the_list_gets_no_code(issuer: LoginIssuer) -> None:
    back = httpx.post(asked(issuer), data={"user": "mallory"}).headers["Location"]

    assert request_of(back)["error"] == "access_denied"


def test_an_issuer_that_is_away_is_said_to_be() -> None:
    away = LoginIssuer(issuer="http://127.0.0.1:9", client_id="gk")
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9"), Issuer(away):
        pass


@pytest.mark.parametrize(
    "told",
    [
        {"Host": "rebound.example.com"},
        {"Host": "127.0.0.1.example.com:4000"},
        {"Host": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_the_page_of_somebody_else_logs_nobody_in(
    issuer: LoginIssuer, told: dict[str, str]
) -> None:
    """It has the browser of whoever looks at it, and a name that means this machine."""
    with httpx.Client(trust_env=False, headers=told) as page:
        for path, form in (
            ("device_authorization", {"client_id": "gk"}),
            ("device", {"user_code": "BCDF-GHJK", "user": "dana"}),
            ("token", {"grant_type": "refresh_token", "refresh_token": "x"}),
            ("authorize", {"user": "dana"}),
        ):
            assert page.post(f"{issuer.issuer}/{path}", data=form).status_code == 404, path
        if "Host" in told:
            assert page.get(f"{issuer.issuer}/device").status_code == 404


def test_its_own_page_does(issuer: LoginIssuer) -> None:
    with httpx.Client(trust_env=False, headers={"Sec-Fetch-Site": "same-origin"}) as page:
        begun = page.post(f"{issuer.issuer}/device_authorization", data={"client_id": "gk"})
        code = begun.json()["user_code"]
        pressed = page.post(f"{issuer.issuer}/device", data={"user_code": code, "user": "dana"})

    assert (begun.status_code, pressed.status_code) == (200, 200)
