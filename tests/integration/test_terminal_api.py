"""Terminals over the API: real sockets, a real store, and a runner that runs nothing."""

import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from test_api import Api, api

from fakes.runner_app import FakeRunner
from gatekeeper.client import operations
from gatekeeper.client.api import ApiError, Client
from gatekeeper.kernel.errors import ErrorCode, GatekeeperError
from gatekeeper.wire import runner as runner_wire
from gatekeeper.wire import terminals as wire

__all__ = ["api"]

UNKNOWN = "/terminals/trm_" + "a" * 20


@pytest.fixture
def dana(api: Api) -> Iterator[Client]:
    with api.client() as client:
        yield client


@pytest.fixture
def runner(api: Api) -> FakeRunner:
    assert api.runner is not None
    return api.runner


def create(client: Client, *, wait: int = 20, **changes: Any) -> wire.TerminalView:
    body = wire.CreateTerminal.model_validate({"ttl": "5m", "reason": "why", **changes})
    return client.call(
        operations.create_terminal(body, idempotency_key=secrets.token_hex(8), wait=wait)
    )


def test_a_terminal_from_request_to_proof(api: Api, dana: Client, runner: FakeRunner) -> None:
    made = create(dana, command=("/bin/sh",), columns=100, rows=30)
    dana.call(operations.send_input(made.terminal_id, wire.SendInput(data="canary\n")))
    waited = dana.call(operations.wait_for_text(made.terminal_id, wire.WaitForText(text="can")))
    screen = dana.call(operations.terminal_screen(made.terminal_id))
    ticket = dana.call(operations.attach_terminal(made.terminal_id, wire.AttachRequest()))
    runner.tell(
        api.url, made.terminal_id, runner_wire.StageEvent(stage="first_byte", seconds_ago=0)
    )
    seen = dana.call(operations.get_terminal(made.terminal_id))
    listed = dana.call(operations.list_terminals(limit=1))
    gone = dana.call(operations.stop_terminal(made.terminal_id, wait=20))
    again = dana.call(operations.stop_terminal(made.terminal_id))

    assert (made.status, made.sandbox, made.command) == ("ready", "none", ("/bin/sh",))
    assert waited.found
    assert (screen.lines, screen.columns, screen.rows) == (("canary",), 100, 30)
    assert ticket.url == f"ws://127.0.0.1:2/attach/{made.terminal_id}"
    assert [s.stage for s in seen.stages] == ["queued", "scheduled", "started", "first_byte"]
    assert listed.items[0].terminal_id == made.terminal_id
    assert (gone.status, gone.ending) == ("cleaned", "revoked")
    assert again == gone
    assert runner.launcher.live == {}


def test_a_ticket_is_verified_with_what_is_published_and_bound_to_the_page(
    api: Api, dana: Client
) -> None:
    made = create(dana)
    headers = {"Origin": "https://page"}
    answer = api.raw(
        "POST", f"/terminals/{made.terminal_id}/attach", json={"mode": "read"}, headers=headers
    )
    keys = dana.call(operations.token_keys())
    token = jwt.decode(
        answer.json()["ticket"], KeySet.import_key_set({"keys": list(keys.keys)}),
        algorithms=["RS256"],
    )  # fmt: skip

    assert answer.headers["Cache-Control"] == "no-store"
    assert token.claims["origin"] == "https://page"
    assert len(keys.keys) == 2, "the keys of access tokens stand beside those of tickets"


def test_a_link_lets_others_watch(api: Api, dana: Client) -> None:
    made = create(dana)
    share = dana.call(operations.share_terminal(made.terminal_id, wire.ShareTerminal(minutes=5)))
    address, _, secret = share.url.partition("#")
    with api.client("emil") as emil:
        opened = emil.call(operations.open_share(wire.OpenShare(secret=secret)))
        with pytest.raises(ApiError) as caught:
            emil.call(operations.get_terminal(made.terminal_id))

    assert address.endswith("/console/shared")
    assert (opened.terminal_id, opened.ticket.mode) == (made.terminal_id, "read")
    assert caught.value.code is ErrorCode.NOT_FOUND


def test_operators_see_and_end_the_terminals_of_others(api: Api, dana: Client) -> None:
    made = create(dana)
    with api.client("olga", "operators") as olga:
        found = olga.call(operations.list_terminals(statuses=["ready"]))
        own = olga.call(operations.list_terminals(mine=True))
        with pytest.raises(ApiError) as caught:
            olga.call(operations.attach_terminal(made.terminal_id, wire.AttachRequest()))
        gone = olga.call(operations.stop_terminal(made.terminal_id, wait=20))
        either = olga.call(operations.list_terminals(statuses=["pending", "cleaned"]))
        live = olga.call(operations.list_terminals(statuses=["pending", "ready"]))

    assert made.terminal_id in {item.terminal_id for item in either.items}
    assert made.terminal_id not in {item.terminal_id for item in live.items}
    assert made.terminal_id in {item.terminal_id for item in found.items}
    assert own.items == ()
    assert caught.value.code is ErrorCode.POLICY_DENIED
    assert gone.status == "cleaned"


