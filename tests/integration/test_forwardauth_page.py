"""The page of the operations listener, in a real browser."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright

from factories.operations import TOKEN, One, listener

CHROMIUM = Path("/usr/bin/chromium")
REQUEST = """\
GET https://app.example/reports?page=2 HTTP/1.1
Authorization: Bearer canary-presented
"""

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}")


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with listener(One().worker) as client, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = await browser.new_page(base_url=str(client.base_url))
        try:
            yield page
        finally:
            await browser.close()


async def test_a_decision_is_shown_as_a_graph_of_its_steps(page: Page, tmp_path: Path) -> None:
    problems: list[str] = []
    page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))

    await page.goto("/")
    await page.get_by_label("Token").fill("wrong")
    await page.get_by_role("button", name="Log in").click()
    assert await page.get_by_role("alert").inner_text() == "That is not the token."
    await page.get_by_label("Token").fill(TOKEN)
    await page.get_by_role("button", name="Log in").click()

    await page.get_by_label("Endpoint").fill("app")
    await page.get_by_label("Proxy", exact=True).select_option("nginx")
    await page.get_by_label("The request").fill(REQUEST)
    await page.get_by_role("button", name="Explain").click()

    assert await page.locator("#outcome").inner_text() == "fail · 401"
    nodes = page.locator("svg .node")
    assert await nodes.count() >= 3
    boxes = [await node.bounding_box() for node in await nodes.all()]
    tops = [box["y"] for box in boxes if box is not None and box["height"] > 20]
    assert tops == sorted(tops)
    assert len(tops) == await nodes.count()
    stroke = await page.locator("svg .fail rect").first.evaluate("e => getComputedStyle(e).stroke")
    assert stroke == "rgb(179, 89, 0)"  # the style sheet is allowed, and used
    assert "canary" not in await page.locator("main").inner_text()
    # A refused login is told on the console; nothing else may be.
    assert [text for text in problems if "401" not in text] == []
    await page.screenshot(path=tmp_path / "page.png", full_page=True)


async def test_the_page_takes_no_script_from_anywhere(page: Page) -> None:
    await page.goto("/")
    await page.get_by_label("Token").fill(TOKEN)
    await page.get_by_role("button", name="Log in").click()
    await page.get_by_label("Endpoint").fill("app")
    await page.get_by_label("The request").fill(
        "GET https://a.example/ HTTP/1.1\nX: </textarea><script>document.title='owned'</script>\n"
    )
    await page.get_by_role("button", name="Explain").click()
    assert await page.locator("#outcome").count() == 1
    assert await page.title() == "PassCtrl: a decision explained"
    with pytest.raises(Exception, match="Content Security Policy"):
        await page.add_script_tag(content="document.title='owned'")
