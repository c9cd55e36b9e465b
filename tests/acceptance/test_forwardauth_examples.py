"""Every example of examples/forwardauth is checked, served, and does what its first line says.

All are served by one process, each on a decision port of its own; the backends that they ask are
one scripted server, and so are the issuer and the Gatekeeper of two of them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from factories import tokens
from gatekeeper import bootstrap
from gatekeeper.platform.clock import SystemClock
from proxies.client import PATIENCE, Answer, ask
from proxies.decisions import Say, say
from proxies.loopback import Loopback, Received, receive
from proxies.servers import die_with_us
from valkey_server import ValkeyServer

EXAMPLES = Path(__file__).parents[2] / "examples" / "forwardauth"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/config.yaml"))
AGAIN = "shared-cache-again"
"""A second process of shared-cache, so to say: it shares nothing with the first but the Valkey."""
PROGRAM = Path(__file__).with_name("examples_program.py")
ENVIRONMENT = {"APP_REQUIRED_TIER": "gold", "APP_SUPPORT_ADDRESS": "help@example.com"}

Answering = Callable[[Received], Say]


def _not_found(_request: Received) -> Say:
    return say(404)


class Backends(Loopback):
    """Answers each path as a test says; `received` has what was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, Answering] = {}
        self.received: list[Received] = []

    async def serve(self, reader: Any, writer: Any, connection: int) -> None:
        while True:
            request = await receive(reader, connection)
            self.received.append(request)
            answer = self.answers.get(request.target.partition("?")[0], _not_found)
            writer.write(answer(request).data)
            await writer.drain()

    def on(self, path: str, answer: Answering | Say) -> None:
        self.answers[path] = (lambda _: answer) if isinstance(answer, Say) else answer


def told(body: object, *headers: tuple[str, str], status: int = 200) -> Say:
    return say(
        status, ("content-type", "application/json"), *headers, body=json.dumps(body).encode()
    )


@dataclass(frozen=True)
class Served:
    """What was started: where each example is asked, and where its files are."""

    ports: dict[str, int]
    folder: Path


@pytest.fixture(scope="module")
def scripted() -> Iterator[Backends]:
    with Backends() as running:
        yield running


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer | None]:
    if shutil.which("valkey-server") is None and shutil.which("redis-server") is None:
        yield None
        return
    with ValkeyServer(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="module")
def served(
    scripted: Backends, valkey: ValkeyServer | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("examples") / "forwardauth"
    shutil.copytree(EXAMPLES, folder)
    shutil.copytree(EXAMPLES / "shared-cache", folder / AGAIN)
    shared = "6379" if valkey is None else str(valkey.port)
    for file in folder.rglob("*.yaml"):
        text = file.read_text().replace("127.0.0.1:9100", f"127.0.0.1:{scripted.port}")
        file.write_text(text.replace("127.0.0.1:6379", f"127.0.0.1:{shared}"))
    names = [*NAMES, AGAIN]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, PROGRAM, *(folder / name / "config.yaml" for name in names)],
            env={**os.environ, **ENVIRONMENT}, stdout=subprocess.PIPE, stderr=log, text=True,
            preexec_fn=die_with_us,  # noqa: PLW1509  # calls one function of the C library
        )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (folder / "log").read_text()[-2000:]
        yield Served(dict(zip(names, json.loads(line), strict=True)), folder)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def backends(scripted: Backends) -> Backends:
    scripted.answers.clear()
    scripted.received.clear()
    return scripted


@pytest.fixture
def decide(served: Served) -> Callable[..., Answer]:
    def decide(
        example: str,
        *lines: str,
        endpoint: str = "app",
        method: str = "GET",
        uri: str = "/orders",
        host: str = "app.example.com",
    ) -> Answer:
        told = (
            f"X-Forwarded-Method: {method}", "X-Forwarded-Proto: https",
            f"X-Forwarded-Host: {host}", f"X-Forwarded-Uri: {uri}", "X-Forwarded-For: 192.0.2.7",
        )  # fmt: skip
        return ask(served.ports[example], f"/{endpoint}/auth", *told, *lines)

    return decide


Decide = Callable[..., Answer]


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


def basic(user: str, password: str) -> str:
    return f"Authorization: Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def only(answer: Answer, name: str) -> str:
    (value,) = answer.values(name)
    return value


@pytest.mark.parametrize("name", NAMES)
def test_check_finds_nothing_to_mend(name: str) -> None:
    assert bootstrap.check_configuration(EXAMPLES / name / "config.yaml", ENVIRONMENT) == ()


