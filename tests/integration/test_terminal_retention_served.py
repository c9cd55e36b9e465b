"""A recording's whole life on a real control plane and a real runner, until its time is over."""

import asyncio
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from runner_rig import SECONDS
from test_terminal_evidence import Installation, installation, store
from typer.testing import CliRunner, Result

from factories.installation import issuer_key, token
from gatekeeper.bootstrap.terminals import controlling
from gatekeeper.client import operations
from gatekeeper.client.evidence import verify_lines
from gatekeeper.entrypoints.gk import root
from gatekeeper.wire import terminals as wire

__all__ = ["store"]


@pytest.fixture(autouse=True)
def looks() -> Iterator[None]:
    """Have recordings looked at all the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(controlling, "LOOK_SECONDS", 0.2)
        yield


async def recorded(made: Installation) -> str:
    """Have a terminal write something and end; return its id when it is proven gone."""
    body = wire.CreateTerminal.model_validate(
        {"command": ["/bin/sh", "-c", "echo canary"], "ttl": "5m", "reason": "why"}
    )
    terminal = await made.client.call(
        operations.create_terminal(body, idempotency_key=secrets.token_hex(8), wait=20)
    )
    await made.export("terminal.cleaned")
    return terminal.terminal_id


async def outlived(made: Installation, terminal: str) -> wire.TerminalView:
    """Let two days pass, and wait until the recording is noted as deleted."""
    async with await psycopg.AsyncConnection.connect(made.store) as connection:
        await connection.execute(
            "UPDATE gatekeeper.terminal SET ended_at = ended_at - interval '2 days' WHERE id = %s",
            (terminal,),
        )
    async with asyncio.timeout(SECONDS):
        while True:
            view = await made.client.call(operations.get_terminal(terminal))
            if view.recording is not None and view.recording.deleted_at is not None:
                return view
            await asyncio.sleep(0.1)


async def metrics(url: str) -> dict[str, float]:
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{url}/metrics")).text
    lines = [line.split() for line in text.splitlines() if line.startswith("gatekeeper_recordings")]
    return {name: float(value) for name, value in lines}


async def test_it_is_there_then_deleted_and_its_copy_is_proven_for_ever(
    store: str, tmp_path: Path
) -> None:
    copy, export = tmp_path / "copy.cast", tmp_path / "evidence.jsonl"
    async with installation(store, tmp_path) as made:
        url = made.rig.settings.control_plane_url
        environment = {
            "GATEKEEPER_SERVER": url,
            "GATEKEEPER_HOME": str(tmp_path / "home"),
            "GATEKEEPER_TOKEN": token(issuer_key(tmp_path), "dana", "eng", "operators").reveal(),
        }

        async def gk(*arguments: str) -> Result:
            return await asyncio.to_thread(
                CliRunner().invoke, root, [*arguments], env=environment, prog_name="gk"
            )

        terminal = await recorded(made)
        taken = await gk("terminal", "download", terminal, "-o", str(copy))
        async with asyncio.timeout(SECONDS):
            while (before := await metrics(url))["gatekeeper_recordings_bytes"] == 0:
                await asyncio.sleep(0.1)
        view = await outlived(made, terminal)
        lines = await made.export("terminal.recording_deleted")
        refused = [await gk("terminal", way, terminal) for way in ("play", "download", "screen")]
        proven = await gk("audit", "verify", "--recording", str(copy), "--terminal", terminal)
        in_json = await gk("audit", "verify", "--recording", str(copy), "--json")
        listed = await gk("terminal", "list")
        async with asyncio.timeout(SECONDS):
            while (after := await metrics(url))["gatekeeper_recordings_bytes"]:
                await asyncio.sleep(0.1)

    assert taken.exit_code == 0, taken.output
    assert b"canary" in copy.read_bytes()
    assert not (tmp_path / "recordings" / terminal).exists()
    assert before["gatekeeper_recordings_bytes"] == copy.stat().st_size
    assert before["gatekeeper_recordings_deleted_total"] == 0
    assert after["gatekeeper_recordings_deleted_total"] == 1
    assert after["gatekeeper_recordings_overdue"] == 0
    assert view.recording is not None
    assert view.recording.deleted_at is not None
    assert view.last_screen is None
    deleted = f"was deleted at {view.recording.deleted_at:%Y-%m-%dT%H:%M:%SZ} by retention"
    for answer in refused:
        assert answer.exit_code == 5
        assert deleted in answer.stderr
    assert listed.exit_code == 0
    assert proven.exit_code == 0, proven.output
    assert f"whole: {copy}, all 1 segment(s) of {terminal}" in proven.stdout
    assert deleted in proven.stderr
    check = json.loads(in_json.stdout)["recording"]
    assert (check["whole"], check["deletedBy"]) == (True, "retention")
    assert check["deletedAt"][:19] == f"{view.recording.deleted_at:%Y-%m-%dT%H:%M:%S}"
    assert verify_lines(lines).broken is None
    export.write_bytes(b"\n".join(lines) + b"\n")
    (event,) = (json.loads(one)["event"] for one in lines if b"recording_deleted" in one)
    assert event["data"]["head"] == view.recording.head


async def test_the_api_says_gone_and_not_that_it_never_was(store: str, tmp_path: Path) -> None:
    async with installation(store, tmp_path) as made:
        terminal = await recorded(made)
        await outlived(made, terminal)
        bearer = token(issuer_key(tmp_path), "dana", "eng").reveal()
        async with httpx.AsyncClient(
            base_url=made.rig.settings.control_plane_url,
            headers={"Authorization": f"Bearer {bearer}"},
        ) as client:
            gone = await client.get(f"/terminals/{terminal}/recording")
            never = await client.get(f"/terminals/trm_{'a' * 20}/recording")

    assert (gone.status_code, never.status_code) == (410, 404)
    problem = gone.json()
    assert (problem["code"], problem["retryable"]) == ("RECORDING_DELETED", False)
    assert problem["hint"] == "the evidence has its hashes still: a copy can be held against them"