def test_the_last_screen_is_in_the_view_of_whose_it_is_only(api: Api, dana: Client) -> None:
    """Others ask for it as such, which is evidence."""
    made = create(dana)
    dana.call(operations.stop_terminal(made.terminal_id, wait=20))
    with api.client("olga", "operators") as olga:
        shown = olga.call(operations.get_terminal(made.terminal_id))
        listed = olga.call(operations.list_terminals(statuses=["cleaned"])).items
        screen = olga.call(operations.terminal_screen(made.terminal_id))

    assert dana.call(operations.get_terminal(made.terminal_id)).last_screen is not None
    assert shown.last_screen is None
    assert {item.last_screen for item in listed} == {None}
    assert screen.lines


def test_a_recording_is_downloaded(api: Api, dana: Client) -> None:
    made = create(dana)
    folder = api.folder / "recordings" / made.terminal_id
    folder.mkdir(parents=True)
    (folder / "000001.cast").write_text('{"version":3}\n')
    answer = api.raw("GET", f"/terminals/{made.terminal_id}/recording")

    assert answer.headers["Content-Type"] == "application/x-asciicast"
    assert answer.text == '{"version":3}\n'
    with pytest.raises(ApiError) as caught:
        dana.call(operations.terminal_recording(create(dana).terminal_id))
    assert caught.value.code is ErrorCode.NOT_FOUND


def test_what_may_be_run_and_why_not(dana: Client, api: Api, runner: FakeRunner) -> None:
    runner.report(api.url)
    found = dana.call(operations.list_profiles())

    assert [(p.profile, p.allowed, p.max_ttl) for p in found.items] == [
        ("shell", True, "1h"), ("closed", False, None),
    ]  # fmt: skip
    assert found.items[1].reasons
    assert found.sandbox == "none"


def test_changes_are_streamed_and_resumed(dana: Client) -> None:
    made = create(dana)
    with dana.stream(operations.terminal_events("0-0")) as lines:
        told = []
        for line in lines:
            if line.startswith("data: ") and made.terminal_id in line:
                told.append(json.loads(line.removeprefix("data: "))["status"])
                if len(told) == 2:
                    break

    assert told == ["pending", "ready"]


def test_one_that_could_not_be_started_says_why(dana: Client, runner: FakeRunner) -> None:
    runner.launcher.fail_next = [GatekeeperError(ErrorCode.BUNDLE_REFUSED, "not allowed here")]
    made = create(dana, bundle={"url": "https://h/a.zip", "sha256": "0" * 64})

    assert made.status in {"failed", "cleaned"}
    assert made.error is not None
    assert (made.error.code, made.error.message) == ("BUNDLE_REFUSED", "not allowed here")
    assert made.ending == "launch_failed"


def test_a_database_login_comes_with_a_terminal_and_goes_with_it(
    dana: Client, runner: FakeRunner
) -> None:
    made = create(dana, database={"target": "pg", "role": "app_read"})
    assert made.database is not None
    assert made.database.session_id is not None
    login = next(
        found.login
        for found in runner.launcher.live.values()
        if found.launch.terminal.id == made.terminal_id
    )
    session = dana.call(operations.get_session(made.database.session_id))
    dana.call(operations.stop_terminal(made.terminal_id, wait=20))
    deadline = time.monotonic() + 20
    while dana.call(operations.get_session(made.database.session_id)).status != "cleaned":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(ApiError) as caught:
        create(dana, database={"target": "pg", "role": "app_admin"})

    assert login is not None
    assert (login.username, session.status) == (session.username, "ready")
    assert caught.value.code is ErrorCode.POLICY_DENIED


