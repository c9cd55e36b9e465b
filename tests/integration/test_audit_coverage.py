"""Everything that changes something leaves an event: each route, job and command is listed here.

What is listed with words instead changes nothing that is ours, and the words say why. A new
route, job or command without a line fails.
"""

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from fastapi.routing import iter_route_contexts
from psycopg.conninfo import make_conninfo
from test_api import POLICY, Api, api, body

from factories.installation import PUBLIC_URL
from fakes.ci_issuer import PROJECT
from fakes.runner_app import FakeRunner
from gatekeeper.bootstrap.databases import LANES
from gatekeeper.bootstrap.terminals import controlling
from gatekeeper.bootstrap.terminals.controlling import LANES as TERMINAL_LANES
from gatekeeper.client import operations
from gatekeeper.client.api import ApiError, Client
from gatekeeper.client.evidence import Trust, verify_lines
from gatekeeper.entrypoints.gk import COMMANDS, load
from gatekeeper.kernel import ids
from gatekeeper.kernel.audit import AuditKind
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.console import cookies
from gatekeeper.platform.crypto.signing import SigningKey
from gatekeeper.platform.postgres.embedded import EmbeddedServer
from gatekeeper.terminals.errors import RunnerRejectedError
from gatekeeper.wire import jobs, terminals
from gatekeeper.wire import runner as runner_wire
from gatekeeper.wire import sessions as wire

__all__ = ["api"]

K = AuditKind
SECONDS: Final = 60.0
SAFE_METHODS: Final = {"GET", "HEAD", "OPTIONS"}

ROUTES: Final[Mapping[str, tuple[AuditKind, ...] | str]] = {
    "POST /sessions": (K.SESSION_CREATED, K.SESSION_DENIED),
    "POST /sessions/{session_id}/revoke": (K.SESSION_REVOKED,),
    "POST /sessions/{session_id}/extend": (K.SESSION_EXTENDED,),
    "POST /reconcile": (K.TARGET_RECONCILED,),
    "GET /audit/export": (K.EVIDENCE_EXPORTED,),
    "POST /policy/explain": "asks the policy and for nothing else",
    "POST /targets/{target}/doctor": "reads the target's catalogues",
    "POST /dev-issuer/device_authorization": "an issuer's logins are its own to record",
    "POST /dev-issuer/token": "an issuer's logins are its own to record",
    "POST /dev-issuer/device": "an issuer's logins are its own to record",
    "POST /dev-issuer/authorize": "an issuer's logins are its own to record",
    "POST /auth/token": (K.TOKEN_EXCHANGED, K.TOKEN_REFUSED),
    "POST /terminals": (K.TERMINAL_CREATED, K.TERMINAL_DENIED),
    "DELETE /terminals/{terminal_id}": (K.TERMINAL_REVOKED,),
    "POST /terminals/{terminal_id}/attach": (K.TERMINAL_TICKET_ISSUED,),
    "POST /terminals/{terminal_id}/share": (K.TERMINAL_SHARED,),
    "POST /shares/open": (K.TERMINAL_TICKET_ISSUED,),
    "POST /terminals/{terminal_id}/input": (K.TERMINAL_INPUT_SENT,),
    "POST /terminals/{terminal_id}/wait": (K.TERMINAL_SCREEN_READ,),
    "GET /terminals/{terminal_id}/screen": (K.TERMINAL_SCREEN_READ,),
    "GET /terminals/{terminal_id}/recording": (K.TERMINAL_RECORDING_READ,),
    "POST /runners/report": (
        K.TERMINAL_ATTACHED,
        K.TERMINAL_LEASE_PASSED,
        K.TERMINAL_RECORDED,
        K.TERMINAL_ENDED,
    ),
    "POST /console/token": (K.CONSOLE_SIGNED_IN,),
    "POST /console/sign-out": (K.CONSOLE_SIGNED_OUT,),
    "POST /jobs": "the agent's; the control plane that signed the job records it, see JOBS",
}

JOBS: Final[Mapping[str, AuditKind | str]] = {
    "create_session": K.SESSION_READY,
    "revoke_session": K.SESSION_CLEANED,
    "extend_session": K.SESSION_EXTENDED,
    "reconcile": "lists logins; what is done about them is target.reconciled",
    "doctor": "reads the target's catalogues",
    "cleanup": K.TARGET_CLEANED,
}

