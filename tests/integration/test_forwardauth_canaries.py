"""Secrets of every kind go in; whatever the process and its commands say is looked through."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

from gatekeeper.platform.processes.listening import free_port
from proxies.client import PATIENCE, ask
from proxies.loopback import Loopback, receive
from proxies.servers import answers

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

CANARY: Final = "canary"
"""Every secret of this test begins so, as it is and in Base64."""
MARKS: Final = (CANARY, *(base64.b64encode((" " * skip + CANARY).encode())[skip and 4 : 8].decode() for skip in range(3)))  # fmt: skip
TOKEN: Final = "canary-operations"
PASSCTRL: Final = Path(sys.executable).with_name("passctrl")
OUTCOMES: Final = ("asks", "fails", "errs")


def configuration(port: int, operations: int, backend: int, valkey: int) -> dict[str, Any]:
    allow = {
        "authorization": ["basic", "bearer"], "header": ["x-key"], "query": ["token"],
        "cookie": ["sid"], "none": True,
    }  # fmt: skip
    literals = [
        {"match": [{"type": "bearer", "value": ["canary-bearer", "/^canary-pattern$/"]}]},
        {"match": [{"type": "basic", "username": "ada", "password": "canary-password"}]},
        {"match": [{"type": "header", "name": "x-key", "value": "canary-key"}]},
        {"match": [{"type": "cookie", "name": "sid", "value": "canary-cookie"}]},
        {"match": [{"type": "query", "name": "token", "value": "canary-query"}]},
    ]
    call = {
        "url": f"http://127.0.0.1:{backend}/x/{{{{ secrets.key }}}}?k={{{{ env.KEY }}}}",
        "headers": {"X-Secret": "{{ secrets.key }}", "X-Env": "{{ env.KEY }}"},
        "query": {"token": None},
        "method": "POST",
        "body": "key={{ secrets.key }}",
    }
    # What has no value, and says so with what it was given.
    bad = ["int(secrets.key) > 0", "int(backend.body.access_token) > 0"]
    whens = {
        "asks": {"whenAll": ["secrets.key != '' && backend.body.active"]},
        "fails": {"failWhen": ["secrets.key.startsWith('can')"]},
        "errs": {"errorWhen": bad},
    }
    return {
        "server": {
            "listen": {"port": port},
            "operations": {"port": operations, "token": TOKEN},
            "logging": {"level": "debug"},
            "variables": {
                "environment": {"KEY": "PASS_ENV_KEY"},
                "secrets": {"key": None},
                "secretsFolder": "secrets",
            },
            "cache": {
                "backend": "valkey",
                "keySalt": "canary-salt",
                "valkey": {
                    "address": f"127.0.0.1:{valkey}", "username": "u", "password": "canary-valkey",
                },
            },
        },
        "endpoints": {
            name: {
                "authentication": {"allow": allow},
                "forwardProxyPolicy": {"trustedProxyIPs": ["127.0.0.1"]},
                "rules": [{"name": name}],
                "responsePolicy": {"pass": {"headers": {"X-User": "ada"}}},
            }
            for name in OUTCOMES
        },
        "rules": {
            name: {
                "auth": literals,
                "backendApi": call,
                "conditions": whens[name],
                "cache": {"ttl": {"pass": "30s"}},
            }
            for name in OUTCOMES
        },
    }  # fmt: skip


class Backend(Loopback):
    """Answers every call with secrets of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses = [200, 500, 302]
        self.received: list[bytes] = []

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        while True:
            request = await receive(reader, connection)
            self.received.append(request.head + request.body)
            status = self.statuses[len(self.received) % 3]
            body = json.dumps({"active": True, "access_token": "canary-answer"}).encode()
            head = (
                f"HTTP/1.1 {status} canary-phrase\r\ncontent-type: application/json\r\n"
                f"set-cookie: sid=canary-set\r\nlocation: /canary-location\r\n"
                f"content-length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            await writer.drain()


def basic(text: str) -> str:
    return "Authorization: Basic " + base64.b64encode(text.encode()).decode()


PRESENTED: Final = [
    ("/x", "Authorization: Bearer canary-bearer"),
    ("/x", "Authorization: Bearer canary-pattern"),
    ("/x", "Authorization: Bearer canary-wrong"),
    ("/x", basic("ada:canary-password")),
    ("/x", basic("canary-user:canary-wrong")),
    ("/x", "X-Key: canary-key"),
    ("/x", "X-Key: canary-wrong\x01"),
    ("/x", "Cookie: sid=canary-cookie; other=canary-other"),
    ("/x?token=canary-query", "X-Note: a"),
    ("/x?token=canary-query&token=canary-twice", "X-Note: a"),
    ("/canary%2fpath", "Authorization: Bearer canary-bearer"),
    ("/x", "Authorization: Bearer canary-bearer\r\nX_Key: canary-twin"),
    ("/x", "Authorization: Bearer canary-bearer\r\nAuthorization: Bearer canary-second"),
]


class Process:
    """A PassCtrl that runs, and what it said."""

    def __init__(self, folder: Path, port: int, operations: int, backend: Backend) -> None:
        self.folder, self.port, self.backend = folder, port, backend
        self.operations = f"http://127.0.0.1:{operations}"

    def ask(self, endpoint: str, target: str, *lines: str) -> str:
        told = [
            "X-Forwarded-Method: GET", "X-Forwarded-Proto: https", "X-Forwarded-Host: app.example",
            f"X-Forwarded-Uri: {target}", "X-Forwarded-For: 203.0.113.7",
        ]  # fmt: skip
        answer = ask(self.port, f"/nginx/{endpoint}", *told, *lines)
        return f"{answer.status} {answer.headers} {answer.body!r}"

    def command(self, *words: str, **environment: str) -> str:
        ran = subprocess.run(
            [PASSCTRL, *words], cwd=self.folder, env={**os.environ, **environment},
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        return ran.stdout + ran.stderr

    def log(self) -> str:
        return (self.folder / "log").read_text()


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("canaries")
    (folder / "secrets").mkdir()
    (folder / "secrets/key").write_text("canary-secret\n")
    port, operations, valkey = free_port(), free_port(), free_port()
    with Backend() as backend:
        (folder / "config.json").write_text(
            json.dumps(configuration(port, operations, backend.port, valkey))
        )
        with (folder / "log").open("wb") as log:
            running = subprocess.Popen(
                [PASSCTRL, "serve", "config.json"], cwd=folder, stdout=log, stderr=log,
                env={**os.environ, "PASS_ENV_KEY": "plain-env", "NOT_NAMED": "canary-not-named"},
            )  # fmt: skip
        try:
            assert answers(port, running, target="/asks/auth"), (folder / "log").read_text()
            yield Process(folder, port, operations, backend)
        finally:
            running.terminate()
            running.wait(PATIENCE)


def marked(text: str) -> list[str]:
    around = "|".join(f".{{0,60}}{re.escape(mark)}.{{0,30}}" for mark in MARKS)
    return re.findall(around, text)


def test_no_secret_leaves_the_process_but_where_it_is_sent(process: Process) -> None:
    answered = [
        process.ask(endpoint, target, *lines.split("\r\n"), f"X-Request-Id: {endpoint}-{number}")
        for endpoint in OUTCOMES
        for number, (target, lines) in enumerate(PRESENTED)
    ]
    sent = b"".join(process.backend.received)
    assert b"canary-secret" in sent
    assert b"plain-env" in sent  # no secret: what is one is named under `secrets`
    with httpx.Client(base_url=process.operations, trust_env=False, timeout=PATIENCE) as client:
        authorized = {"authorization": f"Bearer {TOKEN}"}
        seen = [client.get(path).text for path in ("/healthz", "/readyz", "/metrics", "/explain")]
        for endpoint in OUTCOMES:
            for target, lines in PRESENTED:
                text = f"GET {target} HTTP/1.1\r\nHost: app.example\r\n{lines}\r\n\r\n"
                question = {"endpoint": endpoint, "request": text, "live": True}
                seen.append(client.post("/explain", json=question, headers=authorized).text)
                form = {"endpoint": endpoint, "dialect": "nginx", "request": text}
                seen.append(client.post("/explain", data=form, headers=authorized).text)
            seen.append(client.get(f"/explain?id={endpoint}-0", headers=authorized).text)
        seen.append(client.get("/explain?id=x", headers={"authorization": "Bearer canary-no"}).text)
        seen.append(str(client.post("/login", data={"token": "canary-no"}).headers))
    (process.folder / "question.http").write_text(
        "GET /x HTTP/1.1\r\nHost: app.example\r\nAuthorization: Bearer canary-bearer\r\n\r\n"
    )
    explained = ("explain", "config.json", "--endpoint", "asks", "--request", "question.http")
    commands = [
        process.command("check", "config.json", "--json", PASS_ENV_KEY="plain-env"),
        process.command("check", "config.json", PASSCTRL_SERVER__WORKERS="canary-number"),
        process.command(*explained, PASS_ENV_KEY="plain-env"),
        process.command(*explained, "--json", PASS_ENV_KEY="plain-env"),
    ]
    end = time.monotonic() + PATIENCE
    while f"{OUTCOMES[-1]}-{len(PRESENTED) - 1}" not in process.log():  # lines come in bundles
        assert time.monotonic() < end
        time.sleep(0.05)

    assert {status.split()[0] for status in answered} >= {"200", "403"}
    for said in (*answered, *seen, *commands, process.log()):
        assert marked(said) == []
    assert '"steps"' in "".join(seen)


def test_what_a_client_says_is_no_label_of_a_metric(process: Process) -> None:
    for line in ("User-Agent: canary-agent", "X-Request-Id: canary-id", "Host: canary-host"):
        process.ask("canary-endpoint", "/canary-path?canary-query", line)
        process.ask("asks", "/canary-path?canary-query", line)
    text = httpx.get(f"{process.operations}/metrics", trust_env=False, timeout=PATIENCE).text

    assert "passctrl_decisions_total" in text
    assert marked(text) == []
