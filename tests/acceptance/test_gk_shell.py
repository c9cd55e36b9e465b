"""`gk shell` and `gk terminal` over the real stack: what is typed, shown, recorded, and gone."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from acceptance.local_stack import GK, Stack
from acceptance.sample_bundle import sample, served

SHELL = [*GK, "shell"]
SECONDS = 30.0


def piped(
    local: Stack, *arguments: str, text: str | None = None, check: int = 0
) -> "subprocess.CompletedProcess[bytes]":
    done = subprocess.run(
        [*GK, *arguments], env=local.environment("dana"), timeout=90, capture_output=True,
        input=(text or "").encode(), check=False,
    )  # fmt: skip
    assert done.returncode == check, done.stdout + done.stderr
    assert b"Traceback" not in done.stderr
    return done


class Typist:
    """Somebody at a terminal with `gk` in it."""

    def __init__(self, local: Stack, *arguments: str) -> None:
        self.said = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(GK[0], [*GK, *arguments], local.environment("dana"))  # noqa: S606
        self.resize(24, 80)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def types(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def sees(self, pattern: str) -> "re.Match[str]":
        deadline = time.monotonic() + SECONDS
        while (found := re.search(pattern, self.said)) is None:
            ready, _, _ = select.select([self.fd], [], [], deadline - time.monotonic())
            assert ready, f"no {pattern!r} in {self.said!r}"
            try:
                self.said += os.read(self.fd, 65_536).decode(errors="replace")
            except OSError as error:
                raise AssertionError(self.said) from error
        self.said = self.said[found.end() :]
        return found

    def leaves_with(self) -> int:
        """Read until gk ends; return its exit code."""
        while True:
            try:
                data = os.read(self.fd, 65_536)
            except OSError:
                data = b""
            if not data:
                break
            self.said += data.decode(errors="replace")
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)


@contextmanager
def typing(local: Stack, *arguments: str) -> Iterator[Typist]:
    typist = Typist(local, *arguments)
    try:
        yield typist
    finally:
        if typist.pid:
            os.kill(typist.pid, signal.SIGKILL)
            typist.leaves_with()


def status_of(local: Stack, terminal: str) -> str:
    view: dict[str, Any] = local.json("dana", "terminal", "show", terminal)
    return str(view["status"])


def gone(local: Stack, terminal: str) -> None:
    deadline = time.monotonic() + SECONDS
    while status_of(local, terminal) != "cleaned":
        assert time.monotonic() < deadline
        time.sleep(0.2)


def newest(local: Stack) -> str:
    items = local.json("dana", "terminal", "list", "--all", "--limit", "1")["items"]
    return str(items[0]["terminalId"])


PROMPT = r"user@terminal.*\$ "


def test_a_shell_is_typed_in_resized_interrupted_and_ends_with_its_exit_code(local: Stack) -> None:
    with typing(local, "shell", "--ttl", "5m") as person:
        person.sees("Ctrl-]")
        person.sees(PROMPT)
        person.types("stty size; echo $TERM\n")
        person.sees(r"24 80\r\nxterm-256color")
        person.resize(31, 97)
        person.types("until [ \"$(stty size)\" = '31 97' ]; do sleep 0.1; done; echo as wi''de\n")
        person.sees("as wide")
        person.types("yes äöü→漢字\n")
        person.sees("äöü→漢字\r\näöü→漢字")
        person.types("\x03")
        person.sees(r"\^C")
        person.types("echo after $?; exit 3\n")
        person.sees(r"after 130")
        assert person.leaves_with() == 3
    gone(local, newest(local))


def test_the_detach_key_ends_it_and_gives_the_terminal_back_as_it_was(local: Stack) -> None:
    watching = (
        "import subprocess, sys, termios\n"
        "before = termios.tcgetattr(0)\n"
        "code = subprocess.run(sys.argv[1:]).returncode\n"
        "print('same' if termios.tcgetattr(0) == before else 'CHANGED', code)\n"
    )
    child, fd = pty.fork()
    if child == 0:
        command = [sys.executable, "-c", watching, *SHELL]
        os.execve(command[0], command, local.environment("dana"))  # noqa: S606  # at a terminal
    typist = Typist.__new__(Typist)
    typist.said, typist.pid, typist.fd = "", child, fd
    typist.sees(PROMPT)
    typist.types("printf '\\033[?1049h\\033[?25l'; echo in the other screen\n")
    typist.sees(r"\x1b\[\?25l.*in the other screen")
    typist.types("\x1d")
    typist.sees("same 0")
    typist.leaves_with()

    gone(local, newest(local))


def test_what_it_left_on_is_put_right(local: Stack) -> None:
    with typing(local, "shell", "--", "printf", r"\033[?1049h\033[?25l\033[?1006h") as person:
        assert person.leaves_with() == 0

    assert person.said.endswith("\x1b[?1006l\x1b[?1049l\x1b[?25h")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_to_gk_ends_the_terminal_too(local: Stack, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [*SHELL, "--", "sh", "-c", "echo begun; sleep 100"], env=local.environment("dana"),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)

    assert process.returncode == 128 + number, errors
    gone(local, newest(local))


def test_a_script_is_piped_in_and_text_comes_out(local: Stack) -> None:
    script = "printf '\\033[31mred\\033[0m\\n'\necho $((6 * 7))\nexit 5\n"

    said = piped(local, "shell", text=script, check=5).stdout.decode()

    assert "\x1b" not in said
    assert "\nred\n" in said
    assert "\n42\n" in said


def test_a_shell_ends_with_what_is_piped_in(local: Stack) -> None:
    piped(local, "shell", text="sleep 1; echo done")


@pytest.mark.parametrize(
    ("command", "code"), [("exit 0", 0), ("echo x; exit 42", 42), ("kill -9 $$", 137)]
)
def test_the_exit_code_is_the_commands(local: Stack, command: str, code: int) -> None:
    done = piped(local, "shell", "--", "sh", "-c", command, check=code)
    assert b"dropped" not in done.stderr


def test_every_byte_comes_once_also_when_the_gateway_is_killed_meanwhile(local: Stack) -> None:
    # 0.8 MB in about 2 s; a runner keeps 1 MiB for those who come back.
    writing = "for i in $(seq 1 20); do seq 1 7000; sleep 0.1; done; exit 9"
    process = subprocess.Popen(
        [*SHELL, "--raw", "--", "bash", "-c", writing], env=local.environment("dana"),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
    )  # fmt: skip
    assert process.stdout is not None
    begin = b""
    while len(begin) < 200_000:
        begin += process.stdout.read(65_536)
    for gateway in gateways(local):
        os.kill(gateway, signal.SIGKILL)
    rest, errors = process.communicate(timeout=60)

    expected = "".join(f"{i}\r\n" for i in range(1, 7001)) * 20
    assert process.returncode == 9, errors
    assert begin + rest == expected.encode()


def test_what_it_wrote_while_gk_was_cut_off_at_its_end_is_drawn_from_the_recording(
    local: Stack,
) -> None:
    """The gateway stands still from before the last output until there is no terminal any more."""
    last = "echo begun; read -r go; seq 1 5000; echo café; exit 9"
    process = subprocess.Popen(
        [*SHELL, "--raw", "--", "bash", "-c", last], env=local.environment("dana"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
    )  # fmt: skip
    assert process.stdout is not None
    begin = b""
    while b"begun\r\n" not in begin:
        begin += process.stdout.read(65_536)
    terminal, standing = newest(local), gateways(local)
    try:
        for gateway in standing:
            os.kill(gateway, signal.SIGSTOP)
        local.gk("dana", "terminal", "input", terminal, "go")
        gone(local, terminal)
    finally:
        for gateway in standing:
            os.kill(gateway, signal.SIGKILL)
    rest, errors = process.communicate(timeout=60)

    numbers = "".join(f"{i}\r\n" for i in range(1, 5001))
    assert process.returncode == 9, errors
    assert (begin + rest).decode() == f"begun\r\ngo\r\n{numbers}café\r\n"


def gateways(local: Stack) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if f"{local.home}/stack/gateway.toml".encode() in command:
            found.append(int(entry.name))
    assert found
    return found


def test_its_time_passes_and_gk_says_so(local: Stack) -> None:
    done = piped(local, "shell", "--ttl", "2s", "--", "sleep", "60", check=7)

    assert b"its time was over" in done.stderr
    gone(local, newest(local))


def test_programs_type_look_and_wait_without_attaching(local: Stack) -> None:
    create = ("terminal", "create", "--ttl", "5m", "--json", "--", "bash", "--norc")
    terminal = json.loads(local.gk("dana", *create).stdout)["terminalId"]
    local.gk("dana", "terminal", "input", terminal, "echo $((1000 + 234))")
    local.gk("dana", "terminal", "wait", terminal, "1234", "--seconds", "20")
    local.gk("dana", "terminal", "wait", terminal, "never", "--seconds", "0", check=7)

    assert "1234" in local.gk("dana", "terminal", "screen", terminal).stdout
    assert terminal in local.gk("dana", "terminal", "list").stdout
    refused = local.gk("olga", "terminal", "attach", terminal, check=4).stderr
    assert "mode read watches it" in refused
    assert "--read and --take" in refused
    shared = local.gk("olga", "terminal", "share", terminal, check=4).stderr
    assert "only whoever asked for a terminal shares it" in shared
    local.gk("olga", "terminal", "stop", terminal)
    assert status_of(local, terminal) == "cleaned"
    assert "Traceback" not in local.gk("dana", "terminal", "attach", terminal, check=1).stderr


def test_it_is_kept_and_come_back_to_where_it_was(local: Stack) -> None:
    with typing(local, "shell", "--keep") as person:
        person.sees(PROMPT)
        person.types("echo remember $((40 + 2))\n")
        person.sees("remember 42")
        person.types("\x1d")
        terminal = person.sees(r"gk terminal attach (trm_\w+)")[1]
        assert person.leaves_with() == 0
    assert status_of(local, terminal) == "ready"

    with typing(local, "terminal", "attach", "--read", terminal) as watcher:
        watcher.sees("remember 42")
        watcher.types("echo not typed\n\x03")
        assert watcher.leaves_with() == 0
    with typing(local, "terminal", "attach", terminal) as person:
        person.sees("remember 42")
        person.types("exit 4\n")
        assert person.leaves_with() == 4
        assert "not typed" not in person.said


def test_a_recording_is_played_and_held_against_the_evidence(local: Stack, tmp_path: Path) -> None:
    piped(local, "shell", "--", "printf", r"\033]52;c;ZXZpbA==\007caf\303\251\n")
    terminal = newest(local)
    gone(local, terminal)
    cast = tmp_path / "session.cast"
    local.gk("dana", "terminal", "download", terminal, "-o", str(cast))

    assert "café" in local.gk("dana", "terminal", "play", str(cast)).stdout
    assert json.loads(cast.read_text().splitlines()[0])["version"] == 3
    report = local.json("olga", "audit", "verify", "--recording", str(cast))
    assert report["recording"] == {
        "file": str(cast), "terminalId": terminal, "segments": 1, "whole": True,
    }  # fmt: skip
    cast.write_bytes(cast.read_bytes().replace("café".encode(), b"cave", 1))
    checked = local.gk(
        "olga", "audit", "verify", "--recording", str(cast), "--terminal", terminal, check=1
    )
    assert "BROKEN" in checked.stdout


def test_the_sample_is_fetched_verified_installed_and_run_in_view(
    local: Stack, tmp_path: Path
) -> None:
    digest = sample(tmp_path)
    command = ("--", "sh", "-c", "PATH=$PWD:$PATH python3 ask.py why so blue?")
    with served(tmp_path) as url:
        bundle = ("shell", "--bundle", f"{url}/sample.tar.gz", "--install", "python3 install.py")
        said = piped(local, *bundle, "--sha256", digest, *command).stdout.decode()
        other = piped(local, *bundle, "--sha256", "0" * 64, *command, check=1)

    shown = [
        "Fetched", "SHA-256 verified", "Unpacked", "brings along: rich", "ready",
        "1/3 looking for somebody", "by the claude CLI", "you asked: why so blue?", "3/3 writing the answer down",
    ]  # fmt: skip
    places = [said.find(words) for words in shown]
    assert -1 not in places, said
    assert places == sorted(places), said
    assert b"is refused" in other.stdout
    assert b"looking for somebody" not in other.stdout
    assert b"its bundle was refused" in other.stderr
    refused, whole = local.json("dana", "terminal", "list", "--all", "--limit", "2")["items"]
    assert (refused["ending"], whole["bundleSha256"]) == ("bundle_refused", digest)
    view = local.json("dana", "terminal", "show", whole["terminalId"])
    stages = [one["stage"] for one in sorted(view["stages"], key=lambda one: one["at"])]
    assert "first_byte" in stages  # of whichever step writes first
    assert [stage for stage in stages if stage != "first_byte"] == [
        "queued", "scheduled", "started", "fetched", "verified", "installed",
    ]  # fmt: skip


def test_a_command_has_a_database_login_that_ends_with_it(local: Stack) -> None:
    asking = "psql -Atc 'select current_user, count(*) > 0 from orders'; env | grep -ci password"
    said = piped(
        local, "shell", "-t", "pg-local", "-r", "app_read", "--", "sh", "-c", asking, check=1
    ).stdout.decode()

    login = said.partition("|")[0].strip()
    assert said == f"{login}|t\n0\n"
    view = local.json("dana", "terminal", "show", newest(local))
    session = local.json("dana", "session", "show", view["database"]["sessionId"])
    assert session["username"] == login
    deadline = time.monotonic() + SECONDS
    while session["status"] != "cleaned" and time.monotonic() < deadline:
        session = local.json("dana", "session", "show", session["sessionId"])
    assert session["status"] == "cleaned"


def test_what_is_asked_for_wrongly_is_told_before_anything_runs(local: Stack) -> None:
    assert "both" in local.gk("dana", "shell", "--target", "pg-local", check=2).stderr
    assert "--bundle" in local.gk("dana", "shell", "--sha256", "0" * 64, check=2).stderr
    unknown = local.gk("dana", "shell", "-p", "shel", check=5).stderr
    assert "did you mean 'shell'" in unknown
    assert "1h" in local.gk("dana", "shell", "--ttl", "3h", check=4).stderr