QUEUED: Final[Mapping[str, tuple[AuditKind, ...]]] = {
    "issue": (K.SESSION_READY, K.SESSION_FAILED),
    "end": (K.SESSION_EXPIRED, K.SESSION_CLEANED, K.SESSION_CLEANUP_FAILED),
    "cleanup": (K.TARGET_CLEANED,),
    "launch": (K.TERMINAL_LOGIN_BOUND, K.TERMINAL_READY, K.TERMINAL_FAILED),
    "listen": (K.TERMINAL_ENDED,),
    "terminate": (K.TERMINAL_EXPIRED, K.TERMINAL_CLEANED, K.TERMINAL_CLEANUP_FAILED),
}

READS: Final = "reads"
OWN_FILES: Final = "changes files of its user alone"

COMMANDS_TELL: Final[Mapping[str, tuple[AuditKind, ...] | str]] = {
    "login": (K.TOKEN_EXCHANGED, K.TOKEN_REFUSED),
    "logout": OWN_FILES,
    "whoami": READS,
    "completion": READS,
    "session create": (K.SESSION_CREATED, K.SESSION_DENIED),
    "session list": READS,
    "session show": READS,
    "session watch": READS,
    "session revoke": (K.SESSION_REVOKED,),
    "session extend": (K.SESSION_EXTENDED,),
    "exec": (K.SESSION_CREATED, K.SESSION_REVOKED),
    "shell": (K.TERMINAL_CREATED, K.TERMINAL_TICKET_ISSUED, K.TERMINAL_REVOKED),
    "terminal create": (K.TERMINAL_CREATED, K.TERMINAL_DENIED),
    "terminal list": READS,
    "terminal show": READS,
    "terminal attach": (K.TERMINAL_TICKET_ISSUED,),
    "terminal share": (K.TERMINAL_SHARED,),
    "terminal stop": (K.TERMINAL_REVOKED,),
    "terminal play": (K.TERMINAL_RECORDING_READ,),
    "terminal download": (K.TERMINAL_RECORDING_READ,),
    "terminal input": (K.TERMINAL_INPUT_SENT,),
    "terminal screen": (K.TERMINAL_SCREEN_READ,),
    "terminal wait": (K.TERMINAL_SCREEN_READ,),
    "target list": READS,
    "target doctor": READS,
    "target bootstrap": "the target's administrator works at the target, with no control plane"
    " between; `gk target doctor` tells what is there",
    "policy explain": READS,
    "policy validate": READS,
    "policy test": READS,
    "audit tail": READS,
    "audit export": (K.EVIDENCE_EXPORTED,),
    "audit verify": (K.EVIDENCE_EXPORTED,),
    "reconcile": (K.TARGET_RECONCILED,),
    "doctor": "starts an empty sandbox of each kind for an instant; has no store",
    "migrate": (K.STORE_MIGRATED,),
    "key": "a file is made; `control_plane.started` names every key that is in use",
    "rotate-tickets": "a file is made; its public half is published for everybody",
    "up": (K.STORE_MIGRATED, K.CONTROL_PLANE_STARTED),
    "demo": (K.STORE_MIGRATED, K.CONTROL_PLANE_STARTED),
    "serve control-plane": (
        K.CONTROL_PLANE_STARTED,
        K.POLICY_LOADED,
        K.POLICY_REJECTED,
        K.TERMINAL_RECORDING_DELETED,
    ),
    "serve agent": "keeps nothing; what it does, its control plane records",
    "serve runner": (K.TERMINAL_ATTACHED, K.TERMINAL_RECORDED, K.TERMINAL_ENDED),
    "serve gateway": "keeps nothing; whom it lets in, the runner reports",
    "forwardauth init": OWN_FILES,
    "forwardauth serve": "decides and changes nothing; has no store, and logs each decision",
    "forwardauth check": READS,
    "forwardauth doctor": "asks a proxy as any stranger can",
    "forwardauth explain": READS,
    "forwardauth test": READS,
    "forwardauth completion": READS,
}


def test_every_route_that_may_change_something_is_listed(api: Api) -> None:
    served = {
        f"{method} {route.path}"
        for app in (api.app, api.agent_app)
        for route in iter_route_contexts(app.routes)
        for method in set(route.methods or ()) - SAFE_METHODS
    }

    assert served == {route for route in ROUTES if not route.startswith("GET ")}


def test_every_job_is_listed() -> None:
    known = jobs.JOB.json_schema()["discriminator"]["mapping"]

    assert set(known) == set(JOBS)
    assert set(LANES) | set(TERMINAL_LANES) == set(QUEUED)


def test_every_command_is_listed() -> None:
    assert {name for root in COMMANDS for name in _leaves(load(root), root)} == set(COMMANDS_TELL)


