"""The whole product as a user meets it: `gk up`, and every command over it."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import psycopg
import pytest
import yaml

from acceptance.local_stack import GK, Stack, log_in_by_device, running, start, stop
from gatekeeper.platform.processes.listening import free_port
from published.reference import COMMAND_OUTPUTS, ROOT

PATIENCE = 60.0
"""Seconds that nothing needs when all is well, on a machine that has other things to do."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("up")) as stack:
        yield stack


def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


def wait_for_status(stack: Stack, session: str, status: str, seconds: float = PATIENCE) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        view = stack.json("dana", "session", "show", session)
        if view["status"] == status:
            return view
        time.sleep(0.1)
    raise AssertionError(view)


def test_a_login_works_until_it_is_revoked_and_its_connections_end_with_it(stack: Stack) -> None:
    session = stack.create(role="app_write")
    dsn = session["dsn"]
    with psycopg.connect(dsn) as holder:
        holder.execute("INSERT INTO orders (customer, total) VALUES ('Test', 1)")
        said = stack.gk("dana", "session", "revoke", session["sessionId"]).stderr

        with pytest.raises(psycopg.OperationalError):
            holder.execute("SELECT 1")

    assert "proven" in said
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(dsn)
    assert stack.json("dana", "session", "show", session["sessionId"])["status"] == "cleaned"


def test_a_login_ends_at_its_ttl(stack: Stack) -> None:
    session = stack.create(ttl="4s")

    assert rows(session["dsn"], "SELECT count(*) > 0 FROM orders") == [(True,)]
    view = wait_for_status(stack, session["sessionId"], "cleaned")
    assert view["cleanedAt"] > view["expiresAt"]
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(session["dsn"])


def test_the_password_is_made_here_and_stands_nowhere_else(stack: Stack) -> None:
    session = stack.create()
    password = psycopg.conninfo.conninfo_to_dict(session["dsn"])["password"]
    assert isinstance(password, str)

    for file in (stack.home / "stack").rglob("*"):
        if file.is_file() and file.suffix in (".log", ".toml", ".yaml", ".jwk"):
            assert password.encode() not in file.read_bytes(), file
    export = stack.home / "canary.jsonl"
    stack.gk("olga", "audit", "export", "-o", str(export))
    assert password not in export.read_text()
    assert password not in stack.gk("dana", "session", "list", "--json", "--all").stdout
    store = store_dsn(stack)
    dump = rows(store, "SELECT s::text FROM gatekeeper.session s")
    dump += rows(store, "SELECT j::text FROM gatekeeper.job j")
    assert dump
    assert password not in str(dump)


def store_dsn(stack: Stack) -> str:
    text = (stack.home / "stack" / "control-plane.toml").read_text()
    match = re.search(r'"store_dsn" = "([^"]+)"', text)
    assert match is not None
    return match[1]


def test_a_generated_password_is_given_to_its_requester_alone(stack: Stack) -> None:
    session = stack.json(
        "dana", "session", "create", "-t", "pg-local", "-r", "app_read", "--generated"
    )

    assert rows(session["dsn"], "SELECT 1") == [(1,)]
    assert "dsn" not in stack.json("olga", "session", "show", session["sessionId"])
    for person in ("dana", "olga"):
        listed = stack.json(person, "session", "list")["items"]
        assert session["sessionId"] in {item["sessionId"] for item in listed}
        assert all("dsn" not in item for item in listed)
    longer = stack.json("dana", "session", "extend", session["sessionId"], "--ttl", "10m")
    assert "dsn" not in longer
    assert "dsn" not in stack.json("dana", "session", "show", session["sessionId"])
    asked = ("session", "show", session["sessionId"], "--show-credentials")
    assert stack.json("dana", *asked)["dsn"] == session["dsn"]
    assert "dsn" not in stack.json("olga", *asked)


