"""What a viewer of a terminal is safe from, and what it has: pastes, links, recordings, keys."""

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from fakes.page_browser import HERE, IN_CHROMIUM, opened, playing, screen, shows, until
from fakes.page_stack import TERMINAL, Attached, PageStack, lines
from gatekeeper.kernel.terminal import term
from gatekeeper.terminals.errors import recording_deleted
from gatekeeper.terminals.model import Mode

pytest_plugins = ["fakes.page_fixtures"]
pytestmark = IN_CHROMIUM


async def test_a_paste_of_several_lines_is_asked_about_first(page: Page, stack: PageStack) -> None:
    await opened(page)
    await shows(page, "$")

    async def paste(text: str) -> None:
        await page.evaluate(
            """(text) => { const data = new DataTransfer(); data.setData('text/plain', text);
            document.activeElement.dispatchEvent(new ClipboardEvent('paste',
            {clipboardData: data, bubbles: true, cancelable: true})); }""",
            text,
        )

    await expect(page.get_by_label("Terminal input")).to_be_focused()
    typed = stack.terminals.clients[0].typed
    await paste("one\x1b[201~line\x03")
    await until(lambda: typed == b"one[201~line")
    typed.clear()
    await paste("rm -rf a\nrm -rf b\n")
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("Paste 3 lines?")
    await expect(dialog).to_contain_text("rm -rf b")
    await dialog.get_by_role("button", name="Cancel").click()
    assert typed == b""
    await expect(page.get_by_label("Terminal input")).to_be_focused()
    await paste("a\nb")
    await dialog.get_by_role("button", name="Paste").click()
    await until(lambda: typed == b"a\rb")


async def test_a_terminal_is_stopped_and_shared(page: Page, stack: PageStack) -> None:
    await opened(page)
    await page.get_by_role("button", name="Share").click()
    await page.get_by_label("For", exact=True).select_option("15")
    await page.get_by_role("button", name="Make a link").click()
    await expect(page.get_by_label("The link")).to_have_value(re.compile("#s{43}$"))
    await page.get_by_role("button", name="Close").click()
    await page.get_by_role("button", name="Stop").click()
    await page.get_by_role("button", name="End it").click()
    await until(lambda: len(stack.terminals.asked) == 2)
    assert stack.terminals.asked == [{"minutes": 15}, {"stopped": TERMINAL}]


async def test_a_shared_link_is_to_watch_alone(page: Page, stack: PageStack) -> None:
    stack.terminals.play = playing(b"look", mode=Mode.READ, mine=False, holder="sam")
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    await page.goto("/console/shared#" + "s" * 43)
    await shows(page, "look")
    await page.locator("#screen").click()
    await page.keyboard.type("nothing")
    await expect(page.locator("#state")).to_have_text("watching")
    await expect(page.get_by_role("button", name="Take the keyboard")).to_be_hidden()
    assert stack.terminals.asked == [{"secret": "s" * 43}]
    assert bytes(stack.terminals.clients[0].typed) == b""
    assert not any("sss" in url.partition("#")[0] for url in requests)


async def test_a_terminal_that_is_over_shows_its_last_screen(page: Page, stack: PageStack) -> None:
    stack.terminals.view = {
        "status": "cleaned", "ending": "exited", "exitCode": 0, "lastScreen": "bye <b>now</b>",
    }  # fmt: skip
    await page.goto(HERE)
    await expect(page.locator("#why")).to_contain_text("exit code 0")
    await expect(page.locator("#last pre")).to_have_text("bye <b>now</b>")
    assert stack.terminals.attaches == 0


async def test_a_recording_is_played_sought_and_downloaded(
    page: Page, stack: PageStack, tmp_path: Path
) -> None:
    stack.terminals.recording = lines(
        [0.1, "o", "first\r\n"], [0.2, "r", "60x10"], [60.0, "m", "half\u202e way"],
        [0.1, "o", "\x1b[6nsecond\r\n"], [5.0, "o", "third"], [0.0, "x", "0"],
    )  # fmt: skip
    await page.goto(f"/console/recordings/{TERMINAL}")
    await expect(page.locator("#time")).to_have_text("0:00 of 1:05")
    await page.get_by_label("Position").fill("61")
    await shows(page, "second")
    assert await page.evaluate("document.querySelector('#screen').terminal.cols") == 60
    await page.get_by_label("Position").fill("1")
    await page.wait_for_timeout(100)
    assert [line for line in await screen(page) if line] == ["first"]
    await page.get_by_label("Speed").select_option("8")
    await page.get_by_role("button", name="Play").click()
    await shows(page, "third")
    await expect(page.get_by_role("button", name="Play")).to_be_visible()
    await page.get_by_role("button", name="half way").click()
    await shows(page, "first")
    async with page.expect_download() as downloading:
        await page.get_by_role("button", name="Download").click()
    file = tmp_path / "it.cast"
    await (await downloading.value).save_as(file)
    assert file.read_text() == stack.terminals.recording