def _leaves(command: Any, name: str) -> Iterator[str]:
    inner = getattr(command, "commands", None)
    if not inner:
        yield name
        return
    for part, sub in inner.items():
        yield from _leaves(sub, f"{name} {part}")


def test_every_kind_of_event_is_documented_and_no_other() -> None:
    text = (Path(__file__).parents[2] / "docs" / "AUDIT.md").read_text()
    told = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}

    assert told == {kind.value for kind in AuditKind}


@dataclass(frozen=True)
class Stage:
    """An operator, the real thing, and the DSN of the store's owner."""

    client: Client
    api: Api
    owner: str

    @property
    def runner(self) -> FakeRunner:
        assert self.api.runner is not None
        return self.api.runner


@pytest.fixture(scope="module", autouse=True)
def looks() -> Iterator[None]:
    """Have recordings looked at much more often; before there is a control plane."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(controlling, "LOOK_SECONDS", 0.5)
        yield


@pytest.fixture(scope="module")
def told(api: Api, server_18: EmbeddedServer) -> list[dict[str, Any]]:
    """Do everything once on the real thing; return the whole chain, which must be whole."""
    owner = server_18.dsn("api_store")
    for name, act in ACTIONS.items():
        with _client(api, name) as client:
            act(Stage(client, api, owner))
    with _client(api, "the end") as client:
        missing = set(AuditKind)
        deadline = time.monotonic() + SECONDS
        while missing and time.monotonic() < deadline:
            time.sleep(0.2)
            events = _chain(client)
            missing = set(AuditKind) - {event["kind"] for event in events}
        assert not missing
        with client.stream(operations.audit_export()) as lines:
            own = SigningKey.load(api.folder / "keys" / "agent.jwk").public_jwk()
            key = SigningKey.load(api.folder / "keys" / "evidence.jwk").public_jwk()
            assert api.runner is not None
            trust = Trust(public_key=key, agent_keys=(own,), runner_keys=(api.runner.public_key,))
            report = verify_lines((line.encode() for line in lines), trust)
    assert report.broken is None
    return events


def _client(api: Api, name: str) -> Client:
    correlation = "cor_" + "".join(c if c.isalnum() else "." for c in name)
    return Client(api.url, api.token("olga", "eng", "operators"), correlation_id=correlation)


def _chain(client: Client) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        page = client.call(operations.audit_events(after=after, limit=1_000))
        events += [json.loads(item.canonical) for item in page.items]
        after = page.next
    return events


def _made(client: Client, **changes: Any) -> str:
    key = f"coverage-{time.monotonic_ns()}"
    operation = operations.create_session(body(**changes), idempotency_key=key, wait=20)
    return client.call(operation).session_id


def _create(stage: Stage) -> None:
    _made(stage.client)
    with pytest.raises(ApiError):
        _made(stage.client, role="app_admin")


def _revoke(stage: Stage) -> None:
    stage.client.call(operations.revoke_session(_made(stage.client), wait=20))


def _extend(stage: Stage) -> None:
    session = _made(stage.client)
    stage.client.call(operations.extend_session(session, wire.ExtendSession(ttl="30m")))


def _reconcile(stage: Stage) -> None:
    session = _made(stage.client)
    with psycopg.connect(stage.owner) as store:  # the store forgets it, and so it is leaked
        store.execute("UPDATE gatekeeper.session SET status = 'cleaned' WHERE id = %s", (session,))
    report = stage.client.call(operations.reconcile(wire.ReconcileRequest(target="pg", plan=False)))
    assert ("leaked", None) in {(drift.kind, drift.problem) for drift in report.items}


def _export(stage: Stage) -> None:
    with stage.client.stream(operations.audit_export()) as lines:
        assert len(list(lines)) > 1


def _expire(stage: Stage) -> None:
    _made(stage.client, ttl="1s")


def _fail_to_clean(stage: Stage) -> None:
    """A session fails, cannot be cleaned for the same reason, and then for another."""
    session = _made(stage.client, target="lost")
    with psycopg.connect(stage.owner) as store:
        store.execute(
            "UPDATE gatekeeper.session SET error_message = 'before' WHERE id = %s", (session,)
        )


def _exchange(stage: Stage) -> None:
    assert stage.api.ci is not None
    mine = stage.api.ci.token(PUBLIC_URL, **PROJECT)
    theirs = stage.api.ci.token(PUBLIC_URL, **PROJECT | {"ref": "x"})
    stage.client.call(operations.exchange_token(Secret(mine)))
    with pytest.raises(ApiError):
        stage.client.call(operations.exchange_token(Secret(theirs)))


def _be_overdue(stage: Stage) -> None:
    """The store forgets a session, and its login's time is over since a while."""
    session = _made(stage.client)
    with psycopg.connect(stage.owner) as store:
        store.execute("UPDATE gatekeeper.session SET status = 'cleaned' WHERE id = %s", (session,))
    with psycopg.connect(make_conninfo(stage.owner, dbname="shop")) as target:
        target.execute(
            "UPDATE gk.login SET expires_at = now() - interval '5 min' WHERE name = %s",
            (ids.role_name(ids.SessionId(session)),),
        )
    with psycopg.connect(stage.owner) as store:
        store.execute("UPDATE gatekeeper.job SET due_at = now() WHERE kind = 'cleanup'")
        store.execute("SELECT pg_notify('gatekeeper_job', 'cleanup')")