def test_extend_moves_the_end(stack: Stack) -> None:
    """At the target too. That it then lives on: tests/integration/test_session_service.py."""
    session = stack.create(ttl="1m")
    end = "SELECT rolvaliduntil FROM pg_roles WHERE rolname = current_user"
    ((before,),) = rows(session["dsn"], end)

    view = stack.json("dana", "session", "extend", session["sessionId"], "--ttl", "10m")

    assert view["expiresAt"] > session["expiresAt"]
    ((after,),) = rows(session["dsn"], end)
    assert after - before > timedelta(minutes=8)


def test_exec_runs_a_command_with_a_login_that_ends_with_it(stack: Stack, tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text(
        "import os, stat, sys, psycopg\n"
        "assert 'PGPASSWORD' not in os.environ\n"
        "assert stat.S_IMODE(os.stat(os.environ['PGPASSFILE']).st_mode) == 0o600\n"
        "assert psycopg.connect('').execute('select current_user').fetchone()[0].startswith('gk_')\n"
        "assert psycopg.connect('service=gatekeeper').execute('select 1').fetchone() == (1,)\n"
        "print(os.environ['GK_SESSION'], os.environ['PGPASSFILE'])\n"
        "sys.exit(7)\n"
    )

    done = stack.gk(
        "dana", "exec", "-t", "pg-local", "-r", "app_read", "--", sys.executable, str(script),
        check=7,
    )  # fmt: skip

    session, password_file = done.stdout.split()
    assert stack.json("dana", "session", "show", session)["status"] == "cleaned"
    assert not Path(password_file).exists()


def test_a_killed_command_gives_its_signal_and_ends_its_login(stack: Stack) -> None:
    done = stack.gk(
        "dana", "exec", "-t", "pg-local", "-r", "app_read", "--", "sh", "-c",
        "echo $GK_SESSION; kill -TERM $$", check=128 + signal.SIGTERM,
    )  # fmt: skip

    assert stack.json("dana", "session", "show", done.stdout.strip())["status"] == "cleaned"


def test_a_denial_names_its_reasons_and_what_would_be_allowed(stack: Stack) -> None:
    done = stack.gk("dana", "session", "create", "-t", "pg-local", "-r", "app_admin", check=4)

    assert "operators-administer-locally" in done.stderr
    assert "'app_write'" in done.stderr
    assert "correlation id cor_" in done.stderr
    explained = stack.gk("dana", "policy", "explain", "-t", "pg-local", "-r", "app_admin", check=4)
    assert "denied" in explained.stdout
    asked_long = stack.gk(
        "dana", "policy", "explain", "-t", "pg-local", "-r", "app_read", "--ttl", "2h", check=4
    )
    assert "1h or less" in asked_long.stdout
    terminal = ("policy", "explain", "-t", "local", "-r", "shell")
    assert "allowed by" in stack.gk("dana", *terminal, "--plane", "terminals").stdout
    assert "no grant covers" in stack.gk("dana", *terminal, check=4).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("session", "create", "-t", "nope", "-r", "app_read"), 5, "pg-local"),
        (("session", "create", "-t", "pg-locl", "-r", "app_read"), 5, "mean 'pg-local'"),
        (("session", "create", "-t", "pg-local", "-r", "nope"), 2, "app_read"),
        (("session", "create", "-t", "pg-local", "-r", "app_raed"), 2, "mean 'app_read'"),
        (("session", "create", "-t", "pg-local", "-r", "app_read", "--ttl", "soon"), 2, "15m"),
        (("session", "create", "-r", "app_read"), 2, "--target"),
        (("session", "show", "ses_aaaaaaaaaaaaaaaaaaaa"), 5, "gk session list"),
        (("session", "show", "nonsense"), 2, "gk session list"),
        (("reconcile",), 4, "operators"),
        (("audit", "tail"), 4, "for operators"),
        (
            ("--server", "http://127.0.0.1:9", "session", "list"),
            3,
            "at http://127.0.0.1:9; run gk login",
        ),
        (("--profile", "nope", "session", "list"), 2, "profile"),
    ],
)
def test_errors_say_what_was_wrong_and_what_to_do(
    stack: Stack, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = stack.gk("dana", *arguments, check=code)

    assert words.lower() in done.stderr.lower()
    assert done.stdout == ""


def test_a_login_without_a_browser_is_confirmed_anywhere(stack: Stack) -> None:
    log_in_by_device(stack, "olga")

    assert stack.json("olga", "whoami")["subject"] == "olga"


def test_without_a_login_nothing_is_shown(stack: Stack) -> None:
    done = stack.gk("stranger", "session", "list", check=3)

    assert "gk login" in done.stderr


def test_people_see_their_own_and_operators_see_all(stack: Stack) -> None:
    hers = stack.create("olga")["sessionId"]

    assert hers not in {i["sessionId"] for i in stack.json("dana", "session", "list")["items"]}
    assert hers in {i["sessionId"] for i in stack.json("olga", "session", "list")["items"]}
    stack.gk("dana", "session", "revoke", hers, check=5)


def test_operators_see_targets_well_and_reconciled(stack: Stack) -> None:
    assert "checks are well" in stack.gk("olga", "target", "doctor", "pg-local").stdout
    table = stack.gk("dana", "target", "list").stdout
    assert re.search(r"app_read\s+allowed", table)
    assert re.search(r"app_admin\s+denied", table)
    assert stack.json("olga", "reconcile", "--plan")["items"] == []


def test_the_evidence_is_whole_and_holds_both_sides(stack: Stack) -> None:
    session = stack.create()["sessionId"]
    stack.gk("dana", "session", "revoke", session)
    deadline = time.monotonic() + PATIENCE
    events: list[Any] = []
    while len(events) < 4 and time.monotonic() < deadline:
        lines = stack.gk("olga", "audit", "tail", "--session", session, "--json").stdout
        events = [json.loads(line) for line in lines.splitlines()]

    assert "whole" in stack.gk("olga", "audit", "verify").stdout
    assert [e["kind"] for e in events] == [
        "session.created", "session.ready", "session.revoked", "session.cleaned",
    ]  # fmt: skip
    assert events[1]["data"]["receipt"].count(".") == 2
    assert events[3]["data"]["lagMs"] >= 0
    assert {e["correlationId"] for e in events[:2]} == {events[0]["correlationId"]}


def test_what_commands_print_for_programs_is_what_is_published(stack: Stack) -> None:
    session = stack.create()["sessionId"]
    policy = str(ROOT / "examples" / "policies" / "policy.yaml")
    terminal = stack.json("dana", "terminal", "create")["terminalId"]
    printed = {
        "session create": stack.create(),
        "session list": stack.json("dana", "session", "list"),
        "session show": stack.json("dana", "session", "show", session),
        "session extend": stack.json("dana", "session", "extend", session, "--ttl", "7m"),
        "session revoke": stack.json("dana", "session", "revoke", session),
        "session watch": first_change(stack),
        "target list": stack.json("dana", "target", "list"),
        "target doctor": stack.json("olga", "target", "doctor", "pg-local"),
        "policy explain": stack.json("dana", "policy", "explain", "-t", "pg-local", "-r", "app_read"),
        "policy validate": stack.json("dana", "policy", "validate", policy),
        "policy test": stack.json("dana", "policy", "test", policy),
        "audit export": stack.json("olga", "audit", "export", "-o", str(stack.home / "chain.jsonl")),
        "audit tail": stack.json("olga", "audit", "tail", "-n", "1"),
        "audit verify": stack.json("olga", "audit", "verify"),
        "reconcile": stack.json("olga", "reconcile", "--plan"),
        "terminal create": stack.json("dana", "terminal", "create"),
        "terminal list": stack.json("dana", "terminal", "list"),
        "terminal show": stack.json("dana", "terminal", "show", terminal),
        "terminal screen": stack.json("dana", "terminal", "screen", terminal),
        "terminal wait": stack.json("dana", "terminal", "wait", terminal, "$"),
        "terminal share": stack.json("dana", "terminal", "share", terminal),
        "terminal stop": stack.json("dana", "terminal", "stop", terminal),
        "whoami": stack.json("dana", "whoami"),
    }  # fmt: skip

    # What owners and administrators do: test_audit_cli.py and test_target_bootstrap.py. What
    # needs no server of ours: test_forwardauth_*_command.py and the proxies' test_doctor.py.
    alone = {command for command in COMMAND_OUTPUTS if command.startswith("forwardauth ")}
    # `gk doctor`: test_doctor_says_what_this_machine_has.
    assert (
        printed.keys() | {"doctor"}
        == COMMAND_OUTPUTS.keys() - {"migrate", "target bootstrap"} - alone
    )
    for command, output in printed.items():
        published_schema(f"gk-{command.replace(' ', '-')}").validate(output)


def first_change(stack: Stack) -> Any:
    process = subprocess.Popen(
        [*GK, "session", "watch", "--json"],
        env=stack.environment("dana"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        assert "live" in process.stderr.readline()
        while not select.select([process.stdout], [], [], 0)[0]:
            stack.create()
        return json.loads(process.stdout.readline())
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)


def published_schema(name: str) -> jsonschema.Draft202012Validator:
    path = ROOT / "docs" / "reference" / "schemas" / f"{name}.json"
    return jsonschema.Draft202012Validator(json.loads(path.read_text()))


def test_the_files_that_gk_up_writes_fit_the_published_schemas(stack: Stack) -> None:
    for name in ("control-plane", "agent"):
        settings = tomllib.loads((stack.home / "stack" / f"{name}.toml").read_text())
        published_schema(f"{name}-settings").validate(settings)
        assert not published_schema(f"{name}-settings").is_valid({**settings, "nope": 1})
    policy = yaml.safe_load((stack.home / "stack" / "policy.yaml").read_text())
    published_schema("policy").validate(policy)


def test_doctor_says_what_this_machine_has() -> None:
    done = subprocess.run(
        [*GK, "doctor", "--json"], capture_output=True, text=True, timeout=60, check=False
    )
    report = json.loads(done.stdout)

    published_schema("gk-doctor").validate(report)
    assert report["terminals"] is any(tier["works"] for tier in report["sandboxes"])
    assert [tier["name"] for tier in report["sandboxes"]] == ["bubblewrap", "landlock"]
    assert done.returncode == (0 if report["terminals"] else 1)


def test_health_metrics_and_description_are_there(stack: Stack) -> None:
    assert httpx.get(f"{stack.url}/healthz").json()["status"] == "ok"
    assert httpx.get(f"{stack.url}/readyz").json()["checks"] == {"store": "ok"}
    metrics = httpx.get(f"{stack.url}/metrics").text
    assert 'gatekeeper_jobs_total{kind="issue",result="done"}' in metrics
    assert "/sessions/{session_id}/revoke" in httpx.get(f"{stack.url}/openapi.json").json()["paths"]


def test_watch_shows_changes_as_they_happen(stack: Stack) -> None:
    process = subprocess.Popen(
        [*GK, "session", "watch"],
        env=stack.environment("dana"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        assert "live" in process.stderr.readline()
        time.sleep(0.5)
        session = stack.create()["sessionId"]
        first, second = process.stdout.readline(), process.stdout.readline()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    assert session in first
    assert "pending" in first
    assert "ready" in second


def test_a_changed_policy_is_taken_and_a_broken_one_is_not(stack: Stack) -> None:
    policy = stack.home / "stack" / "policy.yaml"
    whole = policy.read_text()
    try:
        policy.write_text(whole.replace("roles: [app_read, app_write]", "roles: [app_read]"))
        wait_until_writing_is_answered(stack, 4)
        stack.gk("dana", "session", "create", "-t", "pg-local", "-r", "app_write", check=4)
        policy.write_text("grants: [")
        time.sleep(1.6)
        stack.create()
    finally:
        policy.write_text(whole)
        wait_until_writing_is_answered(stack, 0)


def wait_until_writing_is_answered(stack: Stack, code: int) -> None:
    asked = [*GK, "policy", "explain", "-t", "pg-local", "-r", "app_write"]
    deadline = time.monotonic() + PATIENCE
    answered = None
    while answered != code:
        assert time.monotonic() < deadline, answered
        answered = subprocess.run(
            asked, env=stack.environment("dana"), capture_output=True, check=False
        ).returncode


def test_killed_processes_come_back_and_what_expired_meanwhile_is_gone(stack: Stack) -> None:
    session = stack.create(ttl="4s")
    for child in children(stack.process.pid):
        if "gatekeeper serve" in child[1] or "gatekeeper\x00serve" in child[1]:
            os.kill(child[0], signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{stack.url}/readyz", timeout=2).status_code == 200:
                break
        except httpx.HTTPError:
            time.sleep(0.2)

    wait_for_status(stack, session["sessionId"], "cleaned")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(session["dsn"])


def children(parent: int) -> list[tuple[int, str]]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append((int(entry.name), (entry / "cmdline").read_text()))
        except OSError:
            continue
    return found


def test_killed_as_a_whole_and_started_again_it_goes_on(stack: Stack) -> None:
    session = stack.create(ttl="10m")
    descendants = [pid for pid, _ in children(stack.process.pid)]
    stack.process.kill()
    stack.process.communicate(timeout=PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and any(Path(f"/proc/{p}/exe").exists() for p in descendants):
        time.sleep(0.1)

    port = int(stack.url.rpartition(":")[2])
    stack.process = start(stack.home, port, stack.agent_port, stack.gateway_port)

    assert stack.json("dana", "session", "show", session["sessionId"])["status"] == "ready"
    stack.gk("dana", "session", "revoke", session["sessionId"])
    assert "whole" in stack.gk("olga", "audit", "verify").stdout


def test_a_second_one_in_the_same_folder_is_refused(stack: Stack) -> None:
    done = subprocess.run(
        [*GK, "up", "--home", str(stack.home)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert "another Gatekeeper runs" in done.stderr


@pytest.mark.parametrize(
    ("option", "which"), [("--port", 0), ("--agent-port", 1), ("--gateway-port", 2)]
)
def test_a_taken_port_is_named_with_the_option_that_chooses_another(
    stack: Stack, tmp_path: Path, option: str, which: int
) -> None:
    ports = [str(free_port()), str(free_port()), str(free_port())]
    ports[which] = taken = (
        stack.url.rpartition(":")[2], str(stack.agent_port), str(stack.gateway_port)
    )[which]  # fmt: skip
    home = str(tmp_path / "home")
    done = subprocess.run(
        [*GK, "up", "--home", home, "--port", ports[0], "--agent-port", ports[1],
         "--gateway-port", ports[2]],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert f"port {taken} cannot be used" in done.stderr
    assert f"choose with {option}" in done.stderr
    assert "Ready" not in done.stdout


@pytest.mark.slow
def test_a_machine_without_terminals_is_told_so_and_has_the_rest(tmp_path: Path) -> None:
    (tmp_path / "stack").mkdir()
    (tmp_path / "stack" / "recordings").write_text("a file, where the runner wants a folder")
    process = subprocess.Popen(
        [*GK, "up", "--home", str(tmp_path), "--port", str(free_port()), "--agent-port",
         str(free_port()), "--gateway-port", str(free_port())],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    said = ""
    while "Ctrl-C stops it" not in said and (line := process.stdout.readline()):
        said += line
    rest = stop(process)

    assert "No terminals on this machine: runner did not start" in said
    assert "/console" not in said
    assert "gk shell" not in said
    assert "Ready after" in said
    assert rest.endswith("Stopped.\n")


def test_colours_are_for_terminals_alone(stack: Stack) -> None:
    assert "\x1b[" not in stack.gk("dana", "target", "list").stdout


def test_it_stops_cleanly(stack: Stack) -> None:
    descendants = [pid for pid, _ in children(stack.process.pid)]

    said = stop(stack.process)

    assert said.endswith("Stopped.\n")
    assert stack.process.returncode == 0
    assert not any(Path(f"/proc/{pid}/exe").exists() for pid in descendants)
