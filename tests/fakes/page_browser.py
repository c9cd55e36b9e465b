"""How a test drives the pages in a real Chromium, and reads the screen."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from fakes.page_stack import TERMINAL, Attached

CHROMIUM = Path("/usr/bin/chromium")
HERE = f"/console/terminals/{TERMINAL}"
IN_CHROMIUM = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}"),
    pytest.mark.asyncio(loop_scope="module"),
]
"""The marks of a module of such tests."""


async def until(check: Callable[[], Any], seconds: float = 8.0) -> None:
    async with asyncio.timeout(seconds):
        while not check():
            await asyncio.sleep(0.02)


async def screen(page: Page) -> list[str]:
    """Read the lines that are to be seen, and those above, as xterm.js has them."""
    text: list[str] = await page.evaluate(
        """() => { const b = document.querySelector('#screen').terminal?.buffer.active;
        if (!b) return [];
        return Array.from({length: b.length}, (_, n) => b.getLine(n).translateToString(true)); }"""
    )
    return text


async def shows(page: Page, text: str) -> None:
    async with asyncio.timeout(15):
        while text not in "\n".join(await screen(page)):
            await asyncio.sleep(0.02)


async def opened(page: Page) -> None:
    await page.goto(HERE)
    await expect(page.locator("#state")).to_have_text(re.compile("attached|watching"))


def playing(*output: bytes, **hello: Any) -> Callable[[Attached], Any]:
    """Write this, and then only listen."""

    async def play(client: Attached) -> None:
        await client.greet(**hello)
        for data in output:
            await client.write(data)
        await client.idle()

    return play
