"""The sample program: whom it asks, what it shows, and that it packs into the same bytes."""

import ast
import hashlib
import io
import json
import os
import pty
import select
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

SAMPLE = Path(__file__).parents[2] / "examples" / "sample-cli"
PATIENCE = 120
"""The SDK alone takes seconds to import on a busy machine."""
STAGES = ("1/3 looking for somebody to ask", "2/3 asking", "3/3 writing the answer down")
KEY = "sk-canary-of-the-sample"


def environment(path: Path, **variables: str) -> dict[str, str]:
    """Return this one without what would have another server asked."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("ANTHROPIC") and not name.lower().endswith("_proxy")
    }
    return {**kept, "PATH": str(path), "PYTHONUTF8": "1", **variables}


def ask(path: Path, *question: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(SAMPLE / "ask.py"), *question], env=environment(path, **variables),
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


def claude(path: Path, script: str) -> Path:
    (path / "claude").write_text(f"#!/bin/sh\n{script}\n")
    (path / "claude").chmod(0o755)
    return path


Play = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Api:
    """Stands in for the API at one end of a real socket; `play` answers a question."""

    play: Play
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)

    def variables(self) -> dict[str, str]:
        return {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": self.url}


@contextmanager
def api(play: Play) -> Iterator[Api]:
    stand_in = Api(play)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = str(self.headers)
            stand_in.asked.append({"path": self.path, "headers": headers, **json.loads(body)})
            self.close_connection = True
            stand_in.play(self)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        stand_in.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield stand_in
        finally:
            server.shutdown()


def refuses(status: int, answer: Any) -> Play:
    def play(request: BaseHTTPRequestHandler) -> None:
        data = json.dumps(answer).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    return play


def streams(
    *pieces: str,
    between: Callable[[], object] = lambda: None,
    stops: bool = True,
    cut: bool = False,
) -> Play:
    """Answer as the API does (server-sent events); `between` is called after the first piece.

    It may leave out the events that end an answer, or break the connection instead.
    """

    def play(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        message: dict[str, Any] = {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [],
            "stop_reason": None, "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }  # fmt: skip
        text = {"type": "text", "text": ""}
        _event(request, type="message_start", message=message)
        _event(request, type="content_block_start", index=0, content_block=text)
        for number, piece in enumerate(pieces):
            delta = {"type": "text_delta", "text": piece}
            _event(request, type="content_block_delta", index=0, delta=delta)
            if number == 0:
                between()
        if stops and not cut:
            _event(request, type="content_block_stop", index=0)
            end = {"stop_reason": "end_turn", "stop_sequence": None}
            _event(request, type="message_delta", delta=end, usage={"output_tokens": 2})
            _event(request, type="message_stop")
        if not cut:
            request.wfile.write(b"0\r\n\r\n")

    return play


def _event(request: BaseHTTPRequestHandler, **event: Any) -> None:
    data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
    request.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))


def test_it_asks_the_claude_cli_where_there_is_one(tmp_path: Path) -> None:
    done = ask(claude(tmp_path, 'echo "you asked: $2"'), "why", "so", "blue?")

    assert done.returncode == 0, done.stderr
    assert "answer, by the claude CLI" in done.stdout
    assert "you asked: why so blue?" in done.stdout
    assert [stage for stage in STAGES if f"✓ {stage}" not in done.stdout] == []


def test_without_it_the_sdk_asks_the_api(tmp_path: Path) -> None:
    with api(streams("be", "cause")) as stand_in:
        done = ask(tmp_path, "why?", **stand_in.variables())

    assert done.returncode == 0, done.stdout + done.stderr
    assert "answer, by the Anthropic SDK" in done.stdout
    assert "because" in done.stdout
    assert [stage for stage in STAGES if f"✓ {stage}" not in done.stdout] == []
    (asked,) = stand_in.asked
    assert (asked["path"], asked["stream"]) == ("/v1/messages", True)
    assert asked["messages"] == [{"role": "user", "content": "why?"}]
    assert KEY in asked["headers"]
    assert KEY not in done.stdout + done.stderr


def test_the_answer_is_shown_while_it_comes(tmp_path: Path) -> None:
    first_is_seen = threading.Event()
    between = lambda: first_is_seen.wait(PATIENCE)  # noqa: E731
    with api(streams("It is", " scattered.", between=between)) as stand_in:
        ours, its = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, str(SAMPLE / "ask.py"), "why?"],
            env=environment(tmp_path, TERM="xterm", **stand_in.variables()),
            stdin=its, stdout=its, stderr=its,
        )  # fmt: skip
        os.close(its)
        try:
            early = drawn(ours, until=b"It is")
            first_is_seen.set()
            late = drawn(ours, until=b"3/3 writing")
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            os.close(ours)

    assert b"scattered" not in early
    assert b"It is scattered." in late


def drawn(fd: int, *, until: bytes) -> bytes:
    data = b""
    while until not in data:
        assert select.select([fd], [], [], PATIENCE)[0], data
        data += os.read(fd, 65_536)
    return data


def test_brackets_and_the_like_are_shown_as_they_are(tmp_path: Path) -> None:
    odd = "[/b] [red] \\"
    done = ask(claude(tmp_path, 'echo "you asked: $2"; echo "[/i]"'), odd)

    assert done.returncode == 0, done.stderr
    assert f"you asked: {odd}" in done.stdout
    assert "[/i]" in done.stdout


def test_with_neither_it_says_so_plainly(tmp_path: Path) -> None:
    done = ask(tmp_path)

    assert done.returncode == 3
    assert "there is no `claude` on PATH, and ANTHROPIC_API_KEY is not set" in done.stdout
    assert "2/3" not in done.stdout
    assert "Traceback" not in done.stderr


def test_a_claude_that_fails_is_told_of(tmp_path: Path) -> None:
    broken = ask(claude(tmp_path, "echo no credit >&2; exit 9"))
    mute = ask(claude(tmp_path, "exit 9"))

    assert (broken.returncode, "No answer: no credit" in broken.stdout) == (1, True)
    assert (mute.returncode, "No answer: claude ended with 9" in mute.stdout) == (1, True)


def error(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


@pytest.mark.parametrize(
    ("play", "why"),
    [
        (
            refuses(401, error("authentication_error", f"invalid x-api-key {KEY}")),
            "No answer: the API answered 401: invalid x-api-key [key]",
        ),
        (refuses(529, {}), "No answer: the API answered 529: it says no more"),
        (streams("It is", stops=False), "No answer: the API's answer broke off"),
        (streams("It is", cut=True), "No answer: the API's answer broke off"),
    ],
    ids=["no such key", "busy", "half an answer", "connection broken"],
)
def test_an_api_that_does_not_answer_says_why_and_never_with_what_key(
    tmp_path: Path, play: Play, why: str
) -> None:
    with api(play) as stand_in:
        done = ask(tmp_path, **stand_in.variables())

    assert (done.returncode, why in done.stdout) == (1, True), done.stdout + done.stderr
    assert stand_in.asked
    assert KEY not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("key", [KEY, f"{KEY}\n{KEY}"], ids=["one line", "two lines"])
def test_an_api_that_is_away_is_told_of_whatever_the_key(tmp_path: Path, key: str) -> None:
    with api(refuses(500, {})) as gone:
        pass
    done = ask(tmp_path, **gone.variables() | {"ANTHROPIC_API_KEY": key})

    assert (done.returncode, "No answer: the API cannot be reached" in done.stdout) == (1, True)
    assert KEY not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


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

    def run(program: str, **variables: str) -> str:
        done = subprocess.run(
            [sys.executable, "-S", "-E", program],  # nothing that is installed
            cwd=tmp_path / "unpacked", env={"PATH": "", "PYTHONUTF8": "1", **variables},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == (0 if program == "install.py" else 3), done.stdout + done.stderr
        assert done.stderr == ""
        return done.stdout

    assert "brings along: rich" in run("install.py")
    assert "no `claude` on PATH" in run("ask.py")
    # The SDK is not in it: with a key it says what to install, and shows no key.
    without_sdk = run("ask.py", ANTHROPIC_API_KEY=KEY)
    assert "python3 -m pip install 'anthropic>=2'" in without_sdk
    assert KEY not in without_sdk


@pytest.mark.parametrize("file", ["ask.py", "install.py"])
def test_it_needs_no_newer_python_than_it_says(file: str) -> None:
    ast.parse((SAMPLE / file).read_text(), feature_version=(3, 9))