def test_every_example_has_a_line_in_the_readme_and_a_test() -> None:
    readme = (EXAMPLES.parent / "README.md").read_text()
    tests = Path(__file__).read_text()

    assert re.findall(r"\]\(forwardauth/([a-z0-9-]+)/\)", readme) == NAMES
    assert [name for name in NAMES if f'"{name}"' not in tests] == []


def test_basic_role(decide: Decide) -> None:
    name = "basic-role"

    allowed = decide(name, basic("admin-ada", "demo-password"))
    assert (only(allowed, "x-user"), only(allowed, "x-role")) == ("admin-ada", "admin")
    assert only(decide(name), "www-authenticate") == 'Basic realm="gateway", charset="UTF-8"'
    for wrong in (basic("admin-ada", "guessed"), basic("guest-eve", "demo-password")):
        refused = decide(name, wrong)
        assert (refused.status, json.loads(refused.body)) == (
            401, {"error": "unknown user or password"},
        )  # fmt: skip


def test_introspection(decide: Decide, backends: Backends) -> None:
    name = "introspection"
    backends.on(
        "/introspect",
        lambda asked: told(
            {"active": b"token=good" in asked.body, "sub": asked.body[-3:].decode()}
        ),
    )
    backends.on("/subscriptions/ada", told({"plan": "plus"}))
    backends.on("/subscriptions/bob", told({"plan": "free"}))

    allowed = decide(name, bearer("good-ada"))
    assert (only(allowed, "x-user"), only(allowed, "x-plan")) == ("ada", "plus")
    asked = backends.received[0]
    assert asked.values("authorization") == [basic("passctrl", "demo-client-secret")[15:]]
    unpaid = decide(name, bearer("good-bob"))
    assert (unpaid.status, json.loads(unpaid.body)["error"]) == (
        403, "needs a subscription, has free",
    )  # fmt: skip
    inactive = decide(name, bearer("gone-ada"))
    assert (inactive.status, json.loads(inactive.body)["error"]) == (
        403, "the token is not active",
    )  # fmt: skip
    count = len(backends.received)
    assert decide(name, bearer("gone-ada")).status == 403
    assert len(backends.received) == count  # kept for a moment


def test_optional_session(decide: Decide, backends: Backends) -> None:
    name = "optional-session"
    tiers = {"a": "gold", "b": "silver"}
    backends.on(
        "/session",
        lambda asked: (
            told({"user": key, "tier": tiers[key]})
            if (key := asked.value("x-session") or "") in tiers
            else say(404)
        ),
    )

    visitor = decide(name)
    assert (only(visitor, "x-user"), only(visitor, "x-tier")) == ("", "free")
    member = decide(name, "Cookie: session=a; theme=dark", uri="/premium/one")
    assert (only(member, "x-user"), only(member, "x-tier")) == ("a", "gold")
    assert backends.received[-1].values("cookie") == []
    for cookies in (["Cookie: session=b"], ["Cookie: session=ended"], []):
        refused = decide(name, *cookies, uri="/premium/one")
        assert (refused.status, refused.body) == (403, b"For members of the tier gold.")


def test_admin_uncached(decide: Decide, backends: Backends) -> None:
    name = "admin-uncached"
    backends.on(
        "/members/me",
        lambda asked: told(
            {"user": "ada", "admin": asked.value("authorization") == "Bearer admin-of-site"}
        ),
    )

    assert decide(name, bearer("one"), endpoint="site").status == 200
    assert decide(name, bearer("one"), endpoint="site").status == 200
    assert len(backends.received) == 1
    for _ in range(2):
        assert only(decide(name, bearer("admin-of-site"), endpoint="admin"), "x-admin") == "ada"
    assert len(backends.received) == 3
    assert decide(name, bearer("one"), endpoint="admin").status == 403


def test_token_patterns(decide: Decide) -> None:
    name = "token-patterns"

    assert only(decide(name, bearer("admin-00ff00ff"), uri="/admin/x"), "x-role") == "admin"
    assert only(decide(name, bearer("service-00ff00ff")), "x-role") == "service"
    assert decide(name, bearer("service-00ff00ff"), uri="/admin/x").status == 403
    assert decide(name, bearer("batch-00ff00ff"), method="POST").status == 200
    assert decide(name, bearer("batch-00ff00ff"), method="DELETE").status == 403
    assert decide(name, bearer("admin-00ff00ff0")).status == 401


