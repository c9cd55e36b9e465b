"""Serves the decision ports of several configurations in one process, and prints their ports.

`examples_program.py CONFIG...`: as `passctrl serve` does for one, with one start for all.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from functools import partial
from pathlib import Path

from gatekeeper.bootstrap.forwardauth.serving import application
from gatekeeper.forwardauth.web.worker import serve_one


async def main(configurations: list[Path]) -> None:
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in configurations]
    sys.stdout.write(json.dumps([one.getsockname()[1] for one in listening]) + "\n")
    sys.stdout.flush()
    environment = dict(os.environ)
    await asyncio.gather(
        *(
            serve_one(partial(application, path, environment), one, None, None)
            for path, one in zip(configurations, listening, strict=True)
        )
    )


if __name__ == "__main__":
    asyncio.run(main([Path(argument) for argument in sys.argv[1:]]))
