"""Where somebody new stumbles: each is told what to do next, or does not stumble at all."""

import subprocess
from pathlib import Path

import pytest

from acceptance.local_stack import GK, Stack
from gatekeeper.entrypoints.operate.up import _next_steps


def test_a_reader_that_has_seen_enough_hears_no_complaint(local: Stack) -> None:
    # The pipe's end is closed before anything is written to it.
    done = subprocess.run(
        ["/bin/bash", "-c", '"$@" | exec true; echo "${PIPESTATUS[0]}"', "-", *GK, "target", "list"],
        env=local.environment("dana"), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip

    assert done.stdout.strip() in {"0", "141"}
    assert done.stderr == ""


def test_a_command_that_is_run_keeps_its_own_options_also_without_the_two_dashes(
    local: Stack,
) -> None:
    done = local.gk("dana", "exec", "-t", "pg-local", "-r", "app_read", "sh", "-c", "echo $PGUSER")

    assert done.stdout.startswith("gk_")


def test_tables_leave_no_blanks_at_the_end_of_a_line(local: Stack) -> None:
    lines = local.gk("dana", "target", "list").stdout.splitlines()

    assert [line for line in lines if line != line.rstrip()] == []


def test_a_new_session_says_how_it_is_ended(local: Stack) -> None:
    done = local.gk("dana", "session", "create", "-t", "pg-local", "-r", "app_read", "--ttl", "1m")
    command = done.stderr.splitlines()[-1].partition(": gk ")[2]

    assert "proven" in local.gk("dana", *command.split()).stderr


def test_a_list_of_ended_sessions_shows_when_they_ended(local: Stack) -> None:
    session = local.create(ttl="31m")
    local.gk("dana", "session", "revoke", session["sessionId"])
    view = local.json("dana", "session", "show", session["sessionId"])
    listed = local.gk("dana", "session", "list", "--all").stdout

    row = next(line for line in listed.splitlines() if session["sessionId"] in line)
    assert view["endedAt"][14:19] in row  # minutes and seconds are those of every time zone
    assert view["expiresAt"][14:19] not in row


@pytest.mark.parametrize(
    "command", [("audit", "verify"), ("reconcile", "--plan"), ("target", "doctor", "pg-local")]
)
def test_who_is_no_operator_is_told_what_to_do(local: Stack, command: tuple[str, ...]) -> None:
    said = local.gk("dana", *command, check=4).stderr

    assert "operators" in said
    assert "try: gk login" in said


def test_who_is_not_logged_in_is_told_where_to(local: Stack) -> None:
    said = local.gk("dana", "--server", "http://127.0.0.1:1", "whoami", check=3).stderr

    assert said.strip().endswith("run gk login --server http://127.0.0.1:1")


def test_who_names_no_target_is_told_how_to_find_one(local: Stack) -> None:
    said = local.gk("dana", "session", "create", "--role", "app_read", check=2).stderr

    assert "gk target list" in said


def test_a_demo_in_a_folder_of_somebody_else_is_no_defect(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    done = subprocess.run(
        [*GK, "demo", "--home", str(tmp_path / "file" / "demo")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert "Not a directory" in done.stderr
    assert "defect" not in done.stderr


def test_up_says_how_gk_is_found_where_the_shell_does_not_find_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [str(tmp_path / "bin" / "gk"), "up"])
    monkeypatch.setenv("PATH", str(tmp_path))
    unknown = _next_steps(tmp_path, "http://127.0.0.1:4000")
    (tmp_path / "gk").touch(0o755)
    known = _next_steps(tmp_path, "http://127.0.0.1:4000")

    assert f"  export PATH={tmp_path / 'bin'}:$PATH\n" in unknown
    assert "PATH" not in known
