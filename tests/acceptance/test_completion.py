"""Completion in the shells themselves, with live names."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from acceptance.local_stack import Stack, unmeasured

# One shell loads the script and completes one line after the other.
BASH = """
source <({program} completion bash)
for line in {lines}; do
    COMP_WORDS=($line ''); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
    _{program}_completion {program}
    printf '%s\\n' "${{COMPREPLY[@]}}" '<end>'
done
"""
FISH = """
{program} completion fish | source
for line in {lines}
    complete -C "$line "
    echo '<end>'
end
"""
# zsh hands what can stand there to _arguments; we look at what it is handed.
ZSH = """
autoload -Uz compinit; compinit -u -d $HOME/dump
source <({program} completion zsh)
_arguments() {{ print -r -- "$@" }}
_files() {{ }}
for line in {lines}; do
    words=(${{=line}} ''); CURRENT=$#words
    _{program}_completion
    print -r '<end>'
done
"""
SHELLS = {"bash": ["bash", "-c"], "fish": ["fish", "-c"], "zsh": ["zsh", "-f", "-c"]}
SCRIPTS = {"bash": BASH, "fish": FISH, "zsh": ZSH}


@pytest.fixture(params=list(SHELLS))
def shell(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    return name


def complete(local: Stack, folder: Path, shell: str, *lines: str, **more: str) -> list[str]:
    """Return what each line, all of one program, is completed with."""
    (program,) = {line.split(maxsplit=1)[0] for line in lines}
    environment = unmeasured(local.environment("dana")) | {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(folder), **more,
    }  # fmt: skip
    script = SCRIPTS[shell].format(lines=" ".join(f"'{line}'" for line in lines), program=program)
    done = subprocess.run(
        [*SHELLS[shell], script],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    *found, rest = done.stdout.split("<end>\n")
    assert (len(found), rest) == (len(lines), "")
    return found


def test_commands_are_completed(local: Stack, tmp_path: Path, shell: str) -> None:
    commands, of_sessions = complete(local, tmp_path, shell, "gk", "gk session")

    assert "whoami" in commands
    assert "extend" in of_sessions


def test_the_commands_of_forward_auth_are_completed_under_either_name(
    local: Stack, tmp_path: Path, shell: str
) -> None:
    (longer,) = complete(local, tmp_path, shell, "gk forwardauth")
    shorter, proxies = complete(local, tmp_path, shell, "passctrl", "passctrl init --proxy")

    assert "explain" in longer
    assert "explain" in shorter
    assert "traefik" in proxies


def test_targets_roles_and_sessions_are_completed_live(
    local: Stack, tmp_path: Path, shell: str
) -> None:
    session = local.create()["sessionId"]

    targets, roles, live = complete(
        local, tmp_path, shell,
        "gk session create --target", "gk session create -t pg-local --role", "gk session revoke",
    )  # fmt: skip
    assert "pg-local" in targets
    assert "app_write" in roles
    assert "app_admin" not in roles
    assert session in live

    local.gk("dana", "session", "revoke", session)
    live, known = complete(local, tmp_path, shell, "gk session revoke", "gk session show")
    assert session not in live
    assert session in known


def test_profiles_and_terminals_are_completed_live(
    local: Stack, tmp_path: Path, shell: str
) -> None:
    terminal = local.json("dana", "terminal", "create")["terminalId"]

    profiles, live = complete(
        local, tmp_path, shell, "gk shell --terminal-profile", "gk terminal attach"
    )
    assert "command" in profiles
    assert terminal in live

    local.gk("dana", "terminal", "stop", terminal)
    live, known = complete(local, tmp_path, shell, "gk terminal attach", "gk terminal show")
    assert terminal not in live
    assert terminal in known


def test_a_server_that_is_away_is_met_with_silence(
    local: Stack, tmp_path: Path, shell: str
) -> None:
    away = "gk --server http://127.0.0.1:9 session create --target"
    there = "gk session create --target"
    before = time.monotonic()

    assert "pg-local" not in complete(local, tmp_path, shell, away)[0]
    assert "pg-local" not in complete(local, tmp_path, shell, there, GATEKEEPER_TOKEN="none")[0]
    assert time.monotonic() - before < 60
