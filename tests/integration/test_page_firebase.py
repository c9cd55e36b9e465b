"""Firebase is settings alone: tokens of its exact shape, its keys on a loopback server."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from factories.tokens import NOW, Clock
from fakes.ci_issuer import CiIssuer
from fakes.page_stack import PageStack, page_stack
from gatekeeper.kernel.errors import Refusal
from gatekeeper.kernel.identity import Principal
from gatekeeper.platform.console.cookies import HEADER, SESSION
from gatekeeper.platform.crypto.keys import TokenKey
from gatekeeper.platform.oidc.keysource import REFRESH_PAUSE_SECONDS, RemoteKeys
from gatekeeper.platform.oidc.verifier import IssuerSettings, TokenVerifier

PROJECT = "acme-terminals"
ISSUER = f"https://securetoken.google.com/{PROJECT}"
KEY, NEXT = TokenKey(RSAKey.generate_key(2048)), TokenKey(RSAKey.generate_key(2048))
SUBJECT = "Zx1b2c3d4e5f6g7h8i9j0kLmNoP1"
FRONT_END = "https://acme-terminals.web.app"


def token(key: TokenKey = KEY, now: int | None = None, **changes: Any) -> str:
    """Sign what Firebase Authentication gives a page for somebody who came with Google."""
    at = int(time.time()) if now is None else now  # noqa: TID251  # a token's own times
    claims = {
        "name": "Dana",
        "picture": "https://lh3.example/photo.jpg",
        "iss": ISSUER,
        "aud": PROJECT,
        "auth_time": at - 5,
        "user_id": SUBJECT,
        "sub": SUBJECT,
        "iat": at,
        "exp": at + 3600,
        "email": "dana@acme.example",
        "email_verified": True,
        "firebase": {
            "identities": {"google.com": ["1170"], "email": ["dana@acme.example"]},
            "sign_in_provider": "google.com",
        },
    } | changes
    return jwt.encode({"alg": "RS256", "kid": key.key_id, "typ": "JWT"}, claims, key.private)


@pytest.fixture
def google() -> Iterator[CiIssuer]:
    with CiIssuer(KEY).serving() as serving:
        yield serving


def settings(google: CiIssuer) -> dict[str, Any]:
    return {
        "issuer": ISSUER, "audience": PROJECT, "algorithms": ["RS256"],
        "jwks_uri": f"{google.url}/jwks",
    }  # fmt: skip


def verifier(google: CiIssuer, now: Any) -> TokenVerifier:
    known = IssuerSettings.model_validate(settings(google))
    return TokenVerifier(
        {ISSUER: (known, RemoteKeys(ISSUER, known.jwks_uri, now=now))}, clock=Clock()
    )


async def test_a_token_of_our_project_says_who_it_is(google: CiIssuer) -> None:
    at = int(NOW.timestamp())
    found = await verifier(google, time.monotonic).verify(token(now=at))
    assert isinstance(found, Principal)
    assert found.key == f"{ISSUER}#{SUBJECT}"
    assert found.email == "dana@acme.example"


async def test_an_address_that_was_not_verified_says_nothing(google: CiIssuer) -> None:
    """Anybody can register anybody's address with a password: the policy must not see it."""
    at = int(NOW.timestamp())
    found = await verifier(google, time.monotonic).verify(
        token(now=at, email_verified=False, firebase={"sign_in_provider": "password"})
    )
    assert isinstance(found, Principal)
    assert found.email is None


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"iss": "https://securetoken.google.com/another"}, "issuer"),
        ({"aud": "another"}, "audience"),
        ({"sub": ""}, "subject"),
        ({"exp": int(NOW.timestamp()) - 3600}, "expired"),
    ],
)
async def test_a_token_of_another_project_is_refused(
    google: CiIssuer, changes: dict[str, Any], word: str
) -> None:
    found = await verifier(google, time.monotonic).verify(
        token(now=int(NOW.timestamp()), **changes)
    )
    assert isinstance(found, Refusal)
    assert word in found.detail


async def test_its_keys_change_every_few_days(google: CiIssuer) -> None:
    at, seconds = int(NOW.timestamp()), [0.0]
    checked = verifier(google, lambda: seconds[0])
    assert isinstance(await checked.verify(token(now=at)), Principal)

    google.keys = {"keys": [*KEY.jwks()["keys"], *NEXT.jwks()["keys"]]}
    seconds[0] += REFRESH_PAUSE_SECONDS + 1
    assert isinstance(await checked.verify(token(NEXT, now=at)), Principal)
    assert isinstance(await checked.verify(token(now=at)), Principal)


@pytest.fixture
def stack(tmp_path: Path, store_dsn: str, google: CiIssuer) -> Iterator[PageStack]:
    silent = {"issuer": "http://127.0.0.1:9/silent", "audience": "a", "client_id": "c"}
    more = {"issuers": [settings(google), silent], "console_sign_in_origins": [FRONT_END]}
    with page_stack(tmp_path, store_dsn, **more) as stack:
        yield stack


def test_a_front_end_turns_its_token_into_a_session(stack: PageStack, store_owner_dsn: str) -> None:
    with httpx.Client(base_url=stack.url) as client:
        brought = client.post(
            "/console/token",
            headers={"Authorization": f"Bearer {token()}", "Origin": stack.url},
        )
        assert brought.status_code == 204
        cookie = brought.headers["set-cookie"].partition(";")[0]
        assert cookie.startswith(f"{SESSION}=")
        me = client.get("/whoami", headers={"Cookie": cookie, HEADER: "1"}).json()
        assert (me["subject"], me["email"]) == (SUBJECT, "dana@acme.example")
    with psycopg.connect(store_owner_dsn) as connection:
        row = connection.execute(
            "SELECT expires_at <= now() + interval '1 hour' FROM gatekeeper.console_session"
        ).fetchone()
    assert row == (True,)  # no longer than the token, whatever else a session may last


def test_a_front_end_elsewhere_needs_to_be_named(stack: PageStack) -> None:
    with httpx.Client(base_url=stack.url) as client:

        def post(origin: str | None) -> httpx.Response:
            headers = {} if origin is None else {"Origin": origin}
            return client.post("/console/token", data={"id_token": token()}, headers=headers)

        assert [post(origin).status_code for origin in (None, "null", "https://evil.example")] == [
            403,
            403,
            403,
        ]
        entered = post(FRONT_END)
        assert (entered.status_code, entered.headers["location"]) == (303, "/console")
        assert SESSION in entered.headers["set-cookie"]


def test_an_issuer_that_does_not_answer_is_told_of(stack: PageStack) -> None:
    with httpx.Client(base_url=stack.url) as client:
        page = client.get("/console").text
        assert "http://127.0.0.1:9/silent" in page
        assert "securetoken" not in page  # it has no page of its own to send anybody to
        left = client.get("/console/sign-in?issuer=http://127.0.0.1:9/silent")
        assert (left.status_code, "set-cookie" in left.headers) == (503, False)
        assert "the issuer does not answer" in left.text


def test_a_token_that_is_not_believed_begins_nothing(stack: PageStack) -> None:
    with httpx.Client(base_url=stack.url) as client:
        for bad in ("x", "x.y.z", token(aud="another"), token(NEXT)):
            answer = client.post(
                "/console/token",
                headers={"Authorization": f"Bearer {bad}", "Origin": stack.url},
            )
            assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
