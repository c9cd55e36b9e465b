"""A control plane and a gateway of terminals behind a real nginx with TLS, as the how-to says."""

import json
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from acceptance.local_stack import Stack
from factories.certificates import self_signed
from gatekeeper.client import tokens
from gatekeeper.kernel.terminal.term import (
    SUBPROTOCOL,
    Attach,
    Input,
    Output,
    encode_client,
    read_runner,
)
from gatekeeper.terminals.settings import GatewaySettings
from proxies.servers import KINDS, started
from waiting import eventually

EXAMPLE = (Path(__file__).parents[2] / "examples/terminals/nginx.conf").read_text()


@dataclass(frozen=True, slots=True)
class Front:
    port: int
    folder: Path
    trust: ssl.SSLContext

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def logs(self) -> str:
        return "".join((self.folder / name).read_text() for name in ("access.log", "error.log"))


@contextmanager
def behind_nginx(folder: Path, local: Stack) -> Iterator[Front]:
    """Run the example; its ports are changed, and all that nginx has to say is in its log."""
    certificate, _key = self_signed(folder)
    ports = {"4000": local.url.rpartition(":")[2], "4002": str(local.gateway_port)}

    def write(port: int) -> None:
        text = EXAMPLE.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
        text = text.replace("error.log warn", "error.log info")
        for named, here in ports.items():
            text = text.replace(f"127.0.0.1:{named};", f"127.0.0.1:{here};")
        (folder / "nginx.conf").write_text(text)

    with started(KINDS["nginx"], folder, write) as proxy:
        yield Front(proxy.port, folder, ssl.create_default_context(cafile=certificate))


def ticket_of(local: Stack, front: Front, terminal: str) -> str:
    """Ask for a ticket through nginx."""
    found = tokens.load(local.home / "people" / "dana", local.url)
    assert found is not None
    with httpx.Client(base_url=front.url, verify=front.trust, trust_env=False) as client:
        answer = client.post(
            f"/terminals/{terminal}/attach", json={},
            headers={"Authorization": f"Bearer {found.identity.reveal()}"},
        )  # fmt: skip
    assert answer.status_code == 200, answer.text
    return str(answer.json()["ticket"])


def attached(front: Front, terminal: str, ticket: str) -> connect:
    return connect(
        f"wss://127.0.0.1:{front.port}/attach/{terminal}",
        subprotocols=[Subprotocol(SUBPROTOCOL), Subprotocol(f"ticket.{ticket}")],
        ssl=front.trust, compression=None, proxy=None, open_timeout=30,
    )  # fmt: skip


async def read_until(socket: ClientConnection, wanted: bytes) -> None:
    heard = b""
    while wanted not in heard:
        message = read_runner(await socket.recv())
        heard += message.data if isinstance(message, Output) else b""


@pytest.fixture
def terminal(local: Stack) -> Iterator[str]:
    create = ("terminal", "create", "--ttl", "5m", "--json", "--", "bash", "--norc")
    made: dict[str, Any] = json.loads(local.gk("dana", *create).stdout)
    yield str(made["terminalId"])
    local.gk("dana", "terminal", "stop", str(made["terminalId"]))


async def test_a_terminal_is_typed_in_through_nginx_and_no_log_has_its_ticket(
    local: Stack, terminal: str, tmp_path: Path
) -> None:
    with behind_nginx(tmp_path, local) as front:
        ticket = ticket_of(local, front, terminal)
        async with attached(front, terminal, ticket) as socket:
            assert socket.subprotocol == SUBPROTOCOL
            await socket.send(encode_client(Attach(0, 80, 24)))
            await socket.send(encode_client(Input(b"echo $((40 + 2)) is it; seq 1 20000\n")))
            await read_until(socket, b"42 is it")
            await read_until(socket, b"\r\n20000\r\n")
        with pytest.raises(InvalidStatus) as refused:
            async with attached(front, terminal, ticket):
                pass
        problem = json.loads(bytes(refused.value.response.body or b""))
        assert (problem["status"], problem["code"]) == (401, "TICKET_REFUSED")

        async def logged() -> bool:  # nginx writes when it has answered
            return all(f'"GET /attach/{terminal}" {said}' in front.logs() for said in (101, 401))

        assert await eventually(logged), front.logs()
        logs = front.logs()
        assert ticket.split(".")[2] not in logs
        assert "eyJ" not in logs


def test_the_page_and_the_api_pass_and_what_is_for_few_does_not(
    local: Stack, tmp_path: Path
) -> None:
    with (
        behind_nginx(tmp_path, local) as front,
        httpx.Client(base_url=front.url, verify=front.trust, trust_env=False) as client,
    ):
        assert client.get("/healthz").status_code == 200
        assert client.get("/profiles").status_code == 401
        # Also by another name than its own, which a proxy may ask by, the page is shown.
        page = client.get("/console")
        assert (page.status_code, "Sign in" in page.text) == (200, True)
        for path in ("/metrics", "/readyz", "/runners/report"):
            assert client.get(path).status_code == 404, path
            assert client.post(path).status_code == 404, path


def test_it_waits_longer_than_a_gateway_is_silent() -> None:
    attaching = EXAMPLE.split("location /attach/")[1].split("location")[0]
    seconds = re.search(r"proxy_read_timeout (\d+)s;", attaching)

    assert seconds is not None
    assert int(seconds[1]) > 3 * GatewaySettings.model_fields["ping_seconds"].default
