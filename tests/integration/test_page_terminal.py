"""The terminal page in a real browser, over the real protocol: attach, type, lose, come back."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from fakes.page_browser import HERE, IN_CHROMIUM, opened, playing, screen, shows, until
from fakes.page_stack import TERMINAL, Attached, PageStack
from gatekeeper.kernel.terminal import term

pytest_plugins = ["fakes.page_fixtures"]
pytestmark = IN_CHROMIUM


async def test_a_person_starts_a_terminal_and_types(
    page: Page, stack: PageStack, tmp_path: Path
) -> None:
    await page.goto("/console")
    profile = page.get_by_label("Profile")
    await profile.select_option("root")
    await expect(page.locator("#profile-says")).to_have_text("No: no grant names root")
    await profile.select_option("shell")
    await page.get_by_label("For how long").fill("10m")
    await page.get_by_label("Reason").fill("a look")
    await expect(page.get_by_role("link", name=TERMINAL)).to_be_visible()
    await page.keyboard.press("Enter")

    await page.wait_for_url(f"**{HERE}")
    assert stack.terminals.asked == [
        {"profile": "shell", "reason": "a look", "ttl": "10m", "columns": 80, "rows": 24}
    ]
    await shows(page, "$")
    await page.keyboard.type("echo hello")
    await page.keyboard.press("Enter")
    await shows(page, "$ echo hello")
    assert bytes(stack.terminals.clients[0].typed) == b"echo hello\r"
    await expect(page.locator("#flags")).to_have_text("This terminal is recorded.")
    await expect(page.locator("#stages")).to_contain_text("first byte: 1.00 s")
    assert await page.title() == f"{TERMINAL} · Gatekeeper"
    await page.screenshot(path=tmp_path / "terminal.png")


async def test_unicode_and_colours_are_right_wherever_the_bytes_are_cut(
    page: Page, stack: PageStack
) -> None:
    text = "\x1b[1;31mred\x1b[0m \x1b[38;2;10;20;30mrgb\x1b[0m 漢字 é ž 👍 Ω│█"
    data = text.encode()
    stack.terminals.play = playing(*(data[at : at + 1] for at in range(len(data))))
    await opened(page)
    await shows(page, "red rgb 漢字 é ž 👍 Ω│█")
    cells = await page.evaluate(
        """() => { const line = document.querySelector('#screen').terminal.buffer.active.getLine(0);
        return [0, 4, 8].map((at) => { const c = line.getCell(at); return [c.getChars(), c.getFgColorMode() > 0,
        c.getFgColor(), c.isBold() > 0, c.getWidth()]; }); }"""
    )
    assert cells == [
        ["r", True, 1, True, 1],
        ["r", True, 0x0A141E, False, 1],
        ["漢", False, -1, False, 2],
    ]


async def test_the_holder_decides_the_size(page: Page, stack: PageStack) -> None:
    await opened(page)
    await until(lambda: stack.terminals.clients[0].sizes)
    before = stack.terminals.clients[0].sizes[-1]
    assert before[0] > 80
    await page.set_viewport_size({"width": 620, "height": 500})
    await until(lambda: stack.terminals.clients[0].sizes[-1][0] < before[0])
    columns, rows = stack.terminals.clients[0].sizes[-1]
    await page.wait_for_function(
        "([c, r]) => { const t = document.querySelector('#screen').terminal;"
        " return t.cols === c && t.rows === r; }",
        arg=[columns, rows],
    )


async def test_an_interrupt_is_heard_at_once_under_a_flood(page: Page, stack: PageStack) -> None:
    """The runner has a window of what is on its way; the page says what it has drawn."""
    flood = b"y\r\n" * 8_192
    heard: list[bool] = []

    async def play(client: Attached) -> None:
        await client.greet()
        acked = client.offset
        while not client.typed:
            while client.offset - acked + len(flood) <= term.WINDOW_BYTES:
                await client.write(flood)
            said = await client.hear()
            if isinstance(said, term.Ack):
                assert acked < said.offset <= client.offset
                acked = said.offset
        heard.append(client.typed == b"\x03")
        await client.write(b"^C\r\nstopped $ ")
        await client.idle()

    stack.terminals.play = play
    await opened(page)
    await until(lambda: len(stack.terminals.clients[0].acks) > 5)
    began = asyncio.get_running_loop().time()
    await page.keyboard.press("Control+c")
    await until(lambda: heard)
    assert heard == [True]
    assert asyncio.get_running_loop().time() - began < 2
    await shows(page, "stopped $")


async def test_a_cut_cable_loses_and_repeats_nothing(page: Page, stack: PageStack) -> None:
    whole = b"".join(b"line %06d\r\n" % number for number in range(6_000))
    offsets: list[int | None] = []

    async def play(client: Attached) -> None:
        attach = await client.greet(expires_in=100.0 + client.number)
        offsets.append(attach.offset)
        end = (client.number + 1) * 20_000 if client.number < 3 else len(whole)
        for at in range(client.offset, end, 777):
            await client.write(whole[at : min(at + 777, end)])
        if client.number < 3:
            await client.drop()
        await client.idle()

    stack.terminals.play = play
    await page.goto(HERE)
    await shows(page, "line 005999")
    found = [line for line in await screen(page) if line]
    assert found == [f"line {number:06d}" for number in range(6_000)]
    # What is sent again overlaps with nothing: each names the byte that it wants next.
    assert offsets == [None, 20_000, 40_000, 60_000]
    await expect(page.locator("#why")).to_be_hidden()


async def test_missing_bytes_are_noticed_and_the_screen_is_drawn_anew(
    page: Page, stack: PageStack
) -> None:
    offsets: list[int | None] = []

    async def play(client: Attached) -> None:
        attach = await client.greet()
        offsets.append(attach.offset)
        if client.number == 0:
            await client.write(b"before ")
            client.offset += 5
            await client.write(b"after")
        else:
            await client.say(term.Screen(500, b"the whole screen "))
            client.offset = 500
            await client.write(b"and more")
        await client.idle()

    stack.terminals.play = play
    await page.goto(HERE)
    await shows(page, "the whole screen and more")
    assert "before" not in "".join(await screen(page))
    assert offsets == [None, None]


async def test_a_gateway_that_restarts_is_only_a_pause(page: Page, stack: PageStack) -> None:
    async def play(client: Attached) -> None:
        await client.greet()
        if client.number == 0:
            await client.close(1012, "draining")
            return
        await client.write(b"here again")
        await client.idle()

    stack.terminals.play = play
    await page.goto(HERE)
    await shows(page, "here again")
    assert stack.terminals.attaches == 2


@pytest.mark.parametrize(
    "closed",
    [
        (4408, {"status": "expired", "ending": "expired"}, "deadline", "Start another"),
        (4401, {"status": "revoked", "ending": "revoked"}, "Somebody ended", "Start another"),
        (4410, {"status": "ended", "ending": "idle"}, "too long", "Start another"),
        (4502, {"status": "failed", "ending": "runner_lost"}, "is gone", "Start another"),
        (4000, {"status": "ended", "ending": "exited", "exitCode": 3}, "exit code 3", "Start another"),
        (4403, {}, "not allowed", "Attach again"),
        (4409, {}, "taken over", "Attach again"),
    ],
)  # fmt: skip
async def test_the_page_says_why_it_closed(
    page: Page, stack: PageStack, closed: tuple[int, dict[str, Any], str, str]
) -> None:
    code, view, words, button = closed

    async def play(client: Attached) -> None:
        await client.greet()
        await client.write(b"last words")
        while not client.typed:
            await client.hear()
        await client.close(code, "exit 3" if code == 4000 else "why")

    stack.terminals.play = play
    await opened(page)
    await shows(page, "last words")
    stack.terminals.view = view
    await page.keyboard.type("x")
    why = page.get_by_role("alert").filter(has_text=words)
    await expect(why).to_be_visible()
    assert await why.locator(".acts > *").all_inner_texts() == [button]
    assert stack.terminals.attaches == 1


async def test_who_may_not_attach_is_told_what_to_do(
    page: Page, stack: PageStack, allowed: list[str]
) -> None:
    allowed += ["401", "404"]
    stack.terminals.refuse_attach = (401, {"detail": "no"})
    await page.goto(HERE)
    await expect(page.locator("#why")).to_contain_text("You are no longer signed in.")
    back = await page.get_by_role("link", name="Sign in").get_attribute("href")
    assert back == HERE
    stack.terminals.refuse_attach = (404, {"detail": "no"})
    await page.goto(HERE)
    await expect(page.locator("#why")).to_contain_text("There is no such terminal")


async def test_one_types_at_a_time(page: Page, stack: PageStack) -> None:
    async def play(client: Attached) -> None:
        await client.greet(holder="sam", mine=False)
        await client.say(term.Viewers(count=2))
        while True:
            match await client.hear():
                case term.Take():
                    await client.say(term.Lease(holder="dana", mine=True))
                case term.Release():
                    await client.say(term.Lease(holder=None, mine=False))

    stack.terminals.play = play
    await opened(page)
    await expect(page.locator("#lease")).to_have_text("sam types")
    await expect(page.locator("#viewers")).to_have_text("2 watching")
    await page.locator("#screen").click()
    await page.keyboard.type("ignored")
    await page.set_viewport_size({"width": 700, "height": 600})
    await page.get_by_role("button", name="Take the keyboard").click()
    await expect(page.locator("#lease")).to_have_text("you type")
    await page.keyboard.type("heard")
    await until(lambda: stack.terminals.clients[0].typed)
    await page.get_by_role("button", name="Give the keyboard back").click()
    await expect(page.locator("#lease")).to_have_text("nobody types")
    assert bytes(stack.terminals.clients[0].typed) == b"heard"


async def test_the_end_is_counted_down_to_and_the_way_is_measured(
    page: Page, stack: PageStack
) -> None:
    stack.terminals.play = playing(expires_in=62.0)
    await page.clock.install()
    await opened(page)
    await expect(page.locator("#countdown")).to_have_text(re.compile(r"ends in 1:0[12]"))
    await expect(page.locator("#countdown")).to_have_class(re.compile("loud"))
    await expect(page.locator("#state")).to_contain_text("it ends in")
    await page.clock.run_for(10_000)
    await expect(page.locator("#countdown")).to_have_text(re.compile(r"ends in 0:5\d"))
    await expect(page.locator("#latency")).to_have_text(re.compile(r"\d+ ms"))
