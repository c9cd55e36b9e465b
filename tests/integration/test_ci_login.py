"""A CI job's token exchanged over real sockets: a real issuer, store, agent and target.

The commands are those of examples/ci, run as they stand there.
"""

import asyncio
import base64
import hmac
import json
import os
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml
from joserfc.jwk import RSAKey

from factories.installation import (
    AGENT,
    CONTROL_PLANE,
    address,
    agent_settings,
    database,
    serving,
    target_settings,
)
from fakes.ci_issuer import PERMIT, PROJECT, CiIssuer
from gatekeeper import bootstrap
from gatekeeper.bootstrap.settings import AgentSettings, ControlPlaneSettings, load_settings
from gatekeeper.client import operations
from gatekeeper.client.api import ApiError, Client
from gatekeeper.entrypoints.operate.toml import write_toml
from gatekeeper.kernel.errors import ErrorCode
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.crypto.keys import TokenKey
from gatekeeper.platform.oidc.exchange import REFUSED_EVENTS_PER_MINUTE
from gatekeeper.platform.postgres.embedded import EmbeddedServer
from gatekeeper.platform.postgres.migrations import migrate
from gatekeeper.wire.identity import ACCESS_TOKEN_TYPE, JWT_TYPE, TOKEN_EXCHANGE

EXAMPLES = Path(__file__).parents[2] / "examples" / "ci"


@dataclass
class World:
    url: str
    store: str
    gitlab: CiIssuer
    github: CiIssuer
    folder: Path

    def token(self, **claims: Any) -> str:
        return self.gitlab.token(self.url, **PROJECT | claims)

    def post(self, token: str, **form: str) -> httpx.Response:
        whole = {
            "grant_type": TOKEN_EXCHANGE, "subject_token": token, "subject_token_type": JWT_TYPE,
        } | form  # fmt: skip
        return httpx.post(f"{self.url}/auth/token", data=whole)

    def whoami(self, token: str) -> httpx.Response:
        return httpx.get(f"{self.url}/whoami", headers={"Authorization": f"Bearer {token}"})


