"""The terminal page in a real browser, over the real protocol."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright

from fakes.page_stack import PageStack, page_stack

CHROMIUM = Path("/usr/bin/chromium")

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}"),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest.fixture
def stack(tmp_path: Path, store_dsn: str) -> Iterator[PageStack]:
    with page_stack(tmp_path, store_dsn) as stack:
        yield stack


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser, stack: PageStack) -> AsyncIterator[Page]:
    """Give a page whose console stays empty: no error, nothing that the policy refused."""
    context = await browser.new_context(base_url=stack.url, viewport={"width": 1000, "height": 800})
    page = await context.new_page()
    problems: list[str] = []
    page.on("console", lambda said: problems.append(said.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    try:
        yield page
        assert problems == []
    finally:
        await context.close()


async def sign_in(page: Page, path: str = "/console") -> None:
    await page.goto(path)
    await page.get_by_role("link", name="Sign in").click()
    await page.get_by_role("button", name="I am dana").click()


async def test_smoke(page: Page, stack: PageStack) -> None:
    await sign_in(page)
    await page.screenshot(path="/tmp/s1.png")
    await page.get_by_role("button", name="Start").click()
    await page.wait_for_timeout(1500)
    await page.screenshot(path="/tmp/s2.png")
    await page.keyboard.type("echo hi")
    await page.wait_for_timeout(500)
    await page.screenshot(path="/tmp/s3.png")
    print(stack.terminals.asked, [c.typed for c in stack.terminals.clients])