def _change_the_policy(stage: Stage) -> None:
    for text, kind in (("nonsense", K.POLICY_REJECTED), (POLICY + "\n", K.POLICY_LOADED)):
        (stage.api.folder / "policy.yaml").write_text(text)
        deadline = time.monotonic() + SECONDS
        while kind not in {event["kind"] for event in _chain(stage.client)}:
            assert time.monotonic() < deadline, kind
            time.sleep(0.2)


def _terminal(stage: Stage, **changes: Any) -> str:
    wanted = terminals.CreateTerminal.model_validate({"ttl": "5m", "reason": "why", **changes})
    key = f"coverage-{time.monotonic_ns()}"
    operation = operations.create_terminal(wanted, idempotency_key=key, wait=20)
    return stage.client.call(operation).terminal_id


def _create_terminals(stage: Stage) -> None:
    """One with a database login, one that fails, one that ends at its time, and one denied."""
    _terminal(stage, database={"target": "pg", "role": "app_read"})
    stage.runner.launcher.fail_next = [RunnerRejectedError("not here")]
    _terminal(stage)
    _terminal(stage, ttl="1s")
    with pytest.raises(ApiError):
        _terminal(stage, profile="closed")


def _stop_terminals(stage: Stage) -> None:
    """The first end cannot be proven at once."""
    terminal = _terminal(stage)
    launcher = stage.runner.launcher
    (stuck,) = (n for n, t in launcher.live.items() if t.launch.terminal.id == terminal)
    launcher.stuck.add(stuck)
    stage.client.call(operations.stop_terminal(terminal))
    deadline = time.monotonic() + SECONDS
    while stage.client.call(operations.get_terminal(terminal)).error is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    launcher.stuck.clear()


def _attach(stage: Stage) -> None:
    stage.client.call(operations.attach_terminal(_terminal(stage), terminals.AttachRequest()))


def _share(stage: Stage) -> terminals.ShareView:
    body = terminals.ShareTerminal(minutes=1)
    return stage.client.call(operations.share_terminal(_terminal(stage), body))


def _open_share(stage: Stage) -> None:
    secret = _share(stage).url.partition("#")[2]
    stage.client.call(operations.open_share(terminals.OpenShare(secret=secret)))


def _send_input(stage: Stage) -> None:
    stage.client.call(operations.send_input(_terminal(stage), terminals.SendInput(data="x")))


def _others_terminal(stage: Stage) -> str:
    token = stage.api.token("dana", "eng")
    with Client(stage.api.url, token, correlation_id="cor_dana") as dana:
        return _terminal(Stage(dana, stage.api, stage.owner))


def _wait_for_text(stage: Stage) -> None:
    body = terminals.WaitForText(text="x", seconds=0)
    stage.client.call(operations.wait_for_text(_others_terminal(stage), body))


def _look(stage: Stage) -> None:
    stage.client.call(operations.terminal_screen(_others_terminal(stage)))


def _read_recording(stage: Stage) -> None:
    terminal = _terminal(stage)
    folder = stage.api.folder / "recordings" / terminal
    folder.mkdir(parents=True)
    (folder / "000001.cast").write_text("{}\n")
    stage.client.call(operations.terminal_recording(terminal))


def _outlive(stage: Stage) -> None:
    """A recording's time is over."""
    terminal = _terminal(stage)
    (stage.api.folder / "recordings" / terminal).mkdir(parents=True)
    stage.client.call(operations.stop_terminal(terminal, wait=20))
    with psycopg.connect(stage.owner) as store:
        store.execute(
            "UPDATE gatekeeper.terminal SET ended_at = ended_at - interval '2 days' WHERE id = %s",
            (terminal,),
        )


