"""Ports for servers that are told theirs."""

import socket
from pathlib import Path

import pytest

from gatekeeper.platform.processes import listening
from gatekeeper.platform.processes.listening import free_port


def test_it_can_be_listened_at_and_is_none_that_the_kernel_gives_to_who_connects() -> None:
    port = free_port()
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert not first <= port <= last
    socket.create_server(("127.0.0.1", port)).close()


def test_where_all_are_taken_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(listening, "_PORTS", [taken.getsockname()[1]])
        with pytest.raises(OSError, match="in use"):
            free_port()
