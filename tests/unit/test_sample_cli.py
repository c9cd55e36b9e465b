"""The sample program: whom it asks, what it shows, and that it packs into the same bytes."""

import ast
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

SAMPLE = Path(__file__).parents[2] / "examples" / "sample-cli"
STAGES = ("1/4 looking around", "2/4 reading the question", "3/4 asking", "4/4 writing the answer")


def ask(path: Path, *question: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ANTHROPIC")}
    return subprocess.run(
        [sys.executable, str(SAMPLE / "ask.py"), *question],
        env={**kept, "PATH": str(path), "PYTHONUTF8": "1", **variables},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def claude(path: Path, script: str) -> Path:
    (path / "claude").write_text(f"#!/bin/sh\n{script}\n")
    (path / "claude").chmod(0o755)
    return path


@contextmanager
def api(status: int, answer: Any) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append({"path": self.path, "key": self.headers["x-api-key"], **json.loads(body)})
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()


def test_it_asks_the_claude_cli_where_there_is_one(tmp_path: Path) -> None:
    done = ask(claude(tmp_path, 'echo "you asked: $2"'), "why", "so", "blue?")

    assert done.returncode == 0, done.stderr
    assert "answer, by the claude CLI" in done.stdout
    assert "you asked: why so blue?" in done.stdout
    assert [stage for stage in STAGES if f"✓ {stage}" not in done.stdout] == []


def test_without_it_the_api_is_asked(tmp_path: Path) -> None:
    with api(200, {"content": [{"type": "text", "text": "because"}]}) as (url, asked):
        done = ask(tmp_path, "why?", ANTHROPIC_API_KEY="sk-test", ANTHROPIC_BASE_URL=url)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "because" in done.stdout
    assert [(one["path"], one["key"]) for one in asked] == [("/v1/messages", "sk-test")]
    assert asked[0]["messages"] == [{"role": "user", "content": "why?"}]


def test_with_neither_it_says_so_plainly(tmp_path: Path) -> None:
    done = ask(tmp_path)

    assert done.returncode == 3
    assert "there is no `claude` on PATH, and ANTHROPIC_API_KEY is not set" in done.stdout
    assert "Traceback" not in done.stderr


def test_who_does_not_answer_is_named(tmp_path: Path) -> None:
    broken = ask(claude(tmp_path, "echo no credit >&2; exit 9"))
    (tmp_path / "claude").unlink()
    with api(529, {}) as (url, _):
        busy = ask(tmp_path, ANTHROPIC_API_KEY="sk-test", ANTHROPIC_BASE_URL=url)

    assert (broken.returncode, "No answer: no credit" in broken.stdout) == (1, True)
    assert (busy.returncode, "No answer: the API answered 529" in busy.stdout) == (1, True)
    assert "sk-test" not in busy.stdout + busy.stderr


def pack(path: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(SAMPLE / "pack.py"), str(path)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_it_packs_into_the_same_bytes_and_brings_what_it_needs(tmp_path: Path) -> None:
    digest = pack(tmp_path / "one.tar.gz")
    bundle = (tmp_path / "one.tar.gz").read_bytes()

    assert pack(tmp_path / "two.tar.gz") == digest == hashlib.sha256(bundle).hexdigest()
    with tarfile.open(fileobj=io.BytesIO(bundle)) as archive:
        names = archive.getnames()
        archive.extractall(tmp_path / "unpacked", filter="data")
    assert {"ask.py", "install.py", "vendor/rich/progress.py"} <= set(names)
    run = [sys.executable, "-S", "-E"]  # nothing that is installed
    for program in ("install.py", "ask.py"):
        done = subprocess.run(
            [*run, program], cwd=tmp_path / "unpacked", env={"PATH": "", "PYTHONUTF8": "1"},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
    assert "no `claude` on PATH" in done.stdout


@pytest.mark.parametrize("file", ["ask.py", "install.py"])
def test_it_needs_no_newer_python_than_it_says(file: str) -> None:
    ast.parse((SAMPLE / file).read_text(), feature_version=(3, 9))
