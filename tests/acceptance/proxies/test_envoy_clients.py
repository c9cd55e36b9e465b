"""Who the client is behind Envoy: what `use_remote_address` is for, by HTTP and by gRPC.

Envoy calls a client on 127.0.0.1 by another address of the machine: these come from 127.0.0.2.
"""

import pytest

from acceptance.proxies.conftest import Start
from proxies.client import ask
from proxies.servers import GRPC

CLIENT, FORGED = "127.0.0.2", "10.9.8.7"


def client(port: int, *lines: str) -> str:
    """Ask from 127.0.0.2, and return whom PassCtrl takes for the client."""
    (value,) = ask(port, "/", *lines, source=CLIENT).arrived.values("x-user")
    return value


@pytest.mark.parametrize("name", ["envoy", GRPC.name])
def test_a_client_does_not_choose_its_address(
    name: str, real: int, real_grpc: int, start: Start
) -> None:
    proxy = start(name, real if name == "envoy" else real_grpc, "whose")

    assert client(proxy.port) == CLIENT
    assert client(proxy.port, f"X-Forwarded-For: {FORGED}") == CLIENT
    assert client(proxy.port, f"X-Forwarded-For: {FORGED}, 127.0.0.1") == CLIENT


def test_without_use_remote_address_a_client_chooses_its_address_by_http(
    real: int, start: Start
) -> None:
    proxy = start("envoy", real, "whose", use_remote_address="false")

    assert client(proxy.port, f"X-Forwarded-For: {FORGED}") == FORGED
    assert ask(proxy.port, "/", source=CLIENT).status == 400  # nobody tells who it is


def test_by_grpc_a_client_does_not_choose_its_address_even_then(
    real_grpc: int, start: Start
) -> None:
    proxy = start(GRPC.name, real_grpc, "whose", use_remote_address="false")

    assert client(proxy.port, f"X-Forwarded-For: {FORGED}") == CLIENT
    assert client(proxy.port, f"X-Forwarded-For: {FORGED}, 127.0.0.1") == CLIENT
