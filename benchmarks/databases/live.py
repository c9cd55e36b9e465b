"""Issue at the target with 0, 1,000 and 10,000 live logins, on PostgreSQL 15, 16 and 18.

From 16 on a role that makes roles slows with its own live ones; the owners are sharded for
that. Measured at the provider, one call at a time, with an iteration count of one, so that
what the server spends on the verifier does not hide it.
"""

from __future__ import annotations

import secrets
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.databases.workbench import CHEAP_VERIFIER, load
from benchmarks.report import Curve, Table
from gatekeeper.bootstrap.target import prepare_sample_target
from gatekeeper.databases.adapters.postgresql.provider import PostgreSQLProvider
from gatekeeper.databases.model import CreateUser
from gatekeeper.kernel import ids
from gatekeeper.kernel.errors import UnavailableError
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.postgres.embedded import EmbeddedServer, find_binaries

if TYPE_CHECKING:
    from collections.abc import Sequence

SERVERS = ((15, 16), (16, 16), (16, 64), (18, 16), (18, 64))
"""Major versions, and how many owners share the logins (16 unless a target asks for more)."""
MEASURED = 200


async def measure(most: int) -> Table:
    live = (0, most // 10, most)
    lines: dict[str, Sequence[float]] = {}
    missing = []
    for major, owners in SERVERS:
        try:
            lines[f"PostgreSQL {major}, {owners} owners"] = await _issue_times(major, owners, live)
        except UnavailableError:
            missing.append(major)
    rows = [
        [name, *(f"{ms:.2f}" for ms in times), f"{times[-1] / times[0]:.1f}x"]
        for name, times in lines.items()
    ]
    rows += [[f"PostgreSQL {major}", "not installed", "", "", ""] for major in sorted(set(missing))]
    return Table(
        title="Issue at the target, p50 ms",
        columns=("server", *(f"{count} live" for count in live), "most against none"),
        rows=rows,
        curve=Curve(
            x=live, lines=lines, x_label="live logins", y_label="ms at the target, p50", log_x=True
        ),
    )


async def _issue_times(major: int, owners: int, live: Sequence[int]) -> Sequence[float]:
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedServer(Path(folder) / "data", find_binaries(major))
        async with server:
            provider = PostgreSQLProvider(
                await prepare_sample_target(Secret(server.dsn()), "shop", shards=owners)
            )
            try:
                return [await _p50_with(provider, count) for count in live]
            finally:
                await provider.close()


async def _p50_with(provider: PostgreSQLProvider, live: int) -> float:
    there = len(await provider.list_managed_users())
    await load(lambda: _create(provider), callers=4, count=max(0, live - there))
    return (await load(lambda: _create(provider), callers=1, count=MEASURED)).milliseconds(50)


async def _create(provider: PostgreSQLProvider) -> None:
    session = ids.session_id(secrets.token_bytes(ids.RANDOM_BYTES))
    await provider.create_ephemeral_user(
        CreateUser(
            session=session,
            username=ids.role_name(session),
            role="app_read",
            ttl=timedelta(hours=1),
            verifier=CHEAP_VERIFIER,
            correlation_id="cor_benchmark",
        )
    )
