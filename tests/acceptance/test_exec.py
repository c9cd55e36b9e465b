"""`gk exec`: whatever ends the command, or gk, the login ends with it."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from acceptance.local_stack import GK, Stack

EXEC = [*GK, "exec", "-t", "pg-local", "-r", "app_read", "--"]


def program(folder: Path, text: str) -> list[str]:
    path = folder / "command.py"
    path.write_text(text)
    return [*EXEC, sys.executable, str(path)]


def begin(
    local: Stack, command: list[str], person: str = "dana", **variables: str
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command, env={**local.environment(person), **variables}, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip


def status_of(local: Stack, session: str) -> str:
    status: str = local.json("dana", "session", "show", session)["status"]
    return status


def how_many(local: Stack) -> int:
    return len(local.json("dana", "session", "list", "--all", "--limit", "200")["items"])


LISTENING = """
import os, signal, sys, time
def end(number, frame):
    print("got", signal.Signals(number).name, flush=True)
    sys.exit(42)
for name in ("SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1"):
    signal.signal(getattr(signal, name), end)
print(os.environ["GK_SESSION"], os.environ["PGPASSFILE"], flush=True)
while True:
    time.sleep(0.05)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1"])
def test_a_signal_to_gk_is_the_commands_and_so_is_the_exit_code(
    local: Stack, tmp_path: Path, name: str
) -> None:
    process = begin(local, program(tmp_path, LISTENING))
    assert process.stdout is not None
    session, password_file = process.stdout.readline().split()
    process.send_signal(getattr(signal, name))
    said, errors = process.communicate(timeout=60)

    assert said == f"got {name}\n"
    assert process.returncode == 42
    assert "Traceback" not in errors
    assert status_of(local, session) == "cleaned"
    assert not Path(password_file).parent.exists()


def test_what_is_typed_at_a_terminal_reaches_the_command_once(local: Stack, tmp_path: Path) -> None:
    counting = (
        "import os, signal, sys, time\n"
        "times = []\n"
        "signal.signal(signal.SIGINT, lambda *_: times.append(1))\n"
        "print(os.environ['GK_SESSION'], flush=True)\n"
        "while not times: time.sleep(0.05)\n"
        "time.sleep(0.5)\n"
        "print('interrupted', len(times), 'times', flush=True)\n"
    )
    command = program(tmp_path, counting)
    child, terminal = pty.fork()
    if child == 0:  # a copy of this process: whatever happens, it never goes on as one
        try:
            os.execve(command[0], command, local.environment("dana"))  # noqa: S606  # at a terminal
        finally:
            os._exit(127)
    said = read_until(terminal, "ses_", lines=1)
    while said.count("ses_") < 2:
        said += os.read(terminal, 1024).decode()
    os.write(terminal, b"\x03")
    said += read_until(terminal, "times")
    _, status = os.waitpid(child, 0)
    os.close(terminal)

    assert "interrupted 1 times" in said
    assert os.waitstatus_to_exitcode(status) == 0


def read_until(terminal: int, word: str, lines: int = 0) -> str:
    said = ""
    while word not in said or said.count("\n") < lines:
        said += os.read(terminal, 1024).decode()
    return said


@contextmanager
def held_server(url: str) -> Iterator[tuple[str, threading.Event, threading.Event]]:
    """Stand before the server, and hold what asks for a session until it is let go."""
    asked, go = threading.Event(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path.startswith("/sessions?"):
                asked.set()
                go.wait(timeout=60)
            headers = {k: v for k, v in self.headers.items() if k != "Host"}
            answer = httpx.post(url + self.path, content=body, headers=headers, timeout=60)
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked, go
    finally:
        go.set()
        server.shutdown()
        thread.join()
        server.server_close()


def token_of(local: Stack, person: str) -> str:
    (path,) = (local.home / "people" / person / "tokens").glob("*.json")
    token: str = json.loads(path.read_text())["identity"]
    return token


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_while_the_login_is_made_leaves_none_behind(
    local: Stack, tmp_path: Path, name: str
) -> None:
    marker = tmp_path / "ran"
    command = [*EXEC, "touch", str(marker)]
    with held_server(local.url) as (address, asked, go):
        process = begin(
            local, command, GATEKEEPER_SERVER=address, GATEKEEPER_TOKEN=token_of(local, "dana")
        )
        assert asked.wait(timeout=60)
        process.send_signal(getattr(signal, name))
        go.set()
        _, errors = process.communicate(timeout=60)

    assert process.returncode == 128 + getattr(signal, name), errors
    assert not marker.exists()
    session = next(word for word in errors.split() if word.startswith("ses_")).strip(";")
    assert status_of(local, session) == "cleaned"


def test_a_command_that_is_not_there_asks_for_no_login(local: Stack) -> None:
    before = how_many(local)
    done = local.gk("dana", *EXEC[3:-1], "--", "no-such-command", check=2)

    assert "no-such-command: command not found" in done.stderr
    assert how_many(local) == before


def test_a_command_that_cannot_start_ends_its_login(local: Stack, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF that is none")
    broken.chmod(0o755)
    private = tmp_path / "private"
    private.mkdir()
    process = begin(local, [*EXEC, str(broken)], XDG_RUNTIME_DIR=str(private))
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "Exec format error" in errors
    session = next(word for word in errors.split() if word.startswith("ses_")).strip(";")
    assert status_of(local, session) == "cleaned"
    assert list(private.iterdir()) == []


def test_the_password_stands_in_no_process(local: Stack, tmp_path: Path) -> None:
    looking = (
        "import os, pathlib, stat\n"
        "folder = pathlib.Path(os.environ['PGPASSFILE']).parent\n"
        "password = (folder / 'pass').read_bytes().rpartition(b':')[2]\n"
        "assert len(password) > 30\n"
        "assert stat.S_IMODE(folder.stat().st_mode) == 0o700\n"
        "assert {stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir()} == {0o600}\n"
        "for entry in pathlib.Path('/proc').glob('[0-9]*'):\n"
        "    for name in ('cmdline', 'environ'):\n"
        "        try: text = (entry / name).read_bytes()\n"
        "        except OSError: continue\n"
        "        assert password not in text, entry\n"
        "print('nowhere')\n"
    )
    done = local.gk("dana", *program(tmp_path, looking)[3:])

    assert done.stdout == "nowhere\n"


def test_variables_that_mean_another_database_do_not_reach_the_command(
    local: Stack, tmp_path: Path
) -> None:
    asking = (
        "import psycopg\nprint(psycopg.connect('').execute('select current_user').fetchone()[0])\n"
    )
    process = begin(
        local, program(tmp_path, asking), PGHOSTADDR="192.0.2.1", PGPASSWORD="wrong",
        PGSERVICE="elsewhere",
    )  # fmt: skip
    said, errors = process.communicate(timeout=60)

    assert said.startswith("gk_"), errors


def test_killed_with_9_the_login_ends_at_its_ttl(local: Stack, tmp_path: Path) -> None:
    command = program(tmp_path, LISTENING)
    command[command.index("--") : command.index("--")] = ["--ttl", "3s"]
    process = begin(local, command)
    assert process.stdout is not None
    session = process.stdout.readline().split()[0]
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while status_of(local, session) != "cleaned" and time.monotonic() < deadline:
        time.sleep(0.2)

    assert status_of(local, session) == "cleaned"
