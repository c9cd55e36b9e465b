"""Plays a person at a browser: opens a login page, and presses a button of it.

As a program (`python browser.py NAME URL`) it is what the variable BROWSER can name.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser

import httpx


def press(url: str, *, user: str = "", action: str = "approve") -> httpx.Response:
    """Open a page of the development issuer, press one of its buttons, go where that leads.

    A redirect is followed only where the page's policy lets a browser follow it.
    """
    with httpx.Client(trust_env=False) as browser:
        page = browser.get(url)
        form = _Form()
        form.feed(page.text)
        pressed = {"user": user} if action == "approve" else {"action": action}
        ((name, value),) = pressed.items()
        assert (name, value) in form.buttons, page.text
        allowed = re.search(r"form-action ([^;]+);", page.headers["Content-Security-Policy"])
        assert allowed is not None
        answer = browser.post(url, data={**form.fields, **pressed})
        if not answer.is_redirect:
            return answer
        back = httpx.URL(answer.headers["Location"])
        assert f"{back.scheme}://{back.host}:{back.port}" in allowed[1].split()
        return browser.get(back)


class _Form(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.buttons: list[tuple[str, str]] = []
        self.fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "button":
            self.buttons.append((found.get("name", ""), found.get("value", "")))
        elif tag == "input":
            self.fields[found.get("name", "")] = found.get("value", "")


if __name__ == "__main__":
    press(sys.argv[2], user=sys.argv[1])
