"""A terminal with a database login in a real runner and a real sandbox, and what it records."""

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from runner_rig import Client, Rig

from gatekeeper.platform.postgres.embedded import EmbeddedServer
from gatekeeper.terminals.errors import SandboxUnavailableError
from gatekeeper.terminals.runner.sandbox import choose
from gatekeeper.wire.runner import BindOrder, EndOrder, LaunchedResult, LaunchOrder

USER = "gk_runnerrunnerrunner22"


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    try:
        made.sandbox = choose(allow_unsandboxed=False)  # type: ignore[assignment]
    except SandboxUnavailableError as error:
        pytest.skip(error.detail)
    async with made as running:
        yield running


def bind_order(order: LaunchOrder, server: EmbeddedServer) -> BindOrder:
    return BindOrder(
        id="bind", correlation_id="cor", terminal=order.terminal, instance=order.instance,
        session="ses_runnerrunnerrunner22", host="127.0.0.1", port=server.port, database="postgres",
        sslmode="disable", username=USER,
    )  # fmt: skip


async def test_psql_is_connected_what_is_typed_early_is_kept_and_no_recording_has_the_password(
    rig: Rig, server_18: EmbeddedServer
) -> None:
    order = rig.launch_order("/bin/sh", database=True)
    launched = await rig.order(order)
    assert isinstance(launched, LaunchedResult), launched
    assert launched.verifier is not None
    admin = await psycopg.AsyncConnection.connect(server_18.dsn(), autocommit=True)
    user = sql.Identifier(USER)
    await admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(user, launched.verifier))
    await admin.execute(sql.SQL("GRANT CONNECT ON DATABASE postgres TO {}").format(user))
    try:
        async with rig.client(order) as client:
            await client.write("psql -XAtc 'SELECT session_user, 6*7'\n")
            await client.write("cat /run/gatekeeper/pgpass; echo no-$((1+1))-more\n")
            done = await rig.order(bind_order(order, server_18))
            assert done.type == "done", done
            await client.until(f"{USER}|42")
            shown = await client.until("no-2-more")
            await end(rig, client, order)
        secret = shown.rpartition(f":{USER}:")[2].split()[0]
        assert len(secret) == 43, shown
        recording = b"".join(
            path.read_bytes() for path in (rig.settings.recordings / order.terminal).glob("*")
        )
        assert USER.encode() in recording
        assert secret.encode() not in recording
        ended = (await rig.plane.until(order.instance, "ended")).ended
        kept = ended.last_screen.replace("\n", "")
        assert "no-2-more" in kept
        assert secret not in kept
        assert not list((rig.settings.folder / "work").glob("*"))
        (row,) = await (
            await admin.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = %s", [USER])
        ).fetchall()
        assert row == (0,)
    finally:
        await admin.execute(sql.SQL("DROP OWNED BY {}").format(user))
        await admin.execute(sql.SQL("DROP ROLE {}").format(user))
        await admin.close()


async def test_a_terminal_that_never_gets_its_login_runs_nothing_and_can_be_ended(rig: Rig) -> None:
    order = await rig.launch("/bin/sh", "-c", "echo began", database=True)
    async with rig.client(order) as client:
        await end(rig, client, order)
        assert b"began" not in client.output


async def end(rig: Rig, client: Client, order: LaunchOrder) -> None:
    wanted: dict[str, Any] = {"terminal": order.terminal, "instance": order.instance}
    gone = await rig.order(EndOrder(id="end", correlation_id="cor", why="revoked", **wanted))
    assert gone.type == "gone"
    assert gone.gone
    await client.until_closed()
