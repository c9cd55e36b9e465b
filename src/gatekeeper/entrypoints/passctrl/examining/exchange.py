"""One request as bytes, one answer as values: no library would send what is sent here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import httptools

if TYPE_CHECKING:
    from gatekeeper.kernel.secret import Secret

MAX_REQUESTS: Final = 300
MAX_BODY_BYTES: Final = 262_144
MAX_HEAD_BYTES: Final = 262_144
SHOWN_CHARS: Final = 60
"""Of each header, when a request is shown."""
PAUSE_SECONDS: Final = 0.2
"""Between the two halves of a request that is sent slowly."""
SWITCHING: Final = 101
NO_PORT: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where requests go."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str) -> Site:
        """Read a URL. Raises `ValueError`."""
        parts = urlsplit(url)
        plain = url.isascii() and url.isprintable() and " " not in url
        if not plain or parts.scheme not in NO_PORT or not parts.hostname or parts.username:
            msg = "expected a URL like http://127.0.0.1:8000/path"
            raise ValueError(msg)
        port = parts.port or NO_PORT[parts.scheme]
        return cls(scheme=parts.scheme, host=parts.hostname, port=port, path=parts.path or "/")

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == NO_PORT[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """A request, as it is spelt."""

    target: str
    method: str = "GET"
    headers: tuple[str, ...] = ()
    credential: bool = False
    first: bool = False
    """The credential stands before the other headers."""
    version: str = "HTTP/1.1"
    slowly: bool = False

    def __str__(self) -> str:
        told = [f"{self.method} {self.target}"]
        told += [h if len(h) <= SHOWN_CHARS else f"{h[:SHOWN_CHARS]}..." for h in self.headers]
        if self.credential:
            told.append("the credential")
        return ascii(", ".join(told))[1:-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """What the application says of the request that reached it."""

    target: str
    headers: tuple[tuple[str, str], ...]

    def values(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each.lower() == name.lower()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer; without a status there was none."""

    status: int | None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    why: str = ""
    """There was no answer because of this."""

    def value(self, name: str) -> str:
        return next((value for each, value in self.headers if each.lower() == name), "")

    @property
    def arrived(self) -> Arrived | None:
        """What the application told, if it was the application that answered, and it tells."""
        try:
            told = json.loads(self.body)
            headers = told["headers"]
            pairs = headers.items() if isinstance(headers, dict) else headers
            target = told.get("target", told.get("path", ""))
            return Arrived(
                target=str(target), headers=tuple((str(name), str(value)) for name, value in pairs)
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def __str__(self) -> str:
        return self.why if self.status is None else str(self.status)


@dataclass(slots=True, kw_only=True)
class Client:
    """Asks a site; `credential` is a header line that is never shown."""

    site: Site
    credential: Secret | None = None
    timeout: float
    deadline: float
    """By `time.monotonic`: afterwards nothing is sent."""
    insecure: bool = False
    sent: int = 0

    @property
    def spent(self) -> bool:
        return self.sent >= MAX_REQUESTS or time.monotonic() >= self.deadline

    @property
    def credential_name(self) -> str:
        return "" if self.credential is None else self.credential.reveal().partition(":")[0]

    async def ask(self, sending: Sending) -> Answer:
        (answer,) = await self.ask_in_turn(sending)
        return answer

    async def ask_in_turn(self, *sendings: Sending) -> list[Answer]:
        """Ask on one connection, each after the answer to the one before."""
        self.sent += len(sendings)
        answers: list[Answer] = []
        try:
            async with asyncio.timeout(self.timeout):
                reader, writer = await asyncio.open_connection(
                    self.site.host, self.site.port, ssl=self._tls(), limit=MAX_HEAD_BYTES
                )
                with contextlib.closing(writer):
                    for sending in sendings:
                        await self._send(writer, sending)
                        answers.append(await _answer(reader, sending.method))
        except TimeoutError:
            answers.append(Answer(status=None, why=f"no answer in {self.timeout:g} s"))
        except (OSError, asyncio.IncompleteReadError) as error:
            answers.append(Answer(status=None, why=f"no answer ({type(error).__name__})"))
        missing = len(sendings) - len(answers)
        return answers + [Answer(status=None, why="the connection was closed")] * missing

    async def _send(self, writer: asyncio.StreamWriter, sending: Sending) -> None:
        data = self._spelt(sending)
        if sending.slowly:
            middle = len(data) // 2
            writer.write(data[:middle])
            await writer.drain()
            await asyncio.sleep(PAUSE_SECONDS)
            data = data[middle:]
        writer.write(data)
        await writer.drain()

    def _spelt(self, sending: Sending) -> bytes:
        lines = [f"{sending.method} {sending.target} {sending.version}"]
        if not any(line.lower().startswith("host:") for line in sending.headers):
            lines.append(f"Host: {self.site.authority}")
        headers = list(sending.headers)
        credential = []
        if sending.credential and self.credential is not None:
            credential = [self.credential.reveal()]
        lines += [*credential, *headers] if sending.first else [*headers, *credential]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _tls(self) -> ssl.SSLContext | None:
        if self.site.scheme == "http":
            return None
        context = ssl.create_default_context()
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(slots=True)
class _Reading:
    """What httptools calls while it reads an answer."""

    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    head: bool = False
    whole: bool = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self.head = True

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.whole = True


async def _answer(reader: asyncio.StreamReader, method: str) -> Answer:
    reading = _Reading()
    parser = httptools.HttpResponseParser(reading)
    received = 0
    while not reading.whole and received < MAX_HEAD_BYTES + MAX_BODY_BYTES:
        data = await reader.read(65_536)
        if not data:
            break
        received += len(data)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            break
        except httptools.HttpParserError:
            return Answer(status=None, why="the answer is no HTTP/1")
        # RFC 9110 section 9.3.2: an answer to HEAD has no body.
        if reading.head and (method == "HEAD" or parser.get_status_code() == SWITCHING):
            break
    if not reading.head:
        return Answer(status=None, why="the connection was closed")
    return Answer(
        status=parser.get_status_code(),
        headers=tuple(reading.headers),
        body=bytes(reading.body[:MAX_BODY_BYTES]),
    )
