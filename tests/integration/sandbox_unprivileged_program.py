"""Starts terminals as somebody who is not root, and prints what came of it as JSON.

Started by root it first becomes nobody; whatever is needed is imported before that, as the
files may not be readable after.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread
import ctypes
import encodings.idna
import json
import os
import sys
import tempfile
from pathlib import Path

from sandbox_cases import PYTHON, Sandboxes, Screen

from gatekeeper.terminals.runner.sandbox import accounting, report, seccomp
from gatekeeper.terminals.runner.sandbox.bubblewrap import Bubblewrap
from gatekeeper.terminals.runner.sandbox.cgroups import Cgroups
from gatekeeper.terminals.runner.sandbox.landlock import Landlock
from gatekeeper.terminals.runner.sandbox.owners import Owners

NOBODY = 65_534
PR_SET_DUMPABLE = 4
LOADED = (concurrent.futures.thread, encodings.idna)
STUBBORN = """
trap '' HUP TERM
(setsid nohup sh -c 'trap "" HUP TERM; exec 1>/dev/null 2>&1; while :; do sleep 0.1; done' &)
setsid sh -c 'sleep 300 & sleep 300 & wait' &
echo up; while :; do sleep 1; done
"""
MANY = """
import signal
made = 0
try:
    for _ in range(12):
        if os.fork() == 0: signal.pause()
        made += 1
except OSError: pass
print(made)
"""


def become_nobody() -> None:
    for internet in (True, False):
        seccomp.program(internet=internet)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
        sys.executable = PYTHON
    os.chdir("/")


async def look(boxes: Sandboxes) -> dict[str, object]:
    user = await boxes.shell("id -u; cat /etc/shadow 2>/dev/null; echo end")
    many = await boxes.python(MANY, processes=8)
    held = await boxes.tier.start(boxes.wanted(("sh", "-c", STUBBORN)))
    screen = Screen(held)  # type: ignore[arg-type]
    await screen.until("up")
    await asyncio.sleep(0.1)
    pids = await asyncio.to_thread(screen.held._scan)
    ended = await held.end()
    screen.close()
    return {
        "user": user.words,
        "many": many.words,
        "ended": ended,
        "alive": [pid for pid in pids if accounting.lives(pid)],
        "left": held.left(),
        "uid": held.uid == os.geteuid(),
    }


async def main() -> None:
    told: dict[str, object] = {}
    known = {one.name: one for one in await asyncio.to_thread(report)}
    for make in (Bubblewrap, Landlock):
        tier = make(cgroups=Cgroups(), owners=Owners())
        works = known[tier.name]
        told[tier.name] = works.detail
        if works.works:
            with tempfile.TemporaryDirectory() as folder:
                told[tier.name] = await look(Sandboxes(tier, Path(folder)))
                told[f"{tier.name} gaps"] = works.gaps
    print(json.dumps(told))  # noqa: T201


if __name__ == "__main__":
    become_nobody()
    asyncio.run(main())