def _report(stage: Stage) -> None:
    stage.runner.tell(
        stage.api.url,
        _terminal(stage),
        runner_wire.AttachedEvent(subject="s", mode="write", protocol="tty"),
        runner_wire.LeaseEvent(holder="s"),
        runner_wire.SegmentEvent(number=1, head="a" * 64, bytes=1),
        runner_wire.EndedEvent(ended=runner_wire.EndedView(ending="exited", exit_code=0)),
    )


def _sign_in(stage: Stage) -> str:
    token = stage.api.token("olga", "eng", "operators").reveal()
    headers = {"Authorization": f"Bearer {token}", "Origin": PUBLIC_URL}
    answer = stage.client._http.post("/console/token", headers=headers)
    assert answer.status_code == 204, answer.text
    return answer.headers["set-cookie"].partition(";")[0]


def _sign_out(stage: Stage) -> None:
    headers = {"Cookie": _sign_in(stage), "Origin": PUBLIC_URL, cookies.HEADER: "1"}
    answer = stage.client._http.post("/console/sign-out", headers=headers)
    assert answer.status_code == 204, answer.text


ACTIONS: Final[Mapping[str, Callable[[Stage], object]]] = {
    "POST /sessions": _create,
    "POST /sessions/{session_id}/revoke": _revoke,
    "POST /sessions/{session_id}/extend": _extend,
    "POST /reconcile": _reconcile,
    "GET /audit/export": _export,
    "POST /auth/token": _exchange,
    "POST /terminals": _create_terminals,
    "DELETE /terminals/{terminal_id}": _stop_terminals,
    "POST /terminals/{terminal_id}/attach": _attach,
    "POST /terminals/{terminal_id}/share": _share,
    "POST /shares/open": _open_share,
    "POST /terminals/{terminal_id}/input": _send_input,
    "POST /terminals/{terminal_id}/wait": _wait_for_text,
    "GET /terminals/{terminal_id}/screen": _look,
    "GET /terminals/{terminal_id}/recording": _read_recording,
    "POST /runners/report": _report,
    "POST /console/token": _sign_in,
    "POST /console/sign-out": _sign_out,
    "a session expires": _expire,
    "a login is overdue": _be_overdue,
    "a recording's time is over": _outlive,
    "a session cannot be cleaned": _fail_to_clean,
    "the policy is changed": _change_the_policy,
}


@pytest.mark.parametrize(
    "route", [route for route, kinds in ROUTES.items() if not isinstance(kinds, str)]
)
def test_what_a_route_changes_is_told_under_its_requests_id(
    told: list[dict[str, Any]], api: Api, route: str
) -> None:
    with _client(api, route) as client:
        mine = client._http.headers["X-Correlation-ID"]
    kinds = {event["kind"] for event in told if event["correlationId"] == mine}

    assert kinds >= set(ROUTES[route])


@pytest.mark.parametrize("job", [job for job, kind in JOBS.items() if isinstance(kind, AuditKind)])
def test_what_a_job_changed_is_told_with_what_the_agent_signed(
    told: list[dict[str, Any]], job: str
) -> None:
    receipts = [event["data"]["receipt"] for event in told if event["kind"] == JOBS[job]]

    assert receipts
    assert {_result(receipt)["type"] for receipt in receipts} == {job}


def _result(receipt: str) -> Any:
    body = receipt.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return json.loads(claims["payload"])


def test_every_command_that_changes_something_has_its_events_in_the_chain(
    told: list[dict[str, Any]],
) -> None:
    listed = {
        kind
        for kinds in (*COMMANDS_TELL.values(), *QUEUED.values(), *ROUTES.values())
        if not isinstance(kinds, str)
        for kind in kinds
    }

    assert listed == set(AuditKind)
    assert listed <= {event["kind"] for event in told}


def test_a_start_tells_who_signs_and_that_the_evidence_is_out_of_reach(
    told: list[dict[str, Any]], api: Api
) -> None:
    (start,) = (event["data"] for event in told if event["kind"] == K.CONTROL_PLANE_STARTED)
    keys = api.folder / "keys"
    public = json.loads(SigningKey.load(keys / "agent.jwk").public_jwk())["x"]

    assert start["agents"] == {"a": public}
    assert start["keys"] == {
        "messages": SigningKey.load(keys / "control-plane.jwk").key_id,
        "evidence": SigningKey.load(keys / "evidence.jwk").key_id,
    }
    assert start["evidenceProtected"] is True