def test_legacy_basic(decide: Decide, backends: Backends) -> None:
    name = "legacy-basic"
    backends.on("/legacy/account", told({"account": "A-1"}))

    assert only(decide(name, bearer("secret:1"), "X-Username: ada"), "x-account") == "A-1"
    (asked,) = backends.received
    assert asked.values("authorization") == [basic("ada", "secret:1")[15:]]
    assert asked.values("x-username") == []
    assert decide(name, bearer("secret")).status == 401
    assert decide(name, "X-Username: ada").status == 401
    assert decide(name).status == 401
    assert len(backends.received) == 1


def test_three_formats(decide: Decide, backends: Backends) -> None:
    name = "three-formats"
    backends.on("/projects/current", told({}))

    assert decide(name, "Private-Token: s3cret").status == 200
    (asked,) = backends.received
    assert asked.values("authorization") == ["Bearer s3cret"]
    assert asked.values("x-api-token") == ["s3cret"]
    assert asked.target == "/projects/current?per_page=1&access_token=s3cret"
    assert asked.values("private-token") == []


def test_nested_json(decide: Decide, backends: Backends) -> None:
    name = "nested-json"
    profile: dict[str, Any] = {
        "user": {"active": True},
        "memberships": [
            {"project": "red", "permissions": ["read"]},
            {"project": "blue", "permissions": ["read", "write"]},
        ],
        "flags": ["new"],
        "checks": [{"passed": True}, {"passed": True}],
        "quota": {"used": 9, "limit": 10},
    }

    def outcome(project: str = "blue", **changes: Any) -> int:
        backends.on("/profile", told(profile | changes))
        return decide(name, bearer("x"), f"X-Project: {project}").status

    assert outcome() == 200
    assert outcome(project="red") == 403
    assert outcome(flags=["locked"]) == 403
    assert outcome(user={"active": False}) == 403
    assert outcome(checks=[{"passed": True}, {"passed": False}]) == 403
    assert outcome(quota={"used": 10, "limit": 10}) == 403
    assert outcome(quota={}) == 502
    del profile["memberships"]
    assert outcome() == 502


def test_api_key(decide: Decide, backends: Backends) -> None:
    name = "api-key"
    answers = {
        "ak_000000000001": {"active": True, "sub": "shop", "scope": "stock orders"},
        "ak_000000000002": {"active": True, "sub": "shop", "scope": "stock reorders"},
        "ak_000000000003": {"active": False},
    }
    backends.on(
        "/introspect",
        lambda asked: told(answers[asked.body.decode().split("&")[0].removeprefix("token=")]),
    )

    allowed = decide(name, "X-Api-Key: ak_000000000001")
    assert (only(allowed, "x-owner"), only(allowed, "x-scopes")) == ("shop", "stock orders")
    assert b"token_type_hint=api_key" in backends.received[0].body
    assert backends.received[0].values("x-api-key") == []
    assert decide(name, "X-Api-Key: ak_000000000002").status == 403
    assert decide(name, "X-Api-Key: ak_000000000003").status == 403
    assert decide(name, "X-Api-Key: nothing").status == 401
    assert len(backends.received) == 3


def moment(**ago: float) -> str:
    return (SystemClock().now() - timedelta(**ago)).isoformat().replace("+00:00", "Z")


def test_session_expiry(decide: Decide, backends: Backends) -> None:
    def outcome(created: str, expires: str) -> int:
        backends.on("/session", told({"createdAt": created, "expiresAt": expires}))
        return decide("session-expiry", "Cookie: session=s").status

    assert outcome(moment(hours=1), moment(hours=-1)) == 200
    assert outcome(moment(hours=1), moment(seconds=1)) == 401
    assert outcome(moment(hours=13), moment(hours=-1)) == 401
    assert outcome("yesterday", moment(hours=-1)) == 502
    assert len(backends.received) == 4


def test_deny_page(decide: Decide) -> None:
    name = "deny-page"

    assert decide(name, bearer("demo-token"), uri="/open/x").status == 200
    refused = decide(name, bearer("demo-token"), "X-Request-Id: of-the-client", uri="/closed?a=1")
    assert json.loads(refused.body) == {
        "error": "only /open/ is open", "path": "/closed", "request": "of-the-client",
    }  # fmt: skip
    assert only(refused, "content-type") == "application/json"
    for page in (decide(name), decide(name, bearer("guessed"))):
        assert (page.status, only(page, "content-type")) == (401, "text/html; charset=utf-8")
        assert b"<p>app.example.com needs a token.</p>" in page.body


