"""A runner's terminals, through its socket: real PTYs, driven as gateways' clients do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from runner_rig import Rig

from gatekeeper.terminals.protocol import term

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with Rig() as running:
        yield running


async def test_a_shell_runs_and_says_how_it_ended(rig: Rig) -> None:
    order = await rig.launch("/bin/sh")
    async with rig.client(order) as client:
        await client.type("echo a-$((1+1))-b; exit 3\r")
        await client.until("a-2-b")
        exited = await client.until_said(term.Exit)
        assert (exited.ending, exited.code) == ("exited", 3)
        assert await client.until_closed() == (4000, "exit 3")
    ended = await rig.plane.until(order.instance, "ended")
    assert ended.ended.exit_code == 3
    assert "a-2-b" in ended.ended.last_screen
