"""A sequencer in a process of its own, to be killed: `python sequencer_program.py DSN KEY`."""

import asyncio
import sys
from pathlib import Path

from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.audit.sequencer import Sequencer
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.crypto.signing import SigningKey
from gatekeeper.platform.postgres.pool import Pool


async def main(dsn: Secret, key: SigningKey) -> None:
    pool = Pool(dsn, name="sequencer", max_size=2)
    await pool.open()
    await Sequencer(pool=pool, dsn=dsn, key=key, clock=SystemClock()).run()


if __name__ == "__main__":
    asyncio.run(main(Secret(sys.argv[1]), SigningKey.load(Path(sys.argv[2]))))
