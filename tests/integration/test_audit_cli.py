"""`gk audit` and `gk migrate` as their users type them, over the real thing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from test_api import Api, api, body
from typer.testing import CliRunner, Result

from gatekeeper.client import operations
from gatekeeper.entrypoints.gk import root
from gatekeeper.entrypoints.operate.toml import write_toml
from gatekeeper.platform.crypto.signing import SigningKey
from gatekeeper.platform.postgres.embedded import EmbeddedServer

__all__ = ["api"]

GK = [sys.executable, "-m", "gatekeeper"]
PATIENCE_SECONDS = 60


def gk(api: Api, *arguments: str, code: int = 0, given: bytes = b"") -> Result:
    done = CliRunner().invoke(root, arguments, env=environment(api), input=given)
    assert done.exit_code == code, done.output
    assert isinstance(done.exception, SystemExit | None)
    return done


def environment(api: Api) -> dict[str, str]:
    return {
        "GATEKEEPER_SERVER": api.url, "GATEKEEPER_HOME": str(api.folder / "home"),
        "GATEKEEPER_TOKEN": api.token("olga", "eng", "operators").reveal(),
    }  # fmt: skip


@pytest.fixture(scope="module")
def export(api: Api) -> Path:
    """One session's life, exported by the command."""
    with api.client("olga", "eng", "operators") as client:
        made = client.call(operations.create_session(body(), idempotency_key="cli", wait=20))
        client.call(operations.revoke_session(made.session_id, wait=20))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not client.call(operations.audit_events(session=made.session_id)).items[3:]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    path = api.folder / "evidence.jsonl"
    said = gk(api, "audit", "export", "-o", str(path)).stderr
    assert f"lines in {path}" in said
    assert not path.with_name("evidence.jsonl.part").exists()
    return path


@pytest.fixture(scope="module")
def keys(api: Api) -> tuple[str, ...]:
    """Public keys, as somebody noted them when the installation was made."""
    for name in ("evidence", "agent"):
        public = SigningKey.load(api.folder / "keys" / f"{name}.jwk").public_jwk()
        (api.folder / f"{name}.public").write_text(public)
    assert api.runner is not None
    (api.folder / "runner.public").write_text(api.runner.public_key)
    return (
        "--public-key", str(api.folder / "evidence.public"),
        "--agent-key", str(api.folder / "agent.public"),
        "--runner-key", str(api.folder / "runner.public"),
    )  # fmt: skip


def verdict(done: Result) -> Any:
    return json.loads(done.stdout)


def test_an_export_is_verified_without_a_server(
    api: Api, export: Path, keys: tuple[str, ...]
) -> None:
    offline = replace(api, url="http://127.0.0.1:9")

    done = gk(offline, "audit", "verify", "--export", str(export), *keys)
    found = verdict(gk(offline, "audit", "verify", "--export", str(export), *keys, "--json"))

    assert done.stdout.startswith("whole: ")
    assert done.stderr == ""
    assert found["whole"]
    assert found["receipts"] == 2
    assert found["agentKeyIds"] == [SigningKey.load(api.folder / "keys" / "agent.jwk").key_id]


def test_keys_that_came_with_the_export_are_called_that(api: Api, export: Path) -> None:
    said = gk(api, "audit", "verify", "--export", str(export)).stderr

    assert "--public-key" in said
    assert "--agent-key" in said
    assert "--runner-key" in said


def test_a_touched_export_is_broken_and_named_with_what_is_still_good(
    api: Api, export: Path, keys: tuple[str, ...]
) -> None:
    lines = export.read_bytes().splitlines(keepends=True)
    place = next(n for n, line in enumerate(lines) if b'"session.ready"' in line)
    seq = json.loads(lines[place])["seq"]
    lines[place] = lines[place].replace(b"app_read", b"app_reed")
    touched = b"".join(lines)

    done = gk(api, "audit", "verify", "--export", "-", *keys, code=1, given=touched)
    found = gk(api, "audit", "verify", "--export", "-", *keys, "--json", code=1, given=touched)

    assert done.stdout.startswith(f"BROKEN at event {seq}: its hash does not fit")
    assert "whole and signed" in done.stderr
    assert verdict(found)["firstBroken"]["seq"] == seq


