"""The pages in a real Chromium: fixtures of the modules that name this one in `pytest_plugins`.

Such a module has one browser, one control plane and one sign-in, and a context of its own in
each test.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect
from psycopg import sql
from psycopg.conninfo import make_conninfo

from fakes.page_stack import PageStack, page_stack
from gatekeeper.platform.postgres.embedded import EmbeddedServer
from servers import APPLICATION_PASSWORD, TEMPLATE

CHROMIUM = Path("/usr/bin/chromium")
DATABASE = "store_of_pages"


@pytest.fixture(scope="module")
def served(
    server_18: EmbeddedServer,
    store_databases: psycopg.Connection,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[PageStack]:
    name = sql.Identifier(DATABASE)
    store_databases.execute(
        sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, sql.Identifier(TEMPLATE))
    )
    store = make_conninfo(
        server_18.dsn(DATABASE), user="store_tester", password=APPLICATION_PASSWORD
    )
    with page_stack(tmp_path_factory.mktemp("pages"), store) as stack:
        yield stack
    store_databases.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture
def stack(served: PageStack) -> PageStack:
    served.terminals.forget()
    return served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def signed_in(browser: Browser, served: PageStack) -> Any:
    """Sign in once; each test has a context of its own with that session."""
    context = await browser.new_context(base_url=served.url)
    page = await context.new_page()
    await page.goto("/console")
    await page.get_by_role("link", name="Sign in").click()
    await page.get_by_role("button", name="I am dana").click()
    await expect(page.get_by_role("heading", name="Terminals")).to_be_visible()
    state = await context.storage_state()
    await context.close()
    return state


@pytest.fixture
def allowed() -> list[str]:
    """What a test lets the console say; of anything else it must be empty."""
    return []


@pytest_asyncio.fixture(loop_scope="module")
async def context(
    browser: Browser, stack: PageStack, signed_in: Any
) -> AsyncIterator[BrowserContext]:
    context = await browser.new_context(
        base_url=stack.url, viewport={"width": 1000, "height": 800}, storage_state=signed_in
    )
    yield context
    await context.close()


@pytest_asyncio.fixture(loop_scope="module")
async def page(context: BrowserContext, allowed: list[str]) -> AsyncIterator[Page]:
    """Give a page whose console stays empty: no error, nothing that the policy refused."""
    page = await context.new_page()
    problems: list[str] = []
    page.on("console", lambda said: problems.append(said.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    assert [text for text in problems if not any(word in text for word in allowed)] == []
