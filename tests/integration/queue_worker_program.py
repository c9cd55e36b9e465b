"""A worker in a process of its own, for test_queue.py to kill: its jobs write one row each.

Arguments: the DSN, and the lease in seconds.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from gatekeeper.kernel.secret import Secret
from gatekeeper.platform import queue
from gatekeeper.platform.postgres.pool import Pool
from gatekeeper.platform.random import SystemRandom

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatekeeper.platform.queue import ClaimedJob, Outcome


async def main(dsn: Secret, lease: float) -> None:
    pool = Pool(dsn, name="killed", max_size=8)
    await pool.open()

    async def handle(batch: Sequence[ClaimedJob]) -> Sequence[Outcome]:
        (job,) = batch
        async with pool.connection() as connection, connection.transaction():
            await connection.execute("INSERT INTO effect (job) VALUES (%s)", (job.id,))
            await asyncio.sleep(0.02)
            if not await queue.complete(connection, batch):
                raise queue.LeaseLostError(job.id)
        return [queue.Settled()]

    worker = queue.Worker(
        pool=pool,
        dsn=dsn,
        lanes={"end": 4},
        handlers={"end": handle},
        random=SystemRandom(),
        lease_seconds=lease,
    )
    await worker.run()


if __name__ == "__main__":
    asyncio.run(main(Secret(sys.argv[1]), float(sys.argv[2])))