@pytest.fixture(scope="module")
def world(server_18: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("ci")
    with (
        database(server_18, "ci_store") as store,
        CiIssuer(TokenKey(RSAKey.generate_key(2048))).serving() as gitlab,
        CiIssuer(TokenKey(RSAKey.generate_key(2048))).serving() as github,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        asyncio.run(migrate(Secret(store)))
        dsn = asyncio.run(bootstrap.prepare_sample_target(Secret(server_18.dsn()), "ci_shop"))
        keys = bootstrap.make_keys(folder / "keys")
        write_toml(folder / "agent.toml", agent_settings(keys, dsn, target="shop"))
        agent_app = bootstrap.agent_app(load_settings(AgentSettings, folder / "agent.toml", {}))
        url = address(listener)
        example = (EXAMPLES / "control-plane.toml").read_text()
        for said, real in (
            ("https://gitlab.example.com", gitlab.url),
            ("https://token.actions.githubusercontent.com", github.url),
            ("https://gatekeeper.example.com", url),
        ):
            assert said in example
            example = example.replace(said, real)
        with serving(agent_app) as agent:
            write_toml(
                folder / "cp.toml",
                {
                    "name": CONTROL_PLANE, "store_dsn": store, "public_url": url,
                    "key_folder": str(folder / "keys"), "policy": str(EXAMPLES / "policy.yaml"),
                    "agents": {AGENT: {"url": agent, "public_key": keys.agent_public}},
                    "targets": [target_settings(server_18, name="shop", database="ci_shop")],
                    **tomllib.loads(example),
                },
            )  # fmt: skip
            settings = load_settings(ControlPlaneSettings, folder / "cp.toml", {})
            with serving(bootstrap.control_plane_app(settings, stop=lambda: None), listener):
                yield World(url, store, gitlab, github, folder)


def run(world: World, home: Path, command: str, **variables: str) -> str:
    """Run a line of an example, as a runner does."""
    done = subprocess.run(
        ["/bin/sh", "-e", "-c", command],
        cwd=EXAMPLES, capture_output=True, text=True, check=False, timeout=60,
        env=os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "GATEKEEPER_HOME": str(home), "GATEKEEPER_SERVER": world.url, **variables,
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_gitlab_example_reads_the_database_with_a_login_of_its_own(
    world: World, tmp_path: Path
) -> None:
    job = yaml.safe_load((EXAMPLES / "gitlab-ci.yml").read_text())["report"]
    assert list(job["id_tokens"]) == ["GATEKEEPER_ID_TOKEN"]
    install, *commands = job["script"]

    said = [
        run(
            world, tmp_path, command,
            GATEKEEPER_ID_TOKEN=world.token(), CI_PIPELINE_ID="7",
        )
        for command in commands
    ]  # fmt: skip

    assert install.startswith("pip install")
    assert "logged in as shop-report (reporting)" in said[0]
    assert "gk_" in said[1]
    assert " orders" in said[1]


def test_the_github_example_asks_the_runner_for_its_token(world: World, tmp_path: Path) -> None:
    workflow = yaml.safe_load((EXAMPLES / "github-workflow.yml").read_text())
    assert workflow["permissions"]["id-token"] == "write"
    steps = [step["run"] for step in workflow["jobs"]["report"]["steps"] if "run" in step]

    said = [
        run(
            world, tmp_path, command,
            ACTIONS_ID_TOKEN_REQUEST_URL=f"{world.github.url}/github?api-version=2.0",
            ACTIONS_ID_TOKEN_REQUEST_TOKEN=PERMIT, GITHUB_RUN_ID="8",
        )
        for command in steps if not command.startswith("pip")
    ]  # fmt: skip

    assert len(said) == 2
    assert " orders" in said[1]


def test_a_token_from_a_file_and_none_at_all(world: World, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(world.token() + "\n")

    said = run(world, tmp_path, f"gk login --token-file {file}")
    none = run(world, tmp_path, "gk login --workload || echo code $?")
    big = run(world, tmp_path, "gk login --token-file /dev/zero || echo code $?")

    assert "shop-report" in said
    assert "set GATEKEEPER_ID_TOKEN" in none
    assert "code 2" in none
    assert "code 2" in big


def test_what_is_given_is_short_and_verified_like_any_other(world: World) -> None:
    answer = world.post(world.token())

    given = answer.json()
    assert answer.headers["Cache-Control"] == "no-store"
    assert (given["token_type"], given["expires_in"]) == ("Bearer", 900)
    assert given["issued_token_type"] == ACCESS_TOKEN_TYPE
    who = world.whoami(given["access_token"]).json()
    assert (who["issuer"], who["subject"], who["kind"]) == (world.url, "shop-report", "workload")
    assert who["groups"] == ["reporting"]
    header, claims, signature = given["access_token"].split(".")
    published = httpx.get(f"{world.url}/.well-known/jwks.json").json()["keys"]
    assert [key["kid"] for key in published] == [json.loads(_unb64(header))["kid"]]
    assert "d" not in published[0]
    inside = json.loads(_unb64(claims))
    assert inside["exp"] - inside["iat"] == 900
    changed = _b64({**inside, "groups": ["operators"]})
    assert world.whoami(f"{header}.{changed}.{signature}").status_code == 401


def test_neither_kind_of_token_does_the_others_work(world: World) -> None:
    ours = world.post(world.token()).json()["access_token"]

    assert world.whoami(world.token()).status_code == 401
    again = world.post(ours)
    assert again.status_code == 400
    assert "issuer" in again.json()["detail"]


def _b64(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def forged(world: World, alg: str) -> str:
    """Sign nothing, or sign with the public key as if it were a secret (RFC 8725, 2.1)."""
    _header, claims, _signature = world.token().split(".")
    body = f"{_b64({'alg': alg, 'kid': world.gitlab.key.key_id})}.{claims}"
    if alg == "none":
        return f"{body}."
    secret = world.gitlab.key.private.as_pem(private=False)
    mac = base64.urlsafe_b64encode(hmac.digest(secret, body.encode(), "sha256")).decode()
    return f"{body}.{mac.rstrip('=')}"


Make = Callable[[World], str]

NOT_BELIEVED: list[tuple[Make, str]] = [
    (lambda w: w.token(iss="https://evil.example"), "issuer"),
    (lambda w: w.token(iss=w.github.url), "key"),
    (lambda w: w.github.token(w.url, **PROJECT, iss=w.gitlab.url), "key"),
    (lambda w: w.token(aud="https://other.example"), "audience"),
    (lambda w: w.token(aud=None), "audience"),
    (lambda w: w.token(exp=int(time.time()) - 61), "expired"),  # noqa: TID251  # a token's times
    (lambda w: w.token(exp=None), "expired"),
    (lambda w: w.token(exp=1e300), "expired"),
    (lambda w: w.token(exp=True), "expired"),
    (lambda w: w.token(iat=-1), "future"),
    (lambda w: w.token(sub=None), "subject"),
    (lambda w: w.token(sub="a\x00b"), "subject"),
    (lambda w: forged(w, "none"), "algorithm"),
    (lambda w: forged(w, "HS256"), "algorithm"),
    (lambda _: "x", "no JSON Web Token"),
]
NOT_ADMITTED: list[Make] = [
    lambda w: w.token(project_path="acme/other"),
    lambda w: w.token(project_path="acme/shop/evil"),
    lambda w: w.token(project_path=["acme/shop"]),
    lambda w: w.token(project_path=None),
    lambda w: w.token(ref_protected="false"),
    lambda w: w.token(ref_protected=True),
    lambda w: w.token(ref="main\n"),
    lambda w: w.token(ref="Main"),
]


@pytest.mark.parametrize(("make", "why"), NOT_BELIEVED)
def test_a_token_that_is_not_believed_gets_nothing(world: World, make: Make, why: str) -> None:
    answer = world.post(make(world))

    problem = answer.json()
    assert answer.status_code == 400
    assert (problem["error"], problem["code"]) == ("invalid_request", "AUTHENTICATION_ERROR")
    assert why in problem["detail"]
    assert problem["error_description"] == problem["detail"]
    assert problem["correlationId"] == answer.headers["X-Correlation-ID"]


@pytest.mark.parametrize("make", NOT_ADMITTED)
def test_a_genuine_token_that_no_rule_admits_gets_nothing(world: World, make: Make) -> None:
    answer = world.post(make(world))

    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_target"
    assert answer.json()["code"] == "POLICY_DENIED"


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": ""}, "unsupported_grant_type"),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"}, "invalid_request"),
        ({"subject_token": ""}, "invalid_request"),
        ({"actor_token": "x"}, "invalid_request"),
        ({"requested_token_type": "urn:x"}, "invalid_request"),
        ({"audience": "https://elsewhere.example"}, "invalid_target"),
        ({"scope": "admin"}, "invalid_scope"),
    ],
)
def test_a_request_that_asks_for_something_else_is_told_so(
    world: World, form: dict[str, str], error: str
) -> None:
    answer = world.post(world.token(), **form)

    assert (answer.status_code, answer.json()["error"]) == (400, error)


def test_what_is_too_large_is_not_looked_at(world: World) -> None:
    assert world.post("x" * 16_385).status_code == 422
    assert world.post("x" * 70_000).status_code == 413
    assert world.post(world.token(), audience="x" * 2_049).status_code == 422


def test_a_storm_of_unknown_keys_does_not_reach_the_issuer(world: World) -> None:
    assert world.post(world.token()).status_code == 200
    before = world.gitlab.asked_for_keys
    stranger = CiIssuer(TokenKey(RSAKey.generate_key(2048)))
    stranger.url = world.gitlab.url

    answers = {world.post(stranger.token(world.url, **PROJECT)).status_code for _ in range(40)}

    assert answers == {400}
    assert world.gitlab.asked_for_keys - before <= 1


def test_every_exchange_and_every_refusal_of_a_genuine_token_is_in_the_evidence(
    world: World,
) -> None:
    world.post(world.token(sub="witness", jti="jti-1"))
    world.post(world.token(sub="witness", ref="dev"))
    with Client(world.url, None, correlation_id="cor_x") as client:
        client.call(operations.exchange_token(Secret(world.token(sub="witness-2"))))
        with pytest.raises(ApiError) as caught:
            client.call(operations.exchange_token(Secret(world.token(ref="dev"))))

    assert caught.value.code is ErrorCode.POLICY_DENIED
    exchanged = {e["data"]["subject"]: e for e in events(world, "token.exchanged")}
    given, also = exchanged["witness"], exchanged["witness-2"]
    (refused,) = [
        e for e in events(world, "token.refused") if e["data"].get("subject") == "witness"
    ]
    assert given["actor"] == {"kind": "workload", "key": f"{world.url}#shop-report"}
    assert given["data"]["tokenId"] == "jti-1"
    assert given["data"]["ttlSeconds"] == 900
    assert also["correlationId"] == "cor_x"
    assert refused["actor"]["key"] == f"{world.gitlab.url}#witness"
    assert "no rule" in refused["data"]["because"]


def test_a_flood_of_tokens_that_are_not_believed_costs_the_store_little(world: World) -> None:
    before, began = len(unbelieved(world)), time.monotonic()
    form = {"grant_type": TOKEN_EXCHANGE, "subject_token": "x", "subject_token_type": JWT_TYPE}
    with httpx.Client() as client:
        answers = {client.post(f"{world.url}/auth/token", data=form).status_code for _ in range(99)}

    most = REFUSED_EVENTS_PER_MINUTE * (1 + (time.monotonic() - began) / 60) + 1
    assert answers == {400}
    assert len(unbelieved(world)) - before <= most


def test_one_job_cannot_ask_without_end(world: World) -> None:
    answers: list[httpx.Response] = []
    while len(answers) < 200 and (not answers or answers[-1].status_code == 200):
        answers.append(world.post(world.token(sub="eager")))

    refused = answers[-1]
    assert len(answers) > 30
    assert (refused.status_code, refused.json()["code"]) == (429, "RATE_LIMIT_EXCEEDED")
    assert int(refused.headers["Retry-After"]) >= 1
    assert world.post(world.token(sub="patient")).status_code == 200


def events(world: World, kind: str) -> list[dict[str, Any]]:
    """Read the chain, and what has no place in it yet."""
    with psycopg.connect(world.store) as store:
        rows = store.execute(
            "SELECT convert_from(canonical, 'UTF8')::jsonb FROM gatekeeper.audit_event"
            " UNION ALL SELECT event FROM gatekeeper.audit_outbox"
        ).fetchall()
    return [event for (event,) in rows if event["kind"] == kind]


def unbelieved(world: World) -> list[dict[str, Any]]:
    return [e for e in events(world, "token.refused") if e["actor"]["kind"] == "unknown"]