@pytest.mark.parametrize(
    ("method", "path", "options", "refusal"),
    [
        ("POST", "/terminals", {"json": {"profile": "none"}}, (404, "NOT_FOUND")),
        ("POST", "/terminals", {"json": {"profile": "closed"}}, (403, "POLICY_DENIED")),
        ("POST", "/terminals", {"json": {"command": []}}, (422, "VALIDATION_ERROR")),
        ("POST", "/terminals", {"json": {"command": ["a\0b"]}}, (422, "VALIDATION_ERROR")),
        ("POST", "/terminals", {"json": {"prompt": "\0"}}, (422, "VALIDATION_ERROR")),
        (
            "POST",
            "/terminals",
            {"json": {"command": ["a"], "shell": "b"}},
            (422, "VALIDATION_ERROR"),
        ),
        ("POST", "/terminals", {"json": {"ttl": "5h"}}, (422, "VALIDATION_ERROR")),
        ("POST", "/terminals", {"json": {"rows": 501}}, (422, "VALIDATION_ERROR")),
        ("POST", "/terminals", {"json": {"x": 1}}, (422, "VALIDATION_ERROR")),
        ("POST", "/terminals", {"content": b"x" * 70_000}, (413, "PAYLOAD_TOO_LARGE")),
        ("GET", UNKNOWN, {}, (404, "NOT_FOUND")),
        ("DELETE", UNKNOWN, {}, (404, "NOT_FOUND")),
        ("POST", UNKNOWN + "/attach", {"json": {}}, (404, "NOT_FOUND")),
        ("POST", UNKNOWN + "/attach", {"json": {"mode": "own"}}, (422, "VALIDATION_ERROR")),
        ("POST", UNKNOWN + "/input", {"json": {"data": "x"}}, (404, "NOT_FOUND")),
        ("GET", UNKNOWN + "/recording", {}, (404, "NOT_FOUND")),
        ("POST", "/shares/open", {"json": {"secret": "x" * 43}}, (404, "NOT_FOUND")),
        ("GET", "/terminals/nonsense", {}, (422, "VALIDATION_ERROR")),
        ("GET", "/terminals?cursor=nonsense", {}, (422, "VALIDATION_ERROR")),
        (
            "GET",
            "/terminals/events",
            {"headers": {"Last-Event-ID": "x"}},
            (422, "VALIDATION_ERROR"),
        ),
        ("PUT", UNKNOWN, {}, (405, "METHOD_NOT_ALLOWED")),
        ("POST", "/runners/report", {"content": b"nonsense"}, (401, "AUTHENTICATION_ERROR")),
    ],
)
def test_refusals_are_problems(
    api: Api, method: str, path: str, options: dict[str, Any], refusal: tuple[int, str]
) -> None:
    answer = api.raw(method, path, **options)

    assert (answer.status_code, answer.json()["code"]) == refusal
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_full_queue_says_when_to_come_back(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatekeeper.terminals.service.terminals.MAX_QUEUED", 0)
    answer = api.raw("POST", "/terminals", json={})

    assert (answer.status_code, answer.json()["code"]) == (503, "QUEUE_FULL")
    assert answer.headers["Retry-After"] == "10"
    assert answer.json()["retryable"]


def test_a_runner_that_is_away_is_told(api: Api, dana: Client, runner: FakeRunner) -> None:
    made = create(dana)
    runner.launcher.reachable = False
    try:
        answer = api.raw("GET", f"/terminals/{made.terminal_id}/screen")
    finally:
        runner.launcher.reachable = True

    assert (answer.status_code, answer.json()["code"]) == (503, "RUNNER_UNREACHABLE")


def test_a_report_that_would_leave_no_receipt_is_refused(
    api: Api, dana: Client, runner: FakeRunner
) -> None:
    made = create(dana)
    instance = runner._instance(made.terminal_id)
    event = runner_wire.LeaseEvent(holder="i#dana")
    good = runner._attestor.attested(made.terminal_id, instance, event)
    other = good.model_copy(update={"holder": "i#emil"})
    answers = [
        runner.post(
            api.url,
            runner.sealed(
                runner_wire.RunnerReport(
                    runner="local", boot="b" * 20, sandbox="none", capacity=1,
                    terminals=(
                        runner_wire.TerminalReport(
                            terminal=made.terminal_id, instance=instance, live=True, first=1,
                            events=(told,),
                        ),
                    ),
                )
            ),
        )
        for told in (event, other, good)
    ]  # fmt: skip

    assert [answer.status_code for answer in answers] == [422, 422, 200]


def test_reports_are_taken_from_runners_alone_and_once(
    api: Api, dana: Client, runner: FakeRunner, tmp_path: Any
) -> None:
    made = create(dana)
    report = runner_wire.RunnerReport(
        runner="local", boot="b" * 20, sandbox="none", capacity=1, terminals=()
    )
    stranger = FakeRunner(tmp_path, plane="cp", plane_key=runner.public_key)
    other = report.model_copy(update={"runner": "other"})
    good = runner.sealed(report)
    answers = [
        stranger.post(api.url, stranger.sealed(report)),
        runner.post(api.url, runner.sealed(report, audience="another")),
        runner.post(api.url, runner.sealed(report, purpose="job")),
        runner.post(api.url, runner.sealed(other)),
        runner.post(api.url, good),
        runner.post(api.url, good),
        runner.post(api.url, "x" * 2_000_000),
    ]

    assert [a.status_code for a in answers] == [401, 401, 401, 401, 200, 401, 413]
    assert dana.call(operations.get_terminal(made.terminal_id)).status == "ready"
