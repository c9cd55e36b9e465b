"""A client that sends what no library would: bytes as a test spells them."""

from __future__ import annotations

import contextlib
import json
import socket
from dataclasses import dataclass
from http.client import HTTPResponse

PATIENCE = 30
"""Seconds. Nothing waits for them when all is well."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each.lower() == name.lower()]

    @property
    def arrived(self) -> Arrived:
        """What the application says of the request that reached it."""
        assert self.status == 200, self
        return Arrived(**json.loads(self.body))


@dataclass(frozen=True, slots=True)
class Arrived:
    method: str
    target: str
    headers: list[list[str]]
    body: int
    """Its length."""

    def values(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each.lower() == name.lower()]

    def twins(self, name: str) -> list[str]:
        """Return the values of headers that CGI, WSGI and PHP take for the one of this name."""
        return [
            value
            for each, value in self.headers
            if each.lower().replace("_", "-") == name.lower().replace("_", "-")
        ]


def ask(
    port: int,
    target: str = "/",
    *lines: str,
    method: str = "GET",
    body: bytes = b"",
    data: bytes = b"",
    patience: float = PATIENCE,
    source: str = "127.0.0.1",
) -> Answer:
    """Send one request; `lines` are its headers, `data` follows them as it is."""
    head = [f"{method} {target} HTTP/1.1"]
    if not any(line.lower().startswith("host:") for line in lines):
        head.append("Host: app.example.com")
    if body:
        head.append(f"Content-Length: {len(body)}")
    request = "\r\n".join([*head, *lines, "", ""]).encode("latin-1") + body + data
    (answer,) = send(port, request, method=method, patience=patience, source=source)
    return answer


def send(
    port: int,
    *requests: bytes,
    method: str = "GET",
    patience: float = PATIENCE,
    source: str = "127.0.0.1",
) -> list[Answer]:
    """Send requests on one connection, each after the answer to the one before."""
    with socket.create_connection(("127.0.0.1", port), patience, (source, 0)) as connection:
        return [_answer(connection, request, method) for request in requests]


def _answer(connection: socket.socket, request: bytes, method: str) -> Answer:
    connection.sendall(request)
    with HTTPResponse(connection, method=method) as response:
        response.begin()
        return Answer(response.status, response.getheaders(), response.read())


def pour(port: int, data: bytes) -> bytes:
    """Send bytes, and return what comes back until the proxy closes the connection."""
    received = bytearray()
    with (
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection,
        contextlib.suppress(ConnectionError),
    ):
        connection.sendall(data)
        while part := connection.recv(65_536):
            received += part
    return bytes(received)