def test_rules_folder(decide: Decide, served: Served) -> None:
    """A rule is changed, and then is in force; one that is broken changes nothing."""
    name = "rules-folder"
    file = served.folder / name / "rules" / "entitled.yaml"
    text = file.read_text()

    assert only(decide(name, bearer("demo-token-of-ada")), "x-user") == "ada"
    assert decide(name, bearer("demo-token-of-bob")).status == 403
    file.write_text(text.replace('["ada"]', '["ada"'))
    assert decide(name, bearer("demo-token-of-ada")).status == 200
    file.write_text(text.replace('["ada"]', '["bob"]'))
    ends = time.monotonic() + PATIENCE
    while decide(name, bearer("demo-token-of-bob")).status != 200:
        assert time.monotonic() < ends, "the change is not taken"
        time.sleep(0.05)
    assert decide(name, bearer("demo-token-of-ada")).status == 403


def test_env_and_secrets(decide: Decide, backends: Backends) -> None:
    name = "env-and-secrets"
    backends.on("/profile", lambda asked: told({"tier": asked.value("x-token")}))

    assert decide(name, bearer("gold")).status == 200
    assert backends.received[0].values("x-api-key") == ["demo-backend-key"]
    refused = decide(name, bearer("silver"))
    assert refused.body == b"Your plan does not cover this. Ask help@example.com."


def test_shared_cache(decide: Decide, backends: Backends, valkey: ValkeyServer | None) -> None:
    """What one process keeps another finds; without the Valkey the backend is asked again."""
    if valkey is None:
        pytest.skip("neither valkey-server nor redis-server is installed")
    name = "shared-cache"
    backends.on("/members/me", told({"user": "ada"}))

    assert only(decide(name, bearer("one")), "x-user") == "ada"
    assert only(decide(AGAIN, bearer("one")), "x-user") == "ada"
    assert len(backends.received) == 1
    assert decide(AGAIN, bearer("two")).status == 200
    assert len(backends.received) == 2
    valkey.kill()
    assert only(decide(name, bearer("three")), "x-user") == "ada"
    assert only(decide(AGAIN, bearer("three")), "x-user") == "ada"
    assert len(backends.received) == 4


def test_cache_control(decide: Decide, backends: Backends) -> None:
    name = "cache-control"

    def asked_for(token: str, said: str | None) -> int:
        headers = () if said is None else (("cache-control", said),)
        backends.on("/members/me", told({}, *headers))
        before = len(backends.received)
        assert [decide(name, bearer(token)).status for _ in range(2)] == [200, 200]
        return len(backends.received) - before

    assert asked_for("a", "max-age=60") == 1
    assert asked_for("b", "no-store") == 2
    assert asked_for("c", "max-age=60, private") == 2
    assert asked_for("d", None) == 2
    assert asked_for("e", "max-age=0") == 2


def test_webhook(decide: Decide, backends: Backends) -> None:
    backends.on("/verify", lambda asked: told({"valid": json.loads(asked.body)["path"] == "/paid"}))
    signature = "X-Signature: sha256=" + "0" * 64

    def outcome(
        when: str, *, signed: str = signature, method: str = "POST", uri: str = "/paid"
    ) -> int:
        lines = (signed, f"X-Timestamp: {when}")
        return decide("webhook", *lines, endpoint="hooks", method=method, uri=uri).status

    assert outcome(moment(seconds=5)) == 200
    (asked,) = backends.received
    assert asked.values("x-signature") == [signature.partition(": ")[2]]
    assert json.loads(asked.body)["path"] == "/paid"
    assert outcome(moment(minutes=6)) == 403
    assert outcome(moment(minutes=-2)) == 403
    assert outcome(moment(seconds=5), method="GET") == 403
    assert outcome(moment(seconds=5), uri="/other") == 403
    assert outcome(moment(seconds=5), signed="X-Signature: sha256=0") == 401
    assert outcome("soon") == 502


def test_rate_limit(decide: Decide, backends: Backends) -> None:
    name = "rate-limit"
    caller = hashlib.sha256(b"one").hexdigest()
    calls: list[str] = []

    def count(asked: Received) -> Say:
        calls.append(asked.value("x-caller") or "")
        return told({}) if calls.count(calls[-1]) <= 2 else say(429, ("retry-after", "17"))

    backends.on("/count", count)

    assert [decide(name, bearer("one")).status for _ in range(2)] == [200, 200]
    limited = decide(name, bearer("one"))
    assert (limited.status, only(limited, "retry-after"), limited.body) == (
        429,
        "17",
        b"Slow down.",
    )
    assert decide(name, bearer("two")).status == 200
    assert calls[:3] == [caller] * 3
    assert all(asked.values("authorization") == [] for asked in backends.received)


