"""From the click on Start to the shell's first byte on the screen, in a real Chromium."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from playwright.async_api import async_playwright

from benchmarks.databases.workbench import percentile
from benchmarks.report import Table

if TYPE_CHECKING:
    from playwright.async_api import Page

    from benchmarks.terminals.workbench import Workbench

CHROMIUM: Final = Path("/usr/bin/chromium")
WRITTEN: Final = """() => { const t = document.querySelector('#screen')?.terminal;
return Boolean(t && t.buffer.active.getLine(0)?.translateToString(true).trim()); }"""


async def measure(bench: Workbench, count: int) -> Table:
    """Start shells from the page as a person does, one after the other."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM if CHROMIUM.exists() else None, args=["--no-sandbox"]
        )
        page = await browser.new_page(base_url=bench.stack.url)
        await page.goto("/console")
        await page.get_by_role("link", name="Sign in").click()
        await page.get_by_role("button", name="I am dana").click()
        await _start(page)  # what is loaded once is loaded
        times = [await _start(page) for _ in range(count)]
        await browser.close()
    figures = (percentile(times, 50), percentile(times, 95), max(times))
    return Table(
        title="Click to first byte, in the page (ms)",
        columns=("what", "p50", "p95", "most"),
        rows=[["click on Start to the shell's prompt", *(f"{t * 1000:.0f}" for t in figures)]],
    )


async def _start(page: Page) -> float:
    await page.goto("/console")
    await page.get_by_label("Reason").fill("benchmark")
    button = page.get_by_role("button", name="Start")
    await button.wait_for()
    began = time.perf_counter()
    await button.click()
    await page.wait_for_function(WRITTEN, polling="raf")
    took = time.perf_counter() - began
    await page.get_by_role("button", name="Stop").click()
    await page.get_by_role("button", name="End it").click()
    await page.locator("#why").wait_for()
    return took
