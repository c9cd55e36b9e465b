"""What `passctrl doctor` finds of faults that no setting of today's proxies brings about."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

import pytest

from gatekeeper.entrypoints.passctrl.examining.examination import Examination
from gatekeeper.entrypoints.passctrl.examining.exchange import Answer, Client, Site
from gatekeeper.entrypoints.passctrl.examining.knowledge import MEANINGS, Severity
from gatekeeper.kernel.secret import Secret
from proxies.loopback import LARGEST_HEAD, Loopback, Received, receive

if TYPE_CHECKING:
    from collections.abc import Callable

KNOWN = "Authorization: Bearer known"
REFUSES = (401, [("WWW-Authenticate", "Bearer"), ("Server", "nginx")])
ALLOWED = {"X-User": "ada"}


class Front(Loopback):
    """A proxy and its application in one: refuses who has not one good credential, else echoes.

    `fault` says more about a request: a status, headers for the application, or silence.
    """

    def __init__(self, fault: Callable[[Front, Received], object] = lambda *_: None) -> None:
        super().__init__()
        self.fault = fault
        self.trusted: set[int] = set()
        self.pieces: dict[int, int] = {}

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        counted = asyncio.StreamReader(limit=LARGEST_HEAD)
        pump = asyncio.create_task(self._pump(reader, counted, connection))
        try:
            while True:
                request = await receive(counted, connection)
                told = self.fault(self, request)
                if told is None:
                    told = self.decided(request)
                if told == "silence":
                    await counted.read()
                    return
                writer.write(answered(request, told))
                await writer.drain()
        finally:
            pump.cancel()

    async def _pump(
        self, reader: asyncio.StreamReader, counted: asyncio.StreamReader, connection: int
    ) -> None:
        while data := await reader.read(LARGEST_HEAD):
            self.pieces[connection] = self.pieces.get(connection, 0) + 1
            counted.feed_data(data)
        counted.feed_eof()

    def decided(self, request: Received) -> object:
        if request.values("authorization") != ["Bearer known"]:
            return REFUSES
        self.trusted.add(request.connection)
        kept = [
            (name, value)
            for name, value in request.headers
            if name.lower() not in {"x-user", "x-groups", "x-email", "authorization"}
            and "_" not in name
        ]
        return [*kept, *ALLOWED.items()]


def answered(request: Received, told: object) -> bytes:
    if isinstance(told, tuple):
        status, headers = told
        body = b""
    else:
        status, headers = 200, []
        path = request.target.replace("//", "/").replace("\\", "/")
        body = json.dumps({"target": path if clean(path) else "/", "headers": told}).encode()
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in headers)]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if request.method == "HEAD" else body)


def clean(path: str) -> bool:
    return not any(bad in path.lower() for bad in ("%", "..", "/.", "#", "//"))


def examine(front: Front, *, timeout: float = 10, deadline: float = 120) -> Examination:
    with front:
        client = Client(
            site=Site.of(f"http://127.0.0.1:{front.port}/private"),
            credential=Secret(KNOWN),
            timeout=timeout,
            deadline=time.monotonic() + deadline,
        )
        examination = Examination(client=client, path="/private", echo=True)
        asyncio.run(examination.run())
    return examination


def wrong(examination: Examination) -> set[str]:
    return {one.code for one in examination.findings if one.severity is not Severity.NOTE}


LET_IN = [*ALLOWED.items()]


def when(condition: Callable[[Front, Received], object]) -> Callable[[Front, Received], object]:
    return lambda front, request: LET_IN if condition(front, request) else None


def names_in_connection(request: Received) -> str:
    return (request.value("connection") or "").lower()


FAULTS: dict[str, Callable[[Front, Received], object]] = {
    "connection-open": when(lambda _, request: "x-forwarded" in names_in_connection(request)),
    "huge-open": when(lambda _, request: len(request.head) > 60_000),
    "slow-open": when(lambda front, request: front.pieces[request.connection] > 1),
    "version-open": when(lambda _, request: b" HTTP/1.0\r\n" in request.head),
    "reuse-open": when(lambda front, request: request.connection in front.trusted),
    "two-credentials": when(lambda _, request: "Bearer known" in request.values("authorization")),
    "twin-survives": lambda _, request: (
        [*ALLOWED.items(), ("X_User", twins[0])] if (twins := request.values("x_user")) else None
    ),
    "identity-dropped": lambda _, request: (
        [("Host", "x")] if "x-user" in names_in_connection(request) else None
    ),
}


def test_a_front_without_a_fault_is_sound() -> None:
    examination = examine(Front())

    assert wrong(examination) == set(), examination.findings
    assert examination.findings == []
    assert examination.proxy == "nginx"


@pytest.mark.parametrize("code", FAULTS)
def test_a_fault_is_found(code: str) -> None:
    examination = examine(Front(FAULTS[code]))

    assert code in wrong(examination), examination.findings


def test_what_is_not_clear_is_a_note() -> None:
    def missing(_: Front, request: Received) -> object:
        return (404, []) if request.method == "PURGE" else None

    examination = examine(Front(missing))

    assert wrong(examination) == set()
    (note,) = examination.findings
    assert (note.code, note.sent, note.got) == ("unclear", "PURGE /private: 404", "1 such answers")


def test_being_sent_to_the_login_page_is_a_refusal() -> None:
    def login(_: Front, request: Received) -> object:
        if request.values("authorization") == ["Bearer known"]:
            return None
        return (302, [("Location", f"https://login.example.com/?rd={request.method}")])

    assert examine(Front(login)).findings == []


def test_an_answer_that_never_comes_is_not_waited_for() -> None:
    def silent(_: Front, request: Received) -> object:
        return "silence" if request.method == "PURGE" else None

    examination = examine(Front(silent), timeout=1)

    assert [one.sent for one in examination.findings] == ["PURGE /private: no answer in 1 s"]


def test_an_examination_ends_at_its_deadline() -> None:
    examination = examine(Front(), deadline=0)

    assert "not-finished" in wrong(examination)
    assert examination.client.sent < 40


def test_every_finding_has_a_reason_and_says_how_it_is_mended() -> None:
    for meaning in MEANINGS.values():
        assert meaning.what
        assert meaning.why
        assert all(meaning.mending(proxy) for proxy in ("nginx", "haproxy", None))


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"headers": 1}', b'{"headers": [1]}', b"[" * 100_000, b"\xff"]
)
def test_what_tells_nothing_of_a_request_is_no_echo(body: bytes) -> None:
    assert Answer(status=200, body=body).arrived is None


def test_an_echo_may_have_its_headers_as_an_object() -> None:
    arrived = Answer(status=200, body=b'{"headers": {"X-User": "ada"}, "path": "/x"}').arrived

    assert arrived is not None
    assert (arrived.target, arrived.values("x-user")) == ("/x", ["ada"])