def test_pagination(decide: Decide, backends: Backends) -> None:
    name = "pagination"

    def paged(pages: list[list[str]]) -> None:
        def page(asked: Received) -> Say:
            number = int(asked.target.rpartition("=")[2]) if "?" in asked.target else 0
            more = [("link", f'</groups?page={number + 1}>; rel="next"')]
            return told(
                [{"name": group} for group in pages[number]],
                *(more if number + 1 < len(pages) else []),
            )

        backends.on("/groups", page)

    paged([["users"], ["writers"], ["admins"]])
    assert decide(name, bearer("x")).status == 200
    assert [asked.target for asked in backends.received] == [
        "/groups", "/groups?page=1", "/groups?page=2",
    ]  # fmt: skip
    assert {asked.value("authorization") for asked in backends.received} == {"Bearer x"}
    paged([["users"], ["writers"]])
    assert decide(name, bearer("x")).status == 403


def test_custom_401(decide: Decide) -> None:
    name = "custom-401"

    refused = decide(name, uri="/a")
    assert refused.status == 401
    assert json.loads(refused.body)["instance"] == "/a"
    assert only(refused, "content-type") == "application/problem+json"
    assert only(refused, "www-authenticate") == 'Bearer realm="the \\"app\\""'
    assert decide(name, bearer("demo-token")).status == 200
    assert decide(name, "X-Api-Key: demo-key").status == 200
    assert decide(name, bearer("demo-key")).status == 401


def test_login_redirect(decide: Decide) -> None:
    name = "login-redirect"

    sent = decide(name, uri="/reports/2026?all=1")
    assert sent.status == 303
    assert only(sent, "location") == (
        "https://login.example.com/start?to=https%3A%2F%2Fapp.example.com%2Freports%2F2026"
    )
    assert decide(name, "Cookie: session=demo-session").status == 200
    assert only(decide(name, "Cookie: session=ended"), "location").startswith("https://login.")


def test_jwt(decide: Decide, backends: Backends) -> None:
    name = "jwt"
    key = tokens.KEY
    backends.on("/jwks", told({"keys": [key.private.as_dict(private=False)]}))
    now = int(SystemClock().now().timestamp())

    def outcome(host: str = "red.example.com", **changes: Any) -> Answer:
        given: dict[str, Any] = {
            "iss": f"http://127.0.0.1:{backends.port}", "aud": "app", "sub": "dana", "iat": now,
            "exp": now + 600, "groups": ["eng"], "tenant": "red",
        } | changes  # fmt: skip
        return decide(name, bearer(tokens.token(key, **given)), host=host)

    assert only(outcome(), "x-user") == "dana"
    assert outcome(groups=["sales"]).status == 403
    assert outcome(host="blue.example.com").status == 403
    assert outcome(aud="other").status == 401
    assert outcome(exp=now - 600).status == 401
    assert decide(name, bearer("no.such.token")).status == 401
    assert len(backends.received) <= 2


def test_live_session(decide: Decide, backends: Backends) -> None:
    """The API of a Gatekeeper is played here; tests/contract/test_live_sessions.py has a real one."""
    name = "live-session"

    def session(target: str, **ends: float) -> dict[str, Any]:
        return {
            "sessionId": "s1", "status": "ready", "target": target, "role": "app_read",
            "requester": "dana", "reason": "", "createdAt": moment(minutes=1), "ttlSeconds": 600,
            "expiresAt": moment(**ends),
        }  # fmt: skip

    def outcome(*sessions: dict[str, Any]) -> int:
        backends.on("/sessions", told({"items": sessions}))
        return decide(name, bearer("of-dana"), endpoint="console").status

    assert outcome(session("orders", minutes=-9)) == 200
    assert backends.received[0].values("authorization") == ["Bearer of-dana"]
    assert outcome(session("orders", minutes=1)) == 403
    assert outcome(session("stock", minutes=-9)) == 403
    assert outcome() == 403
    backends.on("/sessions", say(503))
    assert decide(name, bearer("of-dana"), endpoint="console").status == 502


def test_development(decide: Decide) -> None:
    """Nobody is trusted here: what is claimed of the request is not what is judged."""
    allowed = decide("development", bearer("demo-token"), host="claimed.example.com")

    assert allowed.status == 200
    assert only(allowed, "x-host") == "app.example.com"  # the question's own
    assert only(allowed, "x-client") == "127.0.0.1"
    assert only(allowed, "x-proxied") == "no"
    assert decide("development", bearer("x")).status == 401
