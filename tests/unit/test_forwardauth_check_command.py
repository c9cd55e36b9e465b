"""`passctrl check`: for people, and for CI."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gatekeeper.entrypoints.passctrl.main import COMMANDS

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
