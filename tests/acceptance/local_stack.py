"""`gk up` in a folder of its own, and people who are logged in at it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from gatekeeper.platform.processes.listening import free_port

GK = [sys.executable, "-m", "gatekeeper"]
START_SECONDS = 120
BROWSER = Path(__file__).parents[1] / "fakes" / "browser.py"


def unmeasured(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave out what has coverage measured there too: half of what a short command costs.

    For tests that type many commands, all of which others show.
    """
    return {k: v for k, v in environment.items() if not k.startswith("COVERAGE_PROCESS_")}


@dataclass
class Stack:
    home: Path
    url: str
    agent_port: int
    process: "subprocess.Popen[str]"
    gateway_port: int = 0

    def gk(
        self, person: str, *arguments: str, check: int = 0
    ) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [*GK, *arguments],
            env=self.environment(person),
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == check, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def json(self, person: str, *arguments: str) -> Any:
        return json.loads(self.gk(person, *arguments, "--json").stdout)

    def environment(self, person: str) -> dict[str, str]:
        return {
            **os.environ,
            "GATEKEEPER_HOME": str(self.home / "people" / person),
            "GATEKEEPER_SERVER": self.url,
        }

    def create(self, person: str = "dana", ttl: str = "5m", role: str = "app_read") -> Any:
        return self.json(
            person, "session", "create", "-t", "pg-local", "-r", role, "--ttl", ttl,
            "--reason", "test",
        )  # fmt: skip


def start(
    home: Path, port: int, agent_port: int, gateway_port: int | None = None
) -> "subprocess.Popen[str]":
    ports = {"--port": port, "--agent-port": agent_port,
             "--gateway-port": gateway_port or free_port()}  # fmt: skip
    process = subprocess.Popen(
        [*GK, "up", "--home", str(home), *(str(part) for pair in ports.items() for part in pair)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + START_SECONDS
    said = ""
    while time.monotonic() < deadline:
        line = process.stdout.readline() if process.stdout is not None else ""
        said += line
        if line.startswith("Ready"):
            return process
        if not line:
            break
    process.kill()
    process.wait()
    raise AssertionError(said)


def stop(process: "subprocess.Popen[str]", number: int = signal.SIGINT) -> str:
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    return said


def log_in(stack: Stack, person: str) -> None:
    """Log a person in, in a browser that presses the button with her name."""
    browser = f"{sys.executable} {BROWSER} {person} %s"
    done = subprocess.run(
        [*GK, "login"], env={**stack.environment(person), "BROWSER": browser},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"logged in as {person}@" in done.stderr


def log_in_by_device(stack: Stack, person: str) -> None:
    process = subprocess.Popen(
        [*GK, "login", "--device"],
        env=stack.environment(person),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = ""
    while "user_code=" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    url = next(word for word in said.split() if "user_code=" in word)
    answer = httpx.post(
        url.split("?")[0], data={"user_code": url.rpartition("=")[2], "user": person}
    )
    assert answer.status_code == 200
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 0, said + rest


@contextmanager
def running(home: Path) -> Iterator[Stack]:
    """Run a stack with dana, an engineer, and olga, an operator, logged in."""
    port, agent_port, gateway_port = free_port(), free_port(), free_port()
    process = start(home, port, agent_port, gateway_port)
    stack = Stack(home, f"http://127.0.0.1:{port}", agent_port, process, gateway_port)
    try:
        log_in(stack, "dana")
        log_in(stack, "olga")
        yield stack
    finally:
        if stack.process.poll() is None:
            stop(stack.process)
        if stack.process.stdout is not None:
            stack.process.stdout.close()
