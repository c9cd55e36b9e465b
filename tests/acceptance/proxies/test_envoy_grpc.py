"""Envoy that asks by gRPC does with PassCtrl's word what every proxy does, and a few things more."""

import asyncio
from pathlib import Path

import pytest

from acceptance.proxies.conftest import Start
from acceptance.proxies.policy import ALICE
from acceptance.proxies.test_proxies import *  # noqa: F403  # all of it, with these fixtures
from gatekeeper.forwardauth.dialects import Dialect
from gatekeeper.forwardauth.model import RawRequest, Reply
from gatekeeper.forwardauth.web.ext_authz import serve_ext_authz
from gatekeeper.platform.processes.listening import free_port
from proxies.application import Application
from proxies.client import ask
from proxies.files import passctrl_on
from proxies.servers import EXAMPLES, GRPC, Proxy, running

JOINED = {"encode_raw_headers": "false"}
NO_UTF8 = "X-Note: caf\xe9 \xff"


@pytest.fixture(scope="module")
def proxy(real_grpc: int, start: Start) -> Proxy:
    return start(GRPC.name, real_grpc)


@pytest.fixture(scope="module")
def portal(real_grpc: int, start: Start) -> Proxy:
    return start(GRPC.name, real_grpc, "portal")


async def test_what_envoy_asks_by_grpc(start: Start) -> None:
    asked: list[tuple[str, str, RawRequest]] = []

    def decide(endpoint: str, dialect: Dialect, raw: RawRequest) -> Reply:
        asked.append((endpoint, dialect.name, raw))
        return Reply(200, (), b"")

    port = free_port()
    lines = ["Authorization: one", "Authorization: two", "Cookie: a=1", "Cookie: b=2"]
    proxy = start(GRPC.name, port)
    async with serve_ext_authz(decide, address="127.0.0.1", port=port):
        await asyncio.to_thread(
            ask, proxy.port, "/a/b?c=d", *lines, method="POST", body=b"hello", source="127.0.0.2"
        )

    ((endpoint, dialect, raw),) = asked
    assert (endpoint, dialect, raw.peer) == ("app", "envoy-grpc", "127.0.0.1")
    assert (raw.method, raw.target) == ("POST", b"/a/b?c=d")
    assert sorted(field for field in raw.headers if field[0] != b"x-request-id") == [
        (b"authorization", b"one,two"),
        (b"content-length", b"5"),
        (b"cookie", b"a=1"),
        (b"cookie", b"b=2"),
        (b"host", b"app.example.com"),
        (b"x-envoy-external-address", b"127.0.0.2"),
        (b"x-forwarded-for", b"127.0.0.2"),  # Envoy's
        (b"x-forwarded-for", b"127.0.0.2"),  # of the message's source
        (b"x-forwarded-proto", b"http"),
    ]


@pytest.mark.parametrize("changed", [{}, JOINED], ids=["raw", "joined"])
def test_a_header_that_is_no_utf8_is_no_way_in_and_arrives_as_it_was(
    real_grpc: int, start: Start, application: Application, changed: dict[str, str]
) -> None:
    """CVE-2024-23324: the question was no valid message, and so none was asked."""
    proxy = start(GRPC.name, real_grpc, **changed)

    assert ask(proxy.port, "/", NO_UTF8).status == 401
    assert application.received == []
    assert ask(proxy.port, "/", NO_UTF8, ALICE).arrived.values("x-note") == ["caf\xe9 \xff"]


def test_two_cookie_headers_are_two_cookies_or_none(
    real: int, real_grpc: int, start: Start, application: Application
) -> None:
    cookies = ["Cookie: a=1", "Cookie: b=2"]
    raw, joined = start(GRPC.name, real_grpc), start(GRPC.name, real_grpc, **JOINED)

    assert ask(raw.port, "/", ALICE, *cookies).arrived.values("cookie") == ["a=1", "b=2"]
    application.received.clear()
    assert ask(joined.port, "/", ALICE, *cookies).status == 400
    assert ask(start("envoy", real).port, "/", ALICE, *cookies).status == 400  # by HTTP
    assert application.received == []


def test_a_decision_service_that_is_not_there_lets_nobody_in(
    start: Start, application: Application
) -> None:
    proxy = start(GRPC.name, free_port())

    assert ask(proxy.port, "/", ALICE).status == 503
    assert application.received == []


def test_the_example_of_passctrl_lets_in_whom_it_knows(
    application: Application, tmp_path: Path
) -> None:
    """Without the filter that removes identity headers: PassCtrl's take their place anyway."""
    folder, grpc = tmp_path / "envoy", free_port()
    configuration = tmp_path / "passctrl.yaml"
    configuration.write_text((EXAMPLES / GRPC.name / "passctrl.yaml").read_text())
    forged = ["X-User: root", "x-user: root", "X-Groups: admins", "X-Email: root@example.com"]
    with (
        passctrl_on(configuration, environment={"PASSCTRL_SERVER__GRPC__PORT": str(grpc)}),
        running(
            GRPC.name,
            folder,
            passctrl=grpc,
            application=application.port,
            changed={"- remove: x-": "- remove: y-"},
        ) as proxy,
    ):
        refused = ask(proxy.port, "/", "Authorization: Bearer another-token", *forged)
        arrived = ask(proxy.port, "/", "Authorization: Bearer change-this-token", *forged).arrived

    assert refused.status == 401
    assert arrived.values("x-user") == ["ada"]
    assert arrived.values("x-groups") == ["people"]
    assert arrived.values("x-email") == [""]
    assert arrived.values("cache-control") == []
