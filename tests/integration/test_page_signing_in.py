"""Signing in to the pages over real sockets: the cookie, what it counts for, and its end."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import psycopg
import pytest

from fakes.page_stack import PageStack, page_stack
from gatekeeper.platform.console.cookies import HEADER, SESSION, SIGNING_IN
from gatekeeper.terminals.web.page.signing_in import FAILURES_PER_MINUTE

OF_PAGE = {HEADER: "1"}


@pytest.fixture
def stack(tmp_path: Path, store_dsn: str) -> Iterator[PageStack]:
    with page_stack(tmp_path, store_dsn) as stack:
        yield stack


@pytest.fixture
def browser(stack: PageStack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url) as client:
        yield client


def kept(response: httpx.Response) -> dict[str, str]:
    """Return the cookies an answer sets; httpx itself sends none that are Secure over http."""
    found = {}
    for line in response.headers.get_list("set-cookie"):
        name, _, rest = line.partition("=")
        found[name] = rest.partition(";")[0].strip('"')
    return found


def cookie(cookies: dict[str, str]) -> dict[str, str]:
    return {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}


def leave(browser: httpx.Client, back: str = "/console") -> tuple[dict[str, str], str]:
    """Go to the issuer and sign in there; return the cookies so far, and the way back."""
    issuer = str(browser.base_url.join("/dev-issuer"))
    left = browser.get("/console/sign-in", params={"issuer": issuer, "back": back})
    assert left.status_code == 303, left.text
    approved = browser.post(left.headers["location"], data={"user": "dana"})
    return kept(left), approved.headers["location"]


def sign_in(browser: httpx.Client, more: dict[str, str] | None = None) -> httpx.Response:
    cookies, back = leave(browser)
    return browser.get(back, headers=cookie(cookies | (more or {})))


def session_in(browser: httpx.Client) -> dict[str, str]:
    return {SESSION: kept(sign_in(browser))[SESSION]}


def who(browser: httpx.Client, cookies: dict[str, str], **headers: str) -> int:
    return browser.get("/whoami", headers=cookie(cookies) | OF_PAGE | headers).status_code


def test_a_person_signs_in_at_the_issuer_and_the_page_knows_them(browser: httpx.Client) -> None:
    front = browser.get("/")
    assert (front.status_code, front.headers["location"]) == (303, "/console")
    assert "Sign in at" in browser.get("/console").text
    came = sign_in(browser)

    assert (came.status_code, came.headers["location"]) == (303, "/console")
    line = next(c for c in came.headers.get_list("set-cookie") if c.startswith(f"{SESSION}="))
    assert {"HttpOnly", "Secure", "Path=/", "SameSite=lax"} <= set(line.split("; "))
    assert "Domain" not in line
    session = {SESSION: kept(came)[SESSION]}
    page = browser.get("/console", headers=cookie(session))
    assert "d@x" in page.text
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    policy = page.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    me = browser.get("/whoami", headers=cookie(session) | OF_PAGE).json()
    assert (me["subject"], me["groups"]) == ("dana", ["eng"])


def test_a_cookie_counts_for_our_own_page_alone(browser: httpx.Client, stack: PageStack) -> None:
    session = session_in(browser)
    explain = {"target": "pg", "role": "app_read"}

    def ask(**headers: str) -> int:
        sent = cookie(session) | {name.replace("_", "-"): text for name, text in headers.items()}
        return browser.post("/policy/explain", json=explain, headers=sent).status_code

    console = {HEADER.replace("-", "_"): "1"}
    assert ask(Origin=stack.url, **console) == 200
    assert ask(Origin=stack.url) == 401
    assert ask(**console) == 401
    assert ask(Origin="http://evil.example", **console) == 401
    assert ask(Origin="null", **console) == 401
    assert browser.get("/whoami", headers=cookie(session)).status_code == 401
    assert who(browser, session, Origin="http://evil.example") == 401
    assert who(browser, {SESSION: "x" * 43}) == 401
    # Nobody elsewhere is ever told that it may add the header.
    preflight = browser.options("/whoami", headers={"Origin": "http://evil.example"})
    assert not [name for name in preflight.headers if name.startswith("access-control")]


def test_a_session_is_new_at_each_sign_in_and_stored_as_a_hash(
    browser: httpx.Client, store_owner_dsn: str
) -> None:
    first = session_in(browser)
    second = {SESSION: kept(sign_in(browser, first))[SESSION]}

    assert first != second
    assert (who(browser, first), who(browser, second)) == (401, 200)
    with psycopg.connect(store_owner_dsn) as connection:
        rows = connection.execute("SELECT * FROM gatekeeper.console_session").fetchall()
        assert [row[0] for row in rows] == [hashlib.sha256(second[SESSION].encode()).hexdigest()]
        assert second[SESSION] not in str(rows)


def test_signing_out_ends_the_session_and_both_are_told(
    browser: httpx.Client, stack: PageStack, store_owner_dsn: str
) -> None:
    session = session_in(browser)
    mine = cookie(session) | OF_PAGE
    forged = browser.post("/console/sign-out", headers=mine | {"Origin": "http://evil.example"})
    assert (forged.status_code, who(browser, session)) == (403, 200)

    done = browser.post("/console/sign-out", headers=mine | {"Origin": stack.url})

    assert (done.status_code, kept(done)[SESSION], who(browser, session)) == (204, "", 401)
    with psycopg.connect(store_owner_dsn) as connection:
        told = connection.execute(
            "SELECT convert_from(canonical, 'UTF8')::jsonb FROM gatekeeper.audit_event"
            " UNION ALL SELECT event FROM gatekeeper.audit_outbox"
        ).fetchall()
    events = [event for (event,) in told if event["kind"].startswith("console.")]
    assert sorted(event["kind"] for event in events) == ["console.signed_in", "console.signed_out"]
    assert {event["actor"]["key"] for event in events} == {f"{stack.url}/dev-issuer#dana"}


def test_a_session_ends_by_itself(browser: httpx.Client, store_owner_dsn: str) -> None:
    for past in ("expires_at = now() - interval '1 s'", "seen_at = now() - interval '61 min'"):
        session = session_in(browser)
        with psycopg.connect(store_owner_dsn) as connection:
            connection.execute(f"UPDATE gatekeeper.console_session SET {past}")
        assert who(browser, session) == 401
        assert "Sign in at" in browser.get("/console", headers=cookie(session)).text


def test_a_way_back_that_is_not_this_browsers_signs_nobody_in(browser: httpx.Client) -> None:
    cookies, back = leave(browser)
    code = parse_qs(urlsplit(back).query)["code"][0]
    other, _ = leave(browser)

    def come(query: dict[str, str], sent: dict[str, str]) -> httpx.Response:
        return browser.get("/console/callback", params=query, headers=cookie(sent))

    state = parse_qs(urlsplit(back).query)["state"][0]
    refused = [
        come({"code": code, "state": state}, {}),
        come({"code": code, "state": state}, other),
        come({"code": code, "state": "x" * 43}, cookies),
        come({"code": code, "state": state, "iss": "https://evil.example"}, cookies),
        come({"error": "access_denied", "state": state}, cookies),
        come({"code": "another", "state": state}, cookies),
        come({"code": code, "state": state}, {SIGNING_IN: "x.9.x"}),
    ]
    assert {answer.status_code for answer in refused} == {401}
    assert not any(SESSION in kept(answer) for answer in refused)
    # The browser that asked, with what it was given; and then once more.
    assert browser.get(back, headers=cookie(cookies)).status_code == 303
    assert browser.get(back, headers=cookie(cookies)).status_code == 401


def test_signing_in_leads_to_our_own_pages_alone(browser: httpx.Client) -> None:
    for back in ("https://evil.example/", "//evil.example", "/console/../x", "/console\\x"):
        cookies, way = leave(browser, back)
        assert browser.get(way, headers=cookie(cookies)).headers["location"] == "/console"


def test_signing_in_leads_back_to_the_page_that_was_wanted(browser: httpx.Client) -> None:
    wanted = "/console/terminals/trm_" + "a" * 20
    shown = browser.get(wanted).text
    link = re.search(r'href="(/console/sign-in[^"]+)"', shown)
    assert link is not None
    assert urlencode({"back": wanted}, safe="/") in link[1]
    cookies, way = leave(browser, wanted)
    assert browser.get(way, headers=cookie(cookies)).headers["location"] == wanted


def test_many_failed_tries_are_refused_before_anybody_is_asked(browser: httpx.Client) -> None:
    for _ in range(FAILURES_PER_MINUTE):
        assert browser.get("/console/callback?code=x&state=y").status_code == 401
    assert browser.get("/console/callback?code=x&state=y").status_code == 429
    token = browser.post("/console/token", headers={"Origin": str(browser.base_url).rstrip("/")})
    assert token.status_code == 429
    assert int(token.headers["retry-after"]) >= 1


def test_a_page_asked_for_by_another_name_sends_to_its_own(
    browser: httpx.Client, stack: PageStack
) -> None:
    named = browser.get("/console?profile=shell", headers={"Host": "localhost:1"})
    assert named.headers["location"] == f"{stack.url}/console?profile=shell"
    # A proxy may ask by any name; the browser knows another, and would come again for ever.
    assert browser.get("/console", headers={"Host": "upstream:4000"}).status_code == 200


def test_scripts_and_styles_are_kept_for_ever_under_names_that_change(
    browser: httpx.Client,
) -> None:
    page = browser.get("/console").text
    style = re.search(r'href="(/console/assets/[0-9a-f]{16}/style\.css)"', page)
    assert style is not None
    found = browser.get(style[1])
    assert found.headers["content-type"] == "text/css; charset=utf-8"
    assert "immutable" in found.headers["cache-control"]
    assert found.headers["content-encoding"] == "gzip"
    plain = browser.get(style[1], headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == found.content
    assert browser.get("/console/assets/x/style.css").status_code == 404
    assert browser.get("/console/assets/..%2f..%2froutes.py").status_code == 404
