"""A person and the whole product, in a real Chromium: sign in, start, type, and the deadline."""

import asyncio
import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import termios
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

from acceptance.local_stack import GK, Stack
from acceptance.sample_bundle import sample, served
from fakes.page_browser import CHROMIUM, IN_CHROMIUM, screen, shows
from gatekeeper.terminals.runner.screen.emulator import Emulator

pytestmark = IN_CHROMIUM

XTERM = "document.querySelector('#screen').terminal"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


@asynccontextmanager
async def person(browser: Browser, local: Stack, name: str) -> AsyncIterator[Page]:
    """Sign somebody in; nothing may be told on the console, by the policy of content or else."""
    context = await browser.new_context(base_url=local.url, viewport={"width": 1000, "height": 800})
    page = await context.new_page()
    problems: list[str] = []
    page.on("console", lambda said: problems.append(said.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    await page.goto("/")
    await page.get_by_role("link", name="Sign in").click()
    await page.get_by_role("button", name=f"I am {name}").click()
    await expect(page.get_by_label("Profile")).to_have_value("shell")
    yield page
    assert problems == []
    await context.close()


async def start(page: Page, ttl: str) -> None:
    await page.get_by_label("For how long").fill(ttl)
    await page.get_by_label("Reason").fill("a test")
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#lease")).to_have_text("you type", timeout=20_000)
    await expect(page.get_by_label("Terminal input")).to_be_focused()


async def say(page: Page, line: str) -> None:
    await page.keyboard.type(line)
    await page.keyboard.press("Enter")


async def becomes(page: Page, true: str) -> None:
    async with asyncio.timeout(20):
        while not await page.evaluate(true):
            await asyncio.sleep(0.05)


async def test_a_shell_in_the_browser(browser: Browser, local: Stack) -> None:
    async with person(browser, local, "dana") as page:
        await start(page, "10m")
        await say(page, "echo he''llo")
        await shows(page, "\nhello")
        await say(page, "printf '\\033[1;31mred\\033[0m %s\\n' 'žluťoučký 漢字 👍'")
        await shows(page, "\nred žluťoučký 漢字 👍")
        row = next(n for n, line in enumerate(await screen(page)) if line.startswith("red "))
        cell = await page.evaluate(
            f"""(row) => {{ const c = {XTERM}.buffer.active.getLine(row).getCell(0);
            return [c.getFgColor(), c.isBold() > 0]; }}""",
            row,
        )
        assert cell == [1, True]

        await page.set_viewport_size({"width": 700, "height": 600})
        await becomes(page, f"{XTERM}.cols < 90")
        rows, columns = await page.evaluate(f"[{XTERM}.rows, {XTERM}.cols]")
        await say(page, f"until [ \"$(stty size)\" = '{rows} {columns}' ]; do sleep 0.1; done")
        await say(page, "echo as wi''de")
        await shows(page, "\nas wide")

        await say(page, "exit 3")
        await expect(page.locator("#why")).to_contain_text("exit code 3", timeout=20_000)
        await expect(page.get_by_role("link", name="Start another")).to_be_visible()
        await page.get_by_role("link", name="Recording").click()
        await expect(page.get_by_role("button", name="Play")).to_be_visible()
        await page.get_by_label("Position").focus()
        await page.keyboard.press("End")
        await shows(page, "\nas wide")


async def test_a_flood_is_interrupted_by_a_key(browser: Browser, local: Stack) -> None:
    async with person(browser, local, "dana") as page:
        await start(page, "10m")
        await say(page, "yes")
        await becomes(page, f"{XTERM}.buffer.active.length > 500")
        await page.keyboard.press("Control+c")
        await page.keyboard.type("echo sto''pped\n")
        await shows(page, "\nstopped")
        await say(page, "exit")
        await expect(page.locator("#why")).to_contain_text("exit code", timeout=20_000)


async def test_the_deadline_passes_and_the_page_says_why(browser: Browser, local: Stack) -> None:
    async with person(browser, local, "dana") as page:
        await start(page, "4s")
        await expect(page.locator("#countdown")).to_have_text(re.compile(r"ends in 0:0\d"))
        await expect(page.locator("#why")).to_contain_text("deadline", timeout=15_000)
        await expect(page.get_by_role("link", name="Start another")).to_be_visible()


async def test_another_watches_by_a_link_and_a_reload_loses_nothing(
    browser: Browser, local: Stack
) -> None:
    async with person(browser, local, "dana") as page:
        await start(page, "10m")
        await say(page, "for n in 1 2 3; do echo li''ne $n; done")
        await shows(page, "\nline 3")
        await page.get_by_role("button", name="Share").click()
        await page.get_by_role("button", name="Make a link").click()
        link = page.get_by_label("The link")
        await expect(link).to_have_value(re.compile("/console/shared#"))
        address = await link.input_value()
        await page.reload()
        await shows(page, "\nline 3")

        async with person(browser, local, "olga") as other:
            await other.goto(address)
            await shows(other, "\nline 3")
            await expect(other.locator("#lease")).to_have_text(re.compile("types"))
            await other.locator("#screen").click()
            await other.keyboard.type("nothing")
            await expect(page.locator("#viewers")).to_have_text("2 watching")
            await page.locator("#screen").click()
            await say(page, "echo so''on")
            await shows(other, "\nsoon")
            assert "nothing" not in "\n".join(await screen(other))

        await page.get_by_role("button", name="Stop").click()
        await page.get_by_role("button", name="End it").click()
        await expect(page.locator("#why")).to_contain_text("Somebody ended")


async def test_signing_out_in_one_tab_cuts_the_terminals_in_all_others(
    browser: Browser, local: Stack
) -> None:
    async with person(browser, local, "dana") as page, person(browser, local, "olga") as operator:
        await start(page, "10m")
        await say(page, "echo secret-$((40 + 2))")
        await shows(page, "secret-42")
        await operator.goto(f"{page.url}?mode=read")
        await expect(operator.locator("#viewers")).to_have_text("2 watching")
        other = await page.context.new_page()
        await other.goto("/console")
        await other.get_by_role("button", name="Sign out").click()

        for tab in (other, page):
            await expect(tab.get_by_role("link", name="Sign in")).to_be_visible()
        assert "secret-42" not in await page.content()
        await expect(operator.locator("#viewers")).to_be_empty()
        await expect(operator.locator("#state")).to_have_text("watching")
        await page.get_by_role("link", name="Sign in").click()
        await page.get_by_role("button", name="I am dana").click()
        await expect(page.locator("#state")).to_have_text("attached")
        await shows(page, "secret-42")


@pytest.mark.skipif(shutil.which("psql") is None, reason="there is no psql")
async def test_a_database_is_picked_with_what_the_policy_allows(
    browser: Browser, local: Stack
) -> None:
    async with person(browser, local, "dana") as page:
        database = page.get_by_label("Database")
        await database.select_option("pg-local/app_admin")
        await expect(page.locator("#database-says")).to_contain_text("No: ")
        await database.select_option("pg-local/app_read")
        await expect(page.locator("#database-says")).to_have_text("at most 1h")
        await start(page, "10m")
        await say(page, "psql -Atc \"select 'i am ' || current_user\"")
        await shows(page, "\ni am gk_")
        await say(page, "exit")
        await expect(page.locator("#why")).to_contain_text("exit code 0", timeout=20_000)


Cells = list[tuple[str, str]]
"""Of a row: characters, and the SGR that gives their look."""

CELLS = f"""() => {{
  const b = {XTERM}.buffer.active, front = (c) => {{
    const n = c.getFgColor();
    if (c.isFgRGB()) return `38;2;${{n >> 16}};${{(n >> 8) & 255}};${{n & 255}}`;
    return !c.isFgPalette() ? "" : n < 8 ? `${{30 + n}}` : n < 16 ? `${{82 + n}}` : `38;5;${{n}}`;
  }};
  const look = (c) => [c.isBold() && "1", c.isDim() && "2", c.isItalic() && "3",
    c.isUnderline() && "4", c.isInverse() && "7", front(c)].filter(Boolean).join(";");
  const row = (y) => Array.from({{length: {XTERM}.cols}}, (_, x) => b.getLine(y).getCell(x));
  return Array.from({{length: {XTERM}.rows}}, (_, y) => row(b.baseY + y).map(
    (c) => [c.getChars() || (c.getWidth() ? " " : ""), look(c)]));
}}"""


async def page_cells(page: Page) -> list[Cells]:
    rows = await page.evaluate(CELLS)
    return [[(chars, look) for chars, look in row] for row in rows]


@contextmanager
def watching(local: Stack, terminal: str, rows: int, columns: int) -> Iterator[int]:
    """Run `gk terminal attach --read` in a terminal of this size; what it draws is to be read."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen(
        [*GK, "terminal", "attach", "--read", terminal],
        env=local.environment("dana"), stdin=its, stdout=its, stderr=its, start_new_session=True,
    )  # fmt: skip
    os.close(its)
    try:
        yield ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


async def drawn(fd: int, until: str) -> bytes:
    data = b""
    async with asyncio.timeout(30):
        while re.search(until, data.decode(errors="replace"), re.DOTALL) is None:
            data += await asyncio.to_thread(os.read, fd, 65_536)
    return data


async def test_the_sample_looks_the_same_in_a_terminal_and_in_the_browser(
    browser: Browser, local: Stack, tmp_path: Path
) -> None:
    digest = sample(tmp_path)
    run = "read go; printf '\\033[H\\033[2J\\033[3J'; PATH=$PWD:$PATH python3 ask.py why so blue?"
    with served(tmp_path) as url:
        bundle = ("--bundle", f"{url}/sample.tar.gz", "--sha256", digest, "--ttl", "5m")
        made = await asyncio.to_thread(
            local.gk, "dana", "terminal", "create", *bundle, "--", "sh", "-c", f"{run}; read end"
        )
        terminal_id = made.stdout.strip()
    async with person(browser, local, "dana") as page:
        await page.goto(f"/console/terminals/{terminal_id}")
        await expect(page.locator("#lease")).to_have_text("you type", timeout=20_000)
        rows, columns = await page.evaluate(f"[{XTERM}.rows, {XTERM}.cols]")
        with watching(local, terminal_id, rows, columns) as fd:
            await drawn(fd, "Unpacked")
            await say(page, "")
            seen = await drawn(fd, "3/3 writing the answer down")
        await shows(page, "3/3 writing the answer down")
        in_page = await page_cells(page)
        await page.screenshot(path=tmp_path / "page.png")

        terminal = Emulator(columns, rows)
        terminal.feed(seen)
        in_terminal = [list(zip(row.chars, row.looks, strict=True)) for row in terminal.grid.rows]
        (tmp_path / "terminal.txt").write_text("\n".join(terminal.lines()))
        assert in_terminal == in_page
        assert {look for row in in_page for _, look in row} >= {"", "32"}
        told = local.json("dana", "terminal", "screen", terminal_id)["lines"]
        text = ["".join(chars for chars, _ in row).rstrip() for row in in_page]
        assert [line.rstrip() for line in told] == text[: len(told)]
        assert any("you asked: why so blue?" in line for line in told)

        # What gk wrote to its terminal, drawn by xterm.js: the other picture to look at.
        await page.evaluate(
            f"""(data) => new Promise((drawn) => {{
            {XTERM}.reset(); {XTERM}.write(new Uint8Array(data), drawn); }})""",
            list(seen),
        )
        assert await page_cells(page) == in_page
        await page.screenshot(path=tmp_path / "terminal-drawn-by-xterm.png")
        local.gk("dana", "terminal", "stop", terminal_id)
