"""The API over real sockets: a control plane and an agent in threads, a real store and target."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from joserfc.jwk import RSAKey

from factories.installation import (
    AGENT,
    CONTROL_PLANE,
    ISSUER,
    PUBLIC_URL,
    agent_settings,
    control_plane_settings,
    database,
    issuer_key,
    policy,
    request,
    serving,
    target_settings,
    terminal_settings,
    token,
)
from fakes.ci_issuer import PROJECT, CiIssuer
from fakes.runner_app import FakeRunner
from gatekeeper import bootstrap
from gatekeeper.bootstrap.settings import AgentSettings, ControlPlaneSettings, load_settings
from gatekeeper.client import operations
from gatekeeper.client.api import ApiError, AsyncClient, Client, Operation, ServerUnreachableError
from gatekeeper.entrypoints.operate.toml import write_toml
from gatekeeper.kernel.errors import ErrorCode, InputError
from gatekeeper.kernel.secret import Secret
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.platform.crypto.keys import TokenKey
from gatekeeper.platform.postgres.embedded import EmbeddedServer
from gatekeeper.wire import sessions as wire
from gatekeeper.wire import terminals

POLICY = policy()


@dataclass
class Api:
    url: str
    key: TokenKey
    agent_url: str
    app: Any
    agent_app: Any
    folder: Path
    store_dsn: str
    ci: CiIssuer | None = None
    runner: FakeRunner | None = None

    @property
    def settings_file(self) -> Path:
        return self.folder / "cp.toml"

    def token(self, name: str, *groups: str) -> Secret:
        return token(self.key, name, *groups)

    def client(self, name: str = "dana", *groups: str) -> Client:
        return Client(self.url, self.token(name, *(groups or ("eng",))), correlation_id="cor_test")

    def raw(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token('dana', 'eng').reveal()}"}
        headers |= options.pop("headers", {})
        return httpx.request(method, self.url + path, headers=headers, **options)


@pytest.fixture(scope="module")
def api(server_18: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("api")
    with database(server_18, "api_store") as owner:
        store = asyncio.run(bootstrap.prepare_store(Secret(owner)))
        agent_dsn = asyncio.run(bootstrap.prepare_sample_target(Secret(server_18.dsn()), "shop"))
        keys = bootstrap.make_keys(folder / "keys")
        (folder / "policy.yaml").write_text(POLICY)
        write_toml(folder / "agent.toml", agent_settings(keys, agent_dsn))
        agent_app = bootstrap.agent_app(load_settings(AgentSettings, folder / "agent.toml", {}))
        runner = FakeRunner(folder, plane=CONTROL_PLANE, plane_key=keys.control_plane_public)
        with (
            serving(agent_app) as agent,
            serving(runner.app) as runner_url,
            CiIssuer(TokenKey(RSAKey.generate_key(2048))).serving() as ci,
        ):
            workloads = {
                "issuer": ci.url, "audience": PUBLIC_URL, "algorithms": ["RS256"],
                "rules": [{"name": "report", "groups": ["ci"], "claims": PROJECT}],
            }  # fmt: skip
            write_toml(
                folder / "cp.toml",
                control_plane_settings(
                    folder,
                    store.reveal(),
                    workload_issuers=[workloads],
                    terminals=terminal_settings(folder, runner_url, runner.public_key),
                    agents={AGENT: {"url": agent, "public_key": keys.agent_public}},
                    targets=[
                        target_settings(server_18),
                        target_settings(server_18, name="lost", agent="nobody"),
                    ],
                ),
            )
            settings = load_settings(ControlPlaneSettings, folder / "cp.toml", {})
            app = bootstrap.control_plane_app(settings, stop=lambda: None)
            with serving(app) as url:
                yield Api(url, issuer_key(folder), agent, app, agent_app, folder, owner, ci, runner)


body = request


def test_a_session_from_request_to_proof(api: Api) -> None:
    with api.client() as client:
        made = client.call(operations.create_session(body(), idempotency_key="one", wait=10))
        again = client.call(operations.create_session(body(), idempotency_key="one", wait=10))
        seen = client.call(operations.get_session(made.session_id))
        longer = client.call(
            operations.extend_session(made.session_id, wire.ExtendSession(ttl="30m"))
        )
        gone = client.call(operations.revoke_session(made.session_id, wait=10))

    assert made.status is SessionStatus.READY
    assert again.session_id == made.session_id == seen.session_id
    assert longer.expires_at is not None
    assert made.expires_at is not None
    assert longer.expires_at > made.expires_at
    assert gone.status is SessionStatus.CLEANED
    assert made.dsn is None


def test_a_generated_password_works(api: Api) -> None:
    with api.client() as client:
        made = client.call(
            operations.create_session(body(credential="generated"), idempotency_key="gen", wait=10)
        )
        assert made.dsn is not None
        with psycopg.connect(made.dsn) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        client.call(operations.revoke_session(made.session_id, wait=10))


async def test_the_async_client_does_the_same(api: Api) -> None:
    async with AsyncClient(api.url, api.token("emil", "eng"), correlation_id="cor_a") as client:
        made = await asyncio.gather(
            *(
                client.call(operations.create_session(body(), idempotency_key=str(n), wait=10))
                for n in range(8)
            )
        )
        assert {m.status for m in made} == {SessionStatus.READY}
        page = await client.call(operations.list_sessions(limit=5, statuses=["ready"]))
        rest = await client.call(
            operations.list_sessions(limit=5, statuses=["ready"], cursor=page.next)
        )
        async with client.stream(operations.session_events("0-0")) as lines:
            first = await _first_data(lines)
        ended = await asyncio.gather(
            *(client.call(operations.revoke_session(m.session_id, wait=10)) for m in made)
        )
        either = await client.call(operations.list_sessions(statuses=["pending", "cleaned"]))
        live = await client.call(operations.list_sessions(statuses=["pending", "ready"]))

    made_ids = {m.session_id for m in made}
    assert made_ids <= {s.session_id for s in either.items}
    assert not made_ids & {s.session_id for s in live.items}
    ids = [s.session_id for s in (*page.items, *rest.items)]
    assert sorted(ids) == sorted(m.session_id for m in made)
    assert rest.next is None
    assert json.loads(first)["status"] == "pending"
    assert {e.status for e in ended} == {SessionStatus.CLEANED}


async def _first_data(lines: AsyncIterator[str]) -> str:
    async for line in lines:
        if line.startswith("data: "):
            return line.removeprefix("data: ")
    raise AssertionError


def test_what_one_may_have_and_why_not(api: Api) -> None:
    with api.client() as client:
        targets = client.call(operations.list_targets()).items
        roles = client.call(operations.list_roles()).items
        explained = client.call(
            operations.explain_policy(wire.ExplainRequest(target="pg", role="app_admin"))
        )
        allowed = client.call(
            operations.explain_policy(wire.ExplainRequest(target="pg", role="app_read", ttl="5m"))
        )
        who = client.call(operations.who_am_i())
        issuers = client.call(operations.auth_config()).issuers

    assert {t.target for t in targets} == {"pg", "lost"}
    assert {(r.role, r.allowed) for r in roles if r.target == "pg"} == {
        ("app_read", True), ("app_write", False), ("app_admin", False),
    }  # fmt: skip
    assert not explained.allowed
    assert allowed.allowed
    assert (who.subject, who.groups) == ("dana", ("eng",))
    assert [i.issuer for i in issuers] == [ISSUER]


def test_operators_check_reconcile_and_read_the_evidence(api: Api) -> None:
    with api.client("olga", "operators") as client:
        report = client.call(operations.target_doctor("pg"))
        drifts = client.call(operations.reconcile(wire.ReconcileRequest(target="pg")))
        deadline = time.monotonic() + 60
        while not (points := client.call(operations.audit_checkpoints()).items):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        events = client.call(operations.audit_events(limit=1))
        proof = client.call(operations.audit_proof(1))
        with client.stream(operations.audit_export()) as lines:
            exported = list(lines)

    assert len(report.checks) > 20
    assert {d.kind for d in drifts.items} <= {"leaked"}
    assert points[0].size >= 1
    assert events.next == 1
    assert proof.event.seq == 1
    assert json.loads(exported[0])["type"] == "header"
    with api.client() as client:
        refused: list[Operation[Any]] = [
            operations.target_doctor("pg"),
            operations.audit_checkpoints(),
            operations.reconcile(wire.ReconcileRequest()),
        ]
        for operation in refused:
            with pytest.raises(ApiError) as caught:
                client.call(operation)
            assert caught.value.code is ErrorCode.POLICY_DENIED


def test_a_target_whose_agent_is_not_configured_fails_its_sessions_with_words(api: Api) -> None:
    with api.client() as client:
        made = client.call(
            operations.create_session(body(target="lost"), idempotency_key="lost", wait=10)
        )

    assert made.status is SessionStatus.FAILED
    assert made.error is not None
    assert "'nobody'" in made.error.message


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("POST", "/sessions", {"content": b"{"}, 422),
        ("POST", "/sessions", {"content": b"\xff\xfe"}, 422),
        ("POST", "/sessions", {"json": []}, 422),
        ("POST", "/sessions", {"json": {}}, 422),
        (
            "POST",
            "/sessions",
            {"json": {"target": "pg", "role": "app_read", "credential": "generated", "x": 1}},
            422,
        ),
        (
            "POST",
            "/sessions",
            {
                "json": {
                    "target": "pg",
                    "role": "app_read",
                    "credential": "generated",
                    "ttl": "soon",
                }
            },
            422,
        ),
        (
            "POST",
            "/sessions",
            {
                "json": {
                    "target": "pg",
                    "role": "app_read",
                    "credential": "generated",
                    "ttl": "5m",
                    "ttlMinutes": 5,
                }
            },
            422,
        ),
        (
            "POST",
            "/sessions",
            {
                "json": {
                    "target": "pg",
                    "role": "app_read",
                    "credential": "generated",
                    "reason": "x" * 257,
                }
            },
            422,
        ),
        (
            "POST",
            "/sessions",
            {"json": {"target": "p\x00g", "role": "app_read", "credential": "generated"}},
            422,
        ),
        (
            "POST",
            "/sessions",
            {
                "json": {
                    "target": "pg",
                    "role": "app_read",
                    "credential": "generated",
                    "reason": "a\x00b",
                }
            },
            422,
        ),
        ("POST", "/sessions", {"content": b"x" * 70_000}, 413),
        ("POST", "/sessions?wait=31", {"json": {}}, 422),
        ("POST", "/sessions", {"json": {}, "headers": {"Idempotency-Key": "x" * 129}}, 422),
        ("GET", "/sessions?limit=0", {}, 422),
        ("GET", "/sessions?limit=201", {}, 422),
        ("GET", "/sessions?cursor=nonsense", {}, 422),
        ("GET", "/sessions?cursor=WzEsMl0=", {}, 422),
        ("GET", "/sessions?status=nonsense", {}, 422),
        ("GET", "/sessions?target=a%00b", {}, 422),
        ("GET", "/sessions/events", {"headers": {"Last-Event-ID": "x"}}, 422),
        ("GET", "/sessions/events", {"headers": {"Last-Event-ID": f"{2**64}-0"}}, 422),
        ("GET", "/sessions/events", {"headers": {"Last-Event-ID": f"1-{2**63}"}}, 422),
        ("GET", "/sessions/nonsense", {}, 422),
        ("GET", "/sessions/ses_aaaaaaaaaaaaaaaaaaaa", {}, 404),
        ("DELETE", "/sessions", {}, 405),
        ("POST", "/reconcile", {"json": {"plan": 0}}, 422),
        ("GET", "/nothing", {}, 404),
        ("GET", "/audit/proof/0", {}, 422),
        ("GET", "/audit/events?session=a%00b", {}, 422),
        ("POST", "/targets/a%00b/doctor", {}, 422),
        ("GET", "/sessions?cursor=WyIyMDI2LTAxLTAxVDAwOjAwOjAwKzAwOjAwIiwgIlx1MDAwMCJd", {}, 422),
        ("GET", "/sessions", {"headers": {"Authorization": "Bearer x"}}, 401),
        ("GET", "/sessions", {"headers": {"Authorization": "Basic x"}}, 401),
        ("GET", "/sessions", {"headers": {"Authorization": ""}}, 401),
    ],
)
def test_bad_input_is_a_problem_with_a_code_and_an_id(
    api: Api, method: str, path: str, options: dict[str, Any], status: int
) -> None:
    answer = api.raw(method, path, **options)

    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["code"] in set(ErrorCode)
    assert problem["correlationId"] == answer.headers["X-Correlation-ID"]
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


def test_a_wrong_method_is_told_which_are_right(api: Api) -> None:
    assert api.raw("DELETE", "/sessions").headers["Allow"] == "GET, POST"


def test_a_callers_correlation_id_is_kept_and_a_strange_one_replaced(api: Api) -> None:
    kept = api.raw("GET", "/healthz", headers={"X-Correlation-ID": "mine-1"})
    replaced = api.raw("GET", "/healthz", headers={"X-Correlation-ID": "a b"})

    assert kept.headers["X-Correlation-ID"] == "mine-1"
    assert replaced.headers["X-Correlation-ID"].startswith("cor_")


def test_the_agent_takes_nothing_that_is_not_signed_for_it(api: Api) -> None:
    assert httpx.get(f"{api.agent_url}/healthz").json() == {"status": "ok"}
    for content in (b"", b"x", "é".encode(), b"x" * 66_000, b"a.b.c"):
        answer = httpx.post(f"{api.agent_url}/jobs", content=content)
        assert answer.status_code in (413, 502)
        assert answer.json()["code"] in ("AGENT_REJECTED", "PAYLOAD_TOO_LARGE")


def test_every_operation_of_the_api_has_one_of_the_client(api: Api) -> None:
    paths = httpx.get(f"{api.url}/openapi.json").json()["paths"]
    served = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    example, example_terminal = "ses_aaaaaaaaaaaaaaaaaaaa", "trm_aaaaaaaaaaaaaaaaaaaa"
    made: list[Operation[Any]] = [
        operations.create_session(body(), idempotency_key="k"), operations.get_session(example),
        operations.list_sessions(), operations.revoke_session(example),
        operations.extend_session(example, wire.ExtendSession(ttl="1m")),
        operations.session_events(), operations.list_targets(), operations.list_roles(),
        operations.explain_policy(wire.ExplainRequest(target="t", role="r")),
        operations.target_doctor("pg"), operations.reconcile(wire.ReconcileRequest()),
        operations.audit_events(), operations.audit_checkpoints(), operations.audit_proof(1),
        operations.audit_export(), operations.auth_config(), operations.who_am_i(),
        operations.exchange_token(Secret("t")), operations.token_keys(),
        operations.health(), operations.readiness(), operations.metrics(),
        operations.create_terminal(terminals.CreateTerminal(), idempotency_key="k"),
        operations.list_terminals(), operations.terminal_events(), operations.list_profiles(),
        operations.get_terminal(example_terminal), operations.stop_terminal(example_terminal),
        operations.attach_terminal(example_terminal, terminals.AttachRequest()),
        operations.share_terminal(example_terminal, terminals.ShareTerminal()),
        operations.open_share(terminals.OpenShare(secret="a" * 43)),
        operations.send_input(example_terminal, terminals.SendInput(data="x")),
        operations.terminal_screen(example_terminal),
        operations.wait_for_text(example_terminal, terminals.WaitForText(text="x")),
        operations.terminal_recording(example_terminal),
    ]  # fmt: skip
    offered = {
        (o.method, o.path.replace(example, "{session_id}").replace(example_terminal, "{terminal_id}").replace("/pg/", "/{target}/").replace("/proof/1", "/proof/{seq}"))
        for o in made
    }  # fmt: skip

    assert offered == served


def test_health_is_said_and_nothing_answers_at_a_wrong_address(api: Api) -> None:
    with api.client() as client:
        assert client.call(operations.health()).status == "ok"
        assert client.call(operations.readiness()).checks == {"store": "ok"}
        assert "gatekeeper_jobs" in client.call(operations.metrics())
    with (
        Client("http://127.0.0.1:9", None, correlation_id="c") as nowhere,
        pytest.raises(ServerUnreachableError),
    ):
        nowhere.call(operations.health())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "store_dsn: Field required"),
        ("store_dsn = ", "not TOML"),
        ("nope = 1", "nope: Extra inputs"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_with_every_problem(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=words.split(":", maxsplit=1)[0]) as caught:
        load_settings(ControlPlaneSettings, path, {"GATEKEEPER_NAME": "x"})
    assert words in caught.value.detail
    with pytest.raises(InputError, match="No such file"):
        load_settings(ControlPlaneSettings, tmp_path / "none", {})
