"""What every tour is told with: scenes, commands as a user would type them, and what must hold."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from pathlib import Path

    from gatekeeper.entrypoints.operate.stack import Stack


class TourError(Exception):
    """Something was not as it must be: the tour stops and says what."""


class Tour:
    """Plays the people; each of them has a folder of their own."""

    def __init__(self, home: Path, stack: Stack) -> None:
        self.home = home
        self.stack = stack
        self._environment = {**os.environ, "GATEKEEPER_SERVER": stack.url, "NO_COLOR": "1"}

    async def log_in(self, name: str, title: str) -> None:
        scene(title)
        self._environment["GATEKEEPER_HOME"] = str(self.home / name)
        process = await self.start("login", "--device")
        await self._approve(process, name)
        _stdout, said = await process.communicate()
        must(process.returncode == 0, said.decode().strip() or "gk login failed")
        say(f"    {said.decode().strip().splitlines()[-1]}")

    async def gk(self, *arguments: str, echo: bool = False) -> str:
        """Run a command that has to succeed; return what it printed."""
        process = await self.start(*arguments)
        stdout, stderr = await process.communicate()
        if process.returncode != 0:
            raise TourError(stderr.decode().strip() or f"gk {arguments[0]} failed")
        if echo:
            show(stdout + stderr)
        return stdout.decode()

    async def start(self, *arguments: str, quiet: bool = False) -> asyncio.subprocess.Process:
        if not quiet:
            say(f"  $ gk {' '.join(_shown(argument, self.home) for argument in arguments)}")
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gatekeeper", *arguments),
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def _approve(self, process: asyncio.subprocess.Process, name: str) -> None:
        """Read the URL that gk shows, and confirm it the way a browser would."""
        url = await _first_url(process)
        async with httpx.AsyncClient(trust_env=False, follow_redirects=True) as browser:
            await browser.get(url)
            code = dict(httpx.URL(url).params)["user_code"]
            answer = await browser.post(
                url.split("?")[0], data={"user_code": code, "user": name, "action": "approve"}
            )
            must(answer.status_code == httpx.codes.OK, "the issuer did not take the approval")


async def _first_url(process: asyncio.subprocess.Process) -> str:
    """Read what gk tells the user until it names a page to open."""
    stream = process.stderr
    while stream is not None and (line := await stream.readline()):
        for word in line.decode().split():
            if word.startswith("http") and "user_code=" in word:
                say(f"    open {word}")
                return word
    msg = "gk login named no page to open"
    raise TourError(msg)


def must(condition: bool, otherwise: str) -> None:
    if not condition:
        raise TourError(otherwise)


def scene(title: str) -> None:
    say(f"\n{title}")


def report(step: str, seconds: float) -> None:
    say(f"  {step:<66} {seconds:5.1f} s")


def show(output: bytes, most: int | None = None, mark: str = "") -> None:
    """Show what a command said, or its first lines."""
    for line in output.decode(errors="replace").strip().splitlines()[:most]:
        say(f"    {mark}{line}")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _shown(argument: str, home: Path) -> str:
    text = argument.replace(str(home) + "/", "")
    return f'"{text}"' if " " in text else text