async def test_a_recording_that_was_deleted_is_said_to_be(
    page: Page, stack: PageStack, allowed: list[str]
) -> None:
    allowed.append("410")
    at = "2026-01-31T10:00:00Z"
    refusal = recording_deleted(TERMINAL, datetime.fromisoformat(at))
    stack.terminals.refuse_recording = (410, {"detail": refusal.detail, "hint": refusal.hint})
    stack.terminals.view = {
        "status": "cleaned", "recording": {"bytes": 7, "head": "a" * 64, "deletedAt": at},
    }  # fmt: skip
    await page.goto(f"/console/recordings/{TERMINAL}")
    await expect(page.locator("#says")).to_contain_text(f"was deleted at {at} by retention")
    await expect(page.locator("#player")).to_be_hidden()
    await page.goto("/console")
    await expect(page.locator("#list tbody")).to_contain_text("Recording deleted")
    await expect(page.get_by_role("link", name="Recording")).to_have_count(0)


async def test_all_of_it_works_without_a_mouse_and_in_the_dark(
    page: Page, stack: PageStack, tmp_path: Path
) -> None:
    await page.emulate_media(color_scheme="dark")
    await opened(page)
    await shows(page, "$")
    await page.keyboard.press("Tab")
    await until(lambda: stack.terminals.clients[0].typed == b"\t")  # it is the command's
    await page.keyboard.press("Control+F6")
    focused = "document.activeElement.textContent"
    assert await page.evaluate(focused) == "Give the keyboard back"
    names = await page.evaluate(
        """() => [...document.querySelectorAll('button, a, input, select')].filter((one) =>
        one.offsetParent && !(one.textContent.trim() || one.labels?.length || one.ariaLabel)).length"""
    )
    assert names == 0
    ground = await page.evaluate(
        "getComputedStyle(document.querySelector('.xterm-scrollable-element')).backgroundColor"
    )
    assert ground == "rgb(22, 24, 29)"
    await page.screenshot(path=tmp_path / "dark.png")


async def test_the_page_takes_no_script_from_anywhere(page: Page, allowed: list[str]) -> None:
    allowed += ["Content Security Policy", "TrustedScript"]
    await opened(page)
    with pytest.raises(Exception, match="TrustedScript"):
        await page.add_script_tag(content="document.title='owned'")
    assert await page.title() == f"{TERMINAL} · Gatekeeper"


async def answers_of(page: Page, stack: PageStack, output: bytes, **hello: Any) -> bytes:
    """Write this to a screen; return what the page sent back as if it were typed."""
    stack.terminals.play = playing(output, b"\r\ndone", **hello)
    await opened(page)
    await shows(page, "done")
    await page.wait_for_timeout(150)
    return bytes(stack.terminals.clients[-1].typed)


async def test_a_title_is_text_and_short(page: Page, stack: PageStack) -> None:
    title = "<img src=x onerror=alert(1)>\u202e" + "t" * 200
    await answers_of(page, stack, f"\x1b]0;{title}\x07".encode())
    shown = await page.locator("#title q").inner_text()
    assert shown == ("<img src=x onerror=alert(1)>" + "t" * 200)[:80]
    assert await page.title() == f"{TERMINAL} · Gatekeeper"
    assert await page.locator("#title img").count() == 0


async def test_output_cannot_reach_the_clipboard(page: Page, stack: PageStack) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.goto("/console")
    await page.evaluate("navigator.clipboard.writeText('mine')")
    typed = await answers_of(page, stack, b"\x1b]52;c;cm0gLXJmIC8=\x07\x1b]52;c;?\x07")
    assert typed == b""
    assert await page.evaluate("navigator.clipboard.readText()") == "mine"


ASKING = (
    b"\x1bP$qm\x1b\\",  # DECRQSS
    b"\x1bP+q544e\x1b\\",  # XTGETTCAP
    b"\x05",  # ENQ: answerback
    b"\x1b[21t\x1b[20t\x1b[18t\x1b[14t\x1b[8;5;5t",  # window operations, reports of titles
    b"\x1b]10;?\x07\x1b]11;?\x07\x1b]4;1;?\x07\x1b]12;?\x07",  # colours
    b"\x1b[>q",  # XTVERSION
    b"\x1b]9;hi\x07\x1b]777;notify;a;b\x07\x1b]1337;File=name=eA==:eA==\x07",
    b"\x1b[5i\x1b[4i",  # print
)


