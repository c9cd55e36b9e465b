"""How much one caller may do, over real sockets; and that strangers cost the store nothing."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from test_api import Api

from factories.installation import (
    AGENT,
    PUBLIC_URL,
    control_plane_settings,
    database,
    issuer_key,
    policy,
    serving,
    target_settings,
)
from gatekeeper import bootstrap
from gatekeeper.bootstrap.identity import CALLS_PER_REQUEST
from gatekeeper.bootstrap.settings import ControlPlaneSettings, load_settings
from gatekeeper.entrypoints.operate.toml import write_toml
from gatekeeper.kernel.secret import Secret
from gatekeeper.kernel.ttl import MAX_TTL_TEXT_CHARS
from gatekeeper.platform.crypto.keys import TokenKey
from gatekeeper.platform.http.app import MAX_BODY_BYTES
from gatekeeper.platform.http.rates import MAX_CALLERS, CallRates
from gatekeeper.platform.http.watch import MOST_STREAMS
from gatekeeper.platform.postgres.embedded import EmbeddedServer
from gatekeeper.platform.postgres.migrations import migrate
from gatekeeper.wire.sessions import MAX_IDEMPOTENCY_KEY_CHARS, MAX_REASON_CHARS, MAX_TTL_MINUTES

REQUESTS, SESSIONS = 6, 2
POLICY = policy(sessions=SESSIONS, requests=REQUESTS)
PUBLIC = {
    "/healthz", "/readyz", "/metrics", "/auth/config", "/auth/token", "/.well-known/jwks.json",
}  # fmt: skip
EXAMPLES = {"session_id": "ses_aaaaaaaaaaaaaaaaaaaa", "target": "pg", "seq": "1"}
ASK: dict[str, Any] = {"target": "pg", "role": "app_read", "credential": "generated"}


class Limited(Api):
    """The API for several callers, and a look at its connections to the store."""

    policy: Path

    def call(self, who: str, method: str, path: str, **options: Any) -> httpx.Response:
        token = self.token(who, "eng", "operators").reveal()
        headers = {"Authorization": f"Bearer {token}"} | options.pop("headers", {})
        return httpx.request(method, self.url + path, headers=headers, **options)

    def store_work(self) -> list[tuple[Any, ...]]:
        """When each connection of the API last did something."""
        with psycopg.connect(self.store_dsn) as store:
            return store.execute(
                "SELECT pid, state_change FROM pg_stat_activity WHERE application_name = 'gk-api'"
                " ORDER BY pid"
            ).fetchall()


@pytest.fixture(scope="module")
def api(server_18: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    folder = tmp_path_factory.mktemp("limits")
    with database(server_18, "limits_store") as store:
        asyncio.run(migrate(Secret(store)))
        keys = bootstrap.make_keys(folder / "keys")
        (folder / "policy.yaml").write_text(POLICY)
        write_toml(
            folder / "cp.toml",
            control_plane_settings(
                folder,
                store,
                # An agent that is away: what is asked for stays open.
                agents={AGENT: {"url": PUBLIC_URL, "public_key": keys.agent_public}},
                targets=[target_settings(server_18)],
            ),
        )
        settings = load_settings(ControlPlaneSettings, folder / "cp.toml", {})
        app = bootstrap.control_plane_app(settings, stop=lambda: None)
        with serving(app) as url:
            limited = Limited(url, issuer_key(folder), "", app, None, folder, store)
            limited.policy = folder / "policy.yaml"
            yield limited


def refusal_of(answers: list[httpx.Response]) -> httpx.Response:
    """Return the first answer that was one too many; it says when to come back."""
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["code"] == "RATE_LIMIT_EXCEEDED"
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    return refused


def routes(api: Api) -> list[tuple[str, str]]:
    paths = httpx.get(f"{api.url}/openapi.json").json()["paths"]
    return [
        (method.upper(), path.format_map(EXAMPLES))
        for path, methods in paths.items() if path not in PUBLIC
        for method in methods
    ]  # fmt: skip


def test_strangers_get_401_at_every_route_and_cost_the_store_nothing(api: Limited) -> None:
    assert api.call("someone", "GET", "/sessions").status_code == 200
    stranger = replace(api, key=TokenKey(api.key.private.generate_key(2048)))
    tokens = ["", "Bearer x", f"Bearer {stranger.token('eve', 'operators').reveal()}"]
    before = api.store_work()

    with httpx.Client(base_url=api.url) as client:
        answers = [
            client.request(method, path, headers={"Authorization": token}, content=b"{}")
            for method, path in routes(api)
            for token in tokens * 10
        ]

    assert len(answers) >= 400
    assert {answer.status_code for answer in answers} == {401}
    assert before
    assert api.store_work() == before


def test_a_caller_who_calls_without_end_is_told_when_to_come_back(api: Limited) -> None:
    most = REQUESTS * CALLS_PER_REQUEST
    answers: list[httpx.Response] = []
    with httpx.Client(base_url=api.url) as client:
        headers = {"Authorization": f"Bearer {api.token('busy').reveal()}"}
        while len(answers) <= 2 * most and (not answers or answers[-1].status_code == 200):
            answers.append(client.get("/whoami", headers=headers))

    refusal_of(answers)
    assert len(answers) > most
    assert api.call("calm", "GET", "/whoami").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "options"),
    [
        ("GET", "/audit/export", {}),
        ("POST", "/targets/none/doctor", {}),
        ("POST", "/reconcile", {"json": {"target": "none"}}),
    ],
)
def test_what_costs_much_is_limited_like_sessions(
    api: Limited, method: str, path: str, options: dict[str, Any]
) -> None:
    answers = [api.call(f"costly {path}", method, path, **options) for _ in range(3 * REQUESTS)]

    refusal_of(answers)
    assert 429 not in {answer.status_code for answer in answers[:REQUESTS]}


def test_asking_and_extending_are_one_limit_and_revoking_is_not(api: Limited) -> None:
    session = "/sessions/ses_aaaaaaaaaaaaaaaaaaaa"
    asked = [
        api.call("dana", "POST", "/sessions", json=ASK | {"role": "app_admin"})
        for _ in range(REQUESTS // 2)
    ]
    extended = [
        api.call("dana", "POST", f"{session}/extend", json={"ttl": "5m"})
        for _ in range(2 * REQUESTS)
    ]

    assert {answer.status_code for answer in asked} == {403}
    refusal_of(extended)
    assert api.call("dana", "POST", f"{session}/revoke").status_code == 404


def test_one_caller_holds_so_many_streams_and_others_have_theirs(api: Limited) -> None:
    def opened(who: str) -> httpx.Response:
        token = api.token(who, "eng").reveal()
        headers = {"Authorization": f"Bearer {token}"}
        request = client.build_request("GET", f"{api.url}/sessions/events", headers=headers)
        answer = client.send(request, stream=True)
        if answer.is_success:
            lines.append(answer.iter_text())  # kept: at its end the stream would be closed
            next(lines[-1])
        return answer

    lines: list[Iterator[str]] = []

    with httpx.Client(trust_env=False, timeout=30) as client:
        held = [opened("mallory") for _ in range(MOST_STREAMS)]
        assert {answer.status_code for answer in held} == {200}

        assert opened("mallory").status_code == 429
        assert opened("dana").status_code == 200
        held.pop().close()
        deadline = time.monotonic() + 60
        while (again := opened("mallory")).status_code == 429:
            assert time.monotonic() < deadline
            time.sleep(0.5)  # its end is noticed by the server
        assert again.status_code == 200
        for answer in (again, *held):
            answer.close()


def test_the_policy_decides_the_time_and_how_many_are_open(api: Limited) -> None:
    """Whatever a client sends: the CLI has no say in it."""
    long = api.call("tess", "POST", "/sessions", json=ASK | {"ttl": "2h"})
    none = api.call("tess", "POST", "/sessions", json=ASK)
    short = api.call("tess", "POST", "/sessions", json=ASK | {"ttl": "5m"})
    third = api.call("tess", "POST", "/sessions", json=ASK | {"ttl": "5m"})

    assert (long.status_code, long.json()["hint"]) == (403, "ask for 1h or less")
    assert none.json()["ttlSeconds"] == 3600
    assert short.json()["ttlSeconds"] == 300
    assert third.status_code == 429
    assert third.json()["code"] == "SESSION_LIMIT_EXCEEDED"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"reason": "x" * MAX_REASON_CHARS, "role": "none"}, 422),
        ({"reason": "x" * (MAX_REASON_CHARS + 1)}, 422),
        ({"ttl": "9" * MAX_TTL_TEXT_CHARS + "s"}, 422),
        ({"ttl": "366d"}, 422),
        ({"ttlMinutes": MAX_TTL_MINUTES + 1}, 422),
        ({"ttlMinutes": 0}, 422),
        ({"reason": "x" * MAX_BODY_BYTES}, 413),
    ],
)
def test_every_limit_of_a_request_is_held(
    api: Limited, fields: dict[str, Any], status: int
) -> None:
    answer = api.call(f"limits {len(str(fields))}", "POST", "/sessions", json=ASK | fields)

    assert answer.status_code == status
    too_long = answer.status_code == 422 and "role" not in fields
    assert ("not valid" in answer.text or "ttl" in answer.text) == too_long


def test_an_idempotency_key_has_its_length(api: Limited) -> None:
    headers = {"Idempotency-Key": "k" * (MAX_IDEMPOTENCY_KEY_CHARS + 1)}

    assert api.call("key", "POST", "/sessions", json=ASK, headers=headers).status_code == 422


def test_a_reload_is_seen_in_the_metrics_and_in_the_evidence(api: Limited) -> None:
    def seen() -> tuple[float, float, int]:
        samples = {
            sample.name: sample.value
            for family in text_string_to_metric_families(httpx.get(f"{api.url}/metrics").text)
            for sample in family.samples
        }
        with psycopg.connect(api.store_dsn) as store:
            row = store.execute(
                "SELECT count(*) FROM (SELECT kind FROM gatekeeper.audit_event"
                " UNION ALL SELECT event ->> 'kind' FROM gatekeeper.audit_outbox) AS e"
                " WHERE kind LIKE 'policy.%'"
            ).fetchone()
        assert row is not None
        return (
            samples["gatekeeper_policy_generation"],
            samples["gatekeeper_policy_reload_failed_total"],
            row[0],
        )

    def until(expected: tuple[float, float, int]) -> None:
        deadline = time.monotonic() + 60
        while seen() != expected:
            assert time.monotonic() < deadline, seen()
            time.sleep(0.05)

    assert seen() == (1, 0, 0)
    api.policy.write_text(f"{POLICY}# changed\n")
    until((2, 0, 1))
    api.policy.write_text("grants: [")
    until((2, 1, 2))
    api.policy.write_text(POLICY)
    until((3, 1, 3))


class Watch:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_bucket_fills_again_and_no_more_callers_are_remembered_than_said() -> None:
    watch = Watch()
    rates = CallRates(watch)

    assert [rates.take("a", 2) for _ in range(3)] == [0.0, 0.0, 30.0]
    assert rates.take("b", 2) == 0.0
    watch.seconds = 29.0
    assert rates.take("a", 2) == pytest.approx(1.0)
    watch.seconds = 31.0
    assert rates.take("a", 2) == 0.0
    for number in range(2 * MAX_CALLERS):
        rates.take(str(number), 2)
    assert len(rates._buckets) == MAX_CALLERS


def test_a_policy_that_is_changed_changes_the_limit_of_those_who_are_known() -> None:
    rates = CallRates(Watch())

    assert [bool(rates.take("a", 10)) for _ in range(5)] == [False] * 5
    assert [bool(rates.take("a", 2)) for _ in range(3)] == [False, False, True]


def test_the_settings_stand_where_they_are_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "policy.md").read_text()

    assert f"| {CALLS_PER_REQUEST} times that |" in text
