"""A look at recordings that kills its own process: `python retention_program.py DSN FOLDER POINT`.

POINT is `noted` (before that is committed), `committed` (before the first file goes), or `begun`
(one file is gone).
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from gatekeeper.kernel.ids import TerminalId
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.postgres.pool import Pool
from gatekeeper.terminals.adapters.recordings import FolderRecordings
from gatekeeper.terminals.adapters.store import PostgresTerminalStore
from gatekeeper.terminals.jobs.retention import Retention
from gatekeeper.terminals.ports import TerminalUnit


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Store(PostgresTerminalStore):
    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[TerminalUnit]:
        async with super().transaction() as unit:
            yield unit
            assert await unit.deleted_recordings(self.all), "it is noted"
            die()

    all: Sequence[TerminalId] = ()


class Recordings(FolderRecordings):
    def __init__(self, folder: Path, point: str) -> None:
        super().__init__(folder)
        self.folder, self.point = folder, point

    async def delete(self, terminal: TerminalId) -> None:
        if self.point == "begun":
            min((self.folder / terminal).iterdir()).unlink()
        die()


async def main(dsn: Secret, folder: Path, point: str) -> None:
    pool = Pool(dsn, name="retention", max_size=2)
    await pool.open()
    store = Store(pool) if point == "noted" else PostgresTerminalStore(pool)
    keep = timedelta(days=30)
    await Retention(store=store, recordings=Recordings(folder, point), keep=keep).look()


if __name__ == "__main__":
    Store.all = [TerminalId(path.name) for path in Path(sys.argv[2]).iterdir()]
    asyncio.run(main(Secret(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
