"""`passctrl check`: for people, and for CI."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gatekeeper.entrypoints.passctrl.main import COMMANDS, app

PASSCTRL = (sys.executable, "-c", "from gatekeeper.entrypoints.passctrl.main import main; main()")
GK = (sys.executable, "-m", "gatekeeper", "forwardauth")


def run(*command: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environ}
    )


@pytest.mark.parametrize("program", [PASSCTRL, GK], ids=["passctrl", "gk"])
def test_a_good_configuration_is_nothing_to_mend(tmp_path: Path, program: tuple[str, ...]) -> None:
    (tmp_path / "c.yaml").write_text("server: {listen: {port: 9090}}\n")

    done = run(*program, "check", str(tmp_path / "c.yaml"))

    assert (done.returncode, done.stdout, done.stderr) == (0, "nothing to mend\n", "")


def test_what_is_wrong_is_for_people_on_stderr_and_for_programs_on_stdout(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("rules:\n  a: {descriptoin: x}\n")
    wrong = {"PASSCTRL_SERVER__LISTEN__PORT": "s3cret"}

    people = run(*PASSCTRL, "check", str(path), **wrong)
    programs = run(*PASSCTRL, "check", str(path), "--json", **wrong)

    assert (people.returncode, people.stdout) == (1, "")
    assert people.stderr.splitlines() == [
        "environment PASSCTRL_SERVER__LISTEN__PORT: server.listen.port: expected JSON",
        f"{path}:2: rules.a.descriptoin: this key is not known; did you mean 'description'?",
    ]
    assert (programs.returncode, programs.stderr) == (1, "")
    assert json.loads(programs.stdout) == {
        "valid": False,
        "problems": [
            {"place": "environment PASSCTRL_SERVER__LISTEN__PORT", "key": "server.listen.port",
             "message": "expected JSON"},
            {"place": f"{path}:2", "key": "rules.a.descriptoin", "message": "this key is not known",
             "near": "description"},
        ],
    }  # fmt: skip


ENDPOINT = """
endpoints:
  app:
    authentication: {allow: {authorization: [bearer]}}
    forwardProxyPolicy: {trustedProxyIPs: [%(peer)s]}
    rules: [{name: known}]
    responsePolicy: {pass: {headers: {%(headers)s}}}
rules:
  known:
    auth: [{match: [{type: %(kind)s, value: "%(value)s"}]}]
    conditions: {failWhen: ['%(condition)s']}
"""
GOOD = {
    "peer": "127.0.0.1", "headers": "X-User: a", "kind": "bearer", "value": "t0ken-t0ken",
    "condition": 'request.method == "GET"',
}  # fmt: skip


def told(folder: Path, **changed: str) -> str:
    path = folder / "c.yaml"
    path.write_text(ENDPOINT % (GOOD | changed))
    return CliRunner().invoke(app, ["check", str(path)]).stderr


def test_what_is_typed_well_is_told_nothing_of(tmp_path: Path) -> None:
    assert told(tmp_path) == ""


@pytest.mark.parametrize(
    ("key", "typed", "message"),
    [
        ("peer", "10.0.0.5/8", "such as 10.0.0.0/8 (0 after the prefix), or 'unix'"),
        ("peer", "localhost", "expected an address, or a network"),
        ("headers", "X-User: a, x-user: b", "the header 'x-user' stands here twice"),
        ("kind", "baerer", "header, query, cookie, jwt, none; did you mean 'bearer'?"),
        ("value", "${TOKEN}", "nothing is filled in here, this text itself would be let in"),
        ("value", "{{ secrets.token }}", "nothing is filled in here"),
        ("condition", 'request.method = "GET"', "at: '= '; write =="),
        ("condition", 'request.method == "GET" and true', "write &&"),
    ],
)
def test_what_is_often_mistyped_is_told_with_what_to_write(
    tmp_path: Path, key: str, typed: str, message: str
) -> None:
    assert message in told(tmp_path, **{key: typed})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("cases: [{name: a, endpoint: app, request: {url: 'https://a/'}, expect: {outcome: pass}}]",
         "c.test.yaml:1: cases.0: case 'a' fails: expected outcome pass, got fail"),
        ("cases: [{nam: a}]", "c.test.yaml:1: cases.0.nam: this key is not known; did you mean 'name'?"),
    ],
)  # fmt: skip
def test_what_a_table_of_cases_keeps_out_is_told(tmp_path: Path, table: str, message: str) -> None:
    """Serving quarantines the endpoint, or does not begin; a reload takes nothing."""
    (tmp_path / "c.test.yaml").write_text(table)
    assert message in told(tmp_path)


def test_a_type_that_is_not_said_is_told_as_missing(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("rules: {a: {auth: [{match: [{value: x}]}]}}\n")

    said = run(*PASSCTRL, "check", str(tmp_path / "c.yaml")).stderr
    assert "rules.a.auth.0.match.0: the key 'type' is missing" in said


def test_a_folder_in_place_of_a_file_is_told_as_one(tmp_path: Path) -> None:
    assert run(*PASSCTRL, "check", str(tmp_path)).stderr == f"{tmp_path}: a folder, not a file\n"


def test_a_configuration_without_cases_says_where_they_would_be_read(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("rules: {}\n")

    done = run(*PASSCTRL, "test", str(tmp_path / "c.yaml"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("no case to run: c.test.yaml beside ")


def test_a_full_disk_is_no_defect(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("rules: {}\n")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PASSCTRL, "check", str(tmp_path / "c.yaml")],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip

    assert (done.returncode, done.stderr) == (1, "error: No space left on device\n")


def test_the_version_is_told() -> None:
    assert run(*PASSCTRL, "--version").stdout == run(
        sys.executable, "-m", "gatekeeper", "--version"
    ).stdout.replace("gk", "passctrl")


def test_the_command_imports_nothing_of_another_plane(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("rules: {}\n")
    program = (
        "import sys\nfrom gatekeeper.entrypoints.passctrl.main import app\n"
        f"try: app(['check', {str(tmp_path / 'c.yaml')!r}])\n"
        "except SystemExit: pass\n"
        "print(*sorted({n.split('.')[0] for n in sys.modules} & "
        "{'psycopg', 'fastapi', 'httpx', 'uvicorn', 'aiohttp', 'redis'}), "
        "*[n for n in sys.modules if n.startswith('gatekeeper.databases')])"
    )

    assert run(sys.executable, "-c", program).stdout == "nothing to mend\n\n"


def test_a_command_that_does_not_exist_names_the_nearest() -> None:
    done = run(*PASSCTRL, "chekc")

    assert done.returncode == 2
    assert "check" in done.stderr
    assert set(COMMANDS) >= {"check"}