def test_a_checkpoint_that_was_kept_is_looked_for_online(api: Api, export: Path) -> None:
    lines = export.read_bytes().splitlines()
    kept, false = api.folder / "kept", api.folder / "false"
    kept.write_bytes(lines[-1])
    fields = json.loads(lines[-1]) | {"size": 10**9}
    false.write_bytes(json.dumps(fields, separators=(",", ":")).encode())

    assert gk(api, "audit", "verify", "--checkpoint", str(kept)).stdout.startswith("whole: ")
    assert "rest is gone" in gk(api, "audit", "verify", "--checkpoint", str(false), code=1).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--export", "/nonexistent"), "/nonexistent: No such file"),
        (("--export", "/"), "/: Is a directory"),
        (("--export", __file__), "no export of the evidence"),
        (("--export", "{export}", "--public-key", "{export}"), "the server's key"),
        (("--export", "{export}", "--agent-key", "{export}"), "the agent's key"),
        (("--export", "{export}", "--checkpoint", __file__), "there is no checkpoint in it"),
        (("--export", "{export}", "--public-key", sys.executable), "cannot be read as text"),
    ],
)
def test_wrong_input_is_a_usage_error_with_words(
    api: Api, export: Path, arguments: tuple[str, ...], words: str
) -> None:
    given = [argument.replace("{export}", str(export)) for argument in arguments]

    assert words in gk(api, "audit", "verify", *given, code=2).stderr


@pytest.mark.usefixtures("export")
def test_the_newest_events_are_shown_and_followed(api: Api) -> None:
    session = gk(api, "audit", "tail", "-n", "1").stdout
    assert len(session.splitlines()) == 1
    with subprocess.Popen(
        [*GK, "audit", "tail", "-n", "1", "--follow", "--json"], env={**os.environ, **environment(api)},
        stdout=subprocess.PIPE, text=True,
    ) as following:  # fmt: skip
        assert following.stdout is not None
        first = json.loads(following.stdout.readline())
        out = gk(api, "audit", "export", "-o", "-").stdout
        later = [json.loads(line) for line in _until(following.stdout, "evidence.exported")]
        following.send_signal(signal.SIGINT)
        assert following.wait(PATIENCE_SECONDS) == 0

    assert json.loads(out.splitlines()[0])["type"] == "header"
    assert next(event["seq"] for event in later) == first["seq"] + 1


def _until(lines: Iterator[str], kind: str) -> Iterator[str]:
    for line in lines:
        yield line
        if kind in line:
            return


def test_what_is_not_there_is_said(api: Api) -> None:
    nobody = gk(api, "audit", "tail", "--session", "ses_" + "a" * 20)
    nowhere = gk(api, "audit", "export", "-o", "/nonexistent/file", code=2)

    assert "no such event" in nobody.stderr
    assert "/nonexistent/file: No such file" in nowhere.stderr
    assert verdict(gk(api, "audit", "export", "-o", str(api.folder / "e"), "--json"))["lines"] > 1


def test_migrating_as_the_owner_makes_the_login_that_control_planes_work_with(
    server_18: EmbeddedServer, tmp_path: Path
) -> None:
    with psycopg.connect(server_18.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE cli_store")
    owner = server_18.dsn("cli_store")
    login = make_conninfo(owner, user="cli_control_plane", password="of-this-test")
    config = tmp_path / "cp.toml"
    write_toml(
        config,
        {
            "store_dsn": login, "public_url": "http://127.0.0.1:1", "key_folder": str(tmp_path),
            "policy": "p",
        },
    )  # fmt: skip

    def migrate(dsn: str, *options: str) -> Result:
        arguments = ["migrate", "--config", str(config), *options]
        return CliRunner().invoke(root, arguments, env={"GATEKEEPER_OWNER_DSN": dsn})

    first = migrate(owner)
    again = migrate(owner)
    same = migrate(login)
    in_json = json.loads(migrate(owner, "--json").stdout)

    assert "applied 0005_pre_application_role" in first.stdout
    assert again.stdout == "nothing to do\n"
    assert in_json == {"applied": []}
    assert (same.exit_code, "does not own the store's tables" in same.stderr) == (2, True)
    with psycopg.connect(login) as store:
        assert store.execute("SELECT count(*) FROM gatekeeper.session").fetchone() == (0,)
    with psycopg.connect(server_18.dsn(), autocommit=True) as admin:
        admin.execute("DROP DATABASE cli_store WITH (FORCE)")
