"""The decision port on real sockets and in real processes, as `serve` runs it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from factories.hostile_requests import CHUNKED, POST, REFUSED
from gatekeeper.platform.processes.listening import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PROGRAM = Path(__file__).with_name("port_program.py")
PATIENCE = 30.0
OK = b"HTTP/1.1 200 OK\r\n"
MEGABYTE = 1_048_576


def get(target: str, *fields: str) -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: x", *fields, "", ""]).encode()


class Server:
    """A running `port_program.py`."""

    def __init__(self, process: subprocess.Popen[bytes], address: str | tuple[str, int]) -> None:
        self.process = process
        self.address = address

    def connect(self) -> socket.socket:
        family = socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET
        client = socket.socket(family)
        client.settimeout(PATIENCE)
        try:
            client.connect(self.address)
        except OSError:
            client.close()
            raise
        return client

    def ask(self, data: bytes) -> bytes:
        """Send one thing on a connection of its own, and return all that comes until its end."""
        with self.connect() as client:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(data)
            return rest(client)

    def pid(self) -> int:
        """Return the process that answers a new connection."""
        answer = self.ask(get("/pid", "Connection: close"))
        return int(answer.split(b"x-pid: ")[1].split(b"\r\n")[0])

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(PATIENCE)


def pids(server: Server, count: int, known: frozenset[int] = frozenset()) -> frozenset[int]:
    """Ask until that many processes have answered, with those that are known."""
    end = time.monotonic() + PATIENCE
    while len(known) < count:
        assert time.monotonic() < end
        known |= {server.pid()}
    return known


def rest(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65_536), b""))


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextlib.contextmanager
def serving(
    workers: int = 1, *, path: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    port = 0 if path else free_port()
    address = str(path) if path else ("127.0.0.1", port)
    arguments = [sys.executable, str(PROGRAM), str(path or "127.0.0.1"), str(port), str(workers)]
    with subprocess.Popen(arguments, env={**os.environ, **(environment or {})}) as process:
        server = Server(process, address)
        try:
            until(lambda: process.poll() is not None or _answers(server))
            yield server
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


def _answers(server: Server) -> bool:
    try:
        server.connect().close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def test_requests_are_answered_one_after_the_other(server: Server, tmp_path: Path) -> None:
    answer = server.ask(
        get("/allow")
        + get("/wait", f"X-Note: {tmp_path}/note")
        + get("/none")
        + get("/allow", "Connection: close")
    )
    statuses = [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"200", b"500", b"200"]
    assert answer.count(b"\r\ndate: ") == 4


def test_a_request_may_trickle_in(server: Server) -> None:
    with server.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in get("/allow", "Connection: close"):
            client.sendall(bytes([byte]))
        assert rest(client).startswith(OK)


def test_a_whole_request_is_answered_though_its_sender_sends_no_more(server: Server) -> None:
    with server.connect() as client:
        client.sendall(get("/allow"))
        client.shutdown(socket.SHUT_WR)
        assert rest(client).startswith(OK)


def test_a_sender_that_is_gone_ends_its_decision(server: Server, tmp_path: Path) -> None:
    note = tmp_path / "ended"
    with server.connect() as client:
        client.sendall(get("/slow", f"X-Note: {note}"))
        until(note.with_suffix(".begun").exists)
    until(note.exists)


@pytest.mark.parametrize(
    "request_",
    [
        POST.replace(b"/ ", b"/allow ")
        + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % MEGABYTE
        + b"a" * MEGABYTE,
        CHUNKED.replace(b"/ ", b"/allow ").replace(b"Host", b"Connection: close\r\nHost")
        + b"8000\r\n%b\r\n" % (b"a" * 32_768) * 32
        + b"0\r\n\r\n",
    ],
    ids=["sized", "chunked"],
)
def test_a_body_of_a_megabyte_is_thrown_away(server: Server, request_: bytes) -> None:
    assert server.ask(request_).startswith(OK)


@pytest.mark.parametrize(
    "request_",
    [
        POST + b"Content-Length: %d\r\n\r\n" % (MEGABYTE + 1) + b"a" * (MEGABYTE + 1),
        CHUNKED + b"100000\r\n%b\r\n1\r\na" % (b"a" * MEGABYTE),
    ],
    ids=["sized", "chunked"],
)
def test_whoever_sends_too_long_a_body_hears_of_it(server: Server, request_: bytes) -> None:
    assert server.ask(request_).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED.keys())
def test_what_could_smuggle_a_request_is_refused_once(server: Server, request_: bytes) -> None:
    answer = server.ask(request_ + get("/allow"))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_a_socket_in_the_file_system_serves_all_workers(tmp_path: Path) -> None:
    path = tmp_path / "port"
    with socket.socket(socket.AF_UNIX) as left_over:  # of a process that was killed
        left_over.bind(str(path))
    with serving(2, path=path) as server:
        assert b"x-peer: unix\r\n" in server.ask(get("/pid", "Connection: close"))
        assert path.stat().st_mode & 0o777 == 0o660
        second = [sys.executable, str(PROGRAM), str(path), "0", "1"]
        refused = subprocess.run(second, capture_output=True, timeout=PATIENCE, check=False)
        assert refused.returncode == 1
        assert b"Address already in use" in refused.stderr
        assert server.stop() == 0
    assert not path.exists()


def test_two_workers_serve_and_one_that_is_killed_comes_back() -> None:
    with serving(2) as server:
        killed, other = both = pids(server, 2)
        os.kill(killed, signal.SIGKILL)
        # Nobody who asks meanwhile goes without an answer.
        (replacement,) = pids(server, 3, both) - both
        assert server.stop() == 0
        until(lambda: not _alive(other) and not _alive(replacement))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hangup_ends_neither_the_process_nor_a_worker(workers: int) -> None:
    with serving(workers) as server:
        known = pids(server, workers)
        for pid in {*known, server.process.pid}:
            os.kill(pid, signal.SIGHUP)

        assert pids(server, workers) == known
        assert server.stop() == 0


def test_workers_do_not_outlive_a_killed_parent() -> None:
    with serving(2) as server:
        worker = server.pid()
        server.process.kill()
        until(lambda: not _alive(worker))


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_lets_answers_under_way_finish_and_takes_no_more(
    workers: int, tmp_path: Path
) -> None:
    note = tmp_path / "note"
    with serving(workers) as server, server.connect() as idle, ThreadPoolExecutor() as pool:
        idle.sendall(get("/allow"))
        assert idle.recv(65_536).startswith(OK)
        waiting = pool.submit(server.ask, get("/wait", f"X-Note: {note}"))
        until(note.with_suffix(".begun").exists)
        assert server.stop() == 0
        answer = waiting.result(PATIENCE)
        assert answer.startswith(OK)
        assert b"connection: close\r\n" in answer
        assert rest(idle) == b""
        with pytest.raises(ConnectionRefusedError):
            server.connect()


def test_a_stop_does_not_wait_for_ever(tmp_path: Path) -> None:
    note = tmp_path / "ended"
    with serving() as server, ThreadPoolExecutor() as pool:
        waiting = pool.submit(server.ask, get("/slow", f"X-Note: {note}"))
        until(note.with_suffix(".begun").exists)
        assert server.stop() == 0
        assert not waiting.result(PATIENCE).startswith(OK)
    assert note.exists()


def test_a_worker_whose_background_fails_ends(tmp_path: Path) -> None:
    fails = tmp_path / "fails"
    with serving(environment={"PORT_PROGRAM_FAILS_WHEN": str(fails)}) as server:
        assert server.pid() == server.process.pid
        fails.touch()
        assert server.process.wait(PATIENCE) == 1


def test_an_address_that_is_taken_ends_the_process() -> None:
    with serving() as server:
        port = str(server.address[1])
        second = [sys.executable, str(PROGRAM), "127.0.0.1", port, "1"]
        refused = subprocess.run(second, capture_output=True, timeout=PATIENCE, check=False)
        assert refused.returncode == 1
        assert b"Address already in use" in refused.stderr
