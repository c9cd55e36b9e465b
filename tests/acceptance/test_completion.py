"""Completion in the shells themselves, with live names."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from acceptance.local_stack import Stack

BASH = """
source <({program} completion bash)
COMP_WORDS=({words} ''); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_{program}_completion {program}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
FISH = """
{program} completion fish | source
complete -C '{words} '
"""
# zsh hands what can stand there to _arguments; we look at what it is handed.
ZSH = """
autoload -Uz compinit; compinit -u -d $HOME/dump
source <({program} completion zsh)
_arguments() {{ print -r -- "$@" }}
_files() {{ }}
words=({words} ''); CURRENT=$#words
_{program}_completion
"""
SHELLS = {"bash": ["bash", "-c"], "fish": ["fish", "-c"], "zsh": ["zsh", "-f", "-c"]}
SCRIPTS = {"bash": BASH, "fish": FISH, "zsh": ZSH}


@pytest.fixture(params=list(SHELLS))
def shell(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    return name


def complete(local: Stack, folder: Path, shell: str, words: str, **more: str) -> str:
    environment = local.environment("dana") | {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(folder), **more,
    }  # fmt: skip
    done = subprocess.run(
        [*SHELLS[shell], SCRIPTS[shell].format(words=words, program=words.split(maxsplit=1)[0])],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


def test_commands_are_completed(local: Stack, tmp_path: Path, shell: str) -> None:
    assert "whoami" in complete(local, tmp_path, shell, "gk")
    assert "extend" in complete(local, tmp_path, shell, "gk session")


def test_the_commands_of_forward_auth_are_completed_under_either_name(
    local: Stack, tmp_path: Path, shell: str
) -> None:
    assert "explain" in complete(local, tmp_path, shell, "gk forwardauth")
    assert "explain" in complete(local, tmp_path, shell, "passctrl")
    assert "traefik" in complete(local, tmp_path, shell, "passctrl init --proxy")


def test_targets_roles_and_sessions_are_completed_live(
    local: Stack, tmp_path: Path, shell: str
) -> None:
    session = local.create()["sessionId"]

    assert "pg-local" in complete(local, tmp_path, shell, "gk session create --target")
    roles = complete(local, tmp_path, shell, "gk session create -t pg-local --role")
    assert "app_write" in roles
    assert "app_admin" not in roles
    assert session in complete(local, tmp_path, shell, "gk session revoke")
    local.gk("dana", "session", "revoke", session)
    assert session not in complete(local, tmp_path, shell, "gk session revoke")
    assert session in complete(local, tmp_path, shell, "gk session show")


def test_a_server_that_is_away_is_met_with_silence(
    local: Stack, tmp_path: Path, shell: str
) -> None:
    line = "gk --server http://127.0.0.1:9 session create --target"
    before = time.monotonic()

    assert "pg-local" not in complete(local, tmp_path, shell, line)
    assert "pg-local" not in complete(
        local, tmp_path, shell, "gk session create --target", GATEKEEPER_TOKEN="none"
    )
    assert time.monotonic() - before < 60
