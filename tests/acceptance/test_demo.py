"""The tour: what it promises, also when it is interrupted, and what it leaves behind."""

import signal
import subprocess
import sys
import time
from pathlib import Path

DEMO = [sys.executable, "-m", "gatekeeper", "demo"]


def processes_of(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_text()
            except OSError:
                continue
            if str(folder) in command:
                found.append(command)
    return found


def test_the_tour_shows_the_main_job_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [*DEMO], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    for words in (
        "refused by the database: permission denied",
        "the server closed it:\n    terminating connection",
        "a new connection: password authentication failed",
        "any more",
        "cleaned (proven gone)",
        "whole: ",
        "BROKEN at event ",
        "No process and no file was left behind",
    ):
        assert words in done.stdout, done.stdout
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []


def test_the_tour_of_terminals_shows_what_it_promises_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [*DEMO, "terminals"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    for words in (
        "42 is the answer",
        "the ticket was used",
        "No such file or directory",
        "Read-only file system",
        "exit code 7",
        "nothing of it is left, and that is proven",
        "its time was over",
        "cleaned (proven gone)",
        "session.cast, all ",
        "BROKEN: ",
        "/console",
        "No process and no file was left behind",
    ):
        assert words in done.stdout, done.stdout
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []


def test_interrupted_half_way_it_leaves_nothing_either(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*DEMO], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "asks for a login" in line:
            break
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "Interrupted" in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []


def test_killed_it_leaves_no_process_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    process = subprocess.Popen([*DEMO], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "Starting the target" in line:
            break
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and processes_of(tmp_path):
        time.sleep(0.1)

    assert processes_of(tmp_path) == []
    assert (tmp_path / ".demo").exists()
    again = subprocess.Popen([*DEMO], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert again.stdout is not None
    for line in again.stdout:
        if "asks for a login" in line:
            break
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=60)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_its_own_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")

    done = subprocess.run(
        [*DEMO, "--home", str(tmp_path)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "no demo folder" in done.stdout
    assert (tmp_path / "mine").read_text() == "precious"