async def test_what_asks_for_words_gets_none(page: Page, stack: PageStack) -> None:
    """What is answered is typed at the prompt, as if the viewer had written it."""
    for asking in ASKING:
        assert await answers_of(page, stack, asking) == b"", asking
        assert await page.evaluate("document.querySelector('#screen').terminal.rows") > 5


async def test_a_program_that_asks_now_is_answered_once(page: Page, stack: PageStack) -> None:
    """Editors ask what they run in and where the cursor is; a drawing of the past must not."""
    assert await answers_of(page, stack, b"\x1b[6n\x1b[c") == b"\x1b[1;1R\x1b[?1;2c"
    assert await answers_of(page, stack, b"\x1b[6n\x1b[c", mine=False, holder="sam") == b""

    async def drawn(client: Attached) -> None:
        await client.greet()
        await client.say(term.Screen(10, b"\x1b[6n\x1b[cdrawn"))
        client.offset = 10
        await client.write(b" live\x1b[6n")
        await client.idle()

    stack.terminals.play = drawn
    await opened(page)
    await shows(page, "drawn live")
    await until(lambda: stack.terminals.clients[-1].typed)
    assert bytes(stack.terminals.clients[-1].typed) == b"\x1b[1;11R"


async def test_colours_of_the_page_stay_its_own(page: Page, stack: PageStack) -> None:
    """Text in the colour of its ground would be there unseen."""
    theme = "JSON.stringify(document.querySelector('#screen').terminal.options.theme)"
    await answers_of(page, stack, b"")
    before = await page.evaluate(theme)
    await answers_of(page, stack, b"\x1b]11;#ff0000\x07\x1b]4;1;#000000\x07\x1b]10;#ff0000\x07")
    assert await page.evaluate(theme) == before
    await answers_of(page, stack, b"\x1b[38;2;255;255;255mhidden\x1b[0m")
    colour = await page.evaluate(
        "getComputedStyle([...document.querySelectorAll('.xterm-rows span')]"
        ".find((one) => one.textContent.includes('hidden'))).color"
    )
    assert colour != "rgb(255, 255, 255)"


async def test_a_link_opens_only_where_it_says_and_when_asked(page: Page, stack: PageStack) -> None:
    link = "\x1b]8;;{}\x1b\\{}\x1b]8;;\x1b\\\r\n"
    bad = ("javascript:alert(1)", "file:///etc/passwd", "data:text/html,x", "gatekeeper://x")
    output = "".join(link.format(address, "https://bank.example/ok") for address in bad)
    output += link.format("https://evil.example/steal?x=1", "https://bank.example/ok")
    await answers_of(page, stack, output.encode())
    rows = page.locator(".xterm-rows > div")

    async def point(row: int) -> None:
        box = await rows.nth(row).bounding_box()
        assert box is not None
        x, y = box["x"] + 30, box["y"] + box["height"] / 2
        await page.mouse.move(x, y + 200)
        await page.mouse.move(x, y)
        await page.wait_for_timeout(50)

    async def click(row: int) -> None:
        await point(row)
        await page.mouse.down()
        await page.mouse.up()

    dialog = page.get_by_role("dialog")
    for row in range(4):
        await click(row)
        assert await dialog.count() == 0
    await point(4)
    await expect(page.locator("#over-link")).to_have_text("https://evil.example/steal?x=1")
    await click(4)
    await expect(dialog).to_contain_text("https://evil.example/steal?x=1")
    await dialog.get_by_role("button", name="Cancel").click()
    assert len(page.context.pages) == 1
    await page.context.route("https://evil.example/**", lambda route: route.fulfill(body="<p>x"))
    await click(4)
    async with page.context.expect_page() as opening:
        await dialog.get_by_role("button", name="Open").click()
    there = await opening.value
    await there.wait_for_load_state()
    assert await there.evaluate("[window.opener, document.referrer]") == [None, ""]


async def test_a_bell_is_seen_and_not_heard(page: Page, stack: PageStack) -> None:
    async def play(client: Attached) -> None:
        await client.greet()
        await client.hear()
        await client.write(b"\x07" * 50)
        await client.idle()

    stack.terminals.play = play
    await opened(page)
    await expect(page.locator("#bell")).to_be_hidden()
    await page.keyboard.type("x")
    await expect(page.locator("#bell")).to_be_visible()
    await expect(page.locator("#bell")).to_be_hidden()
