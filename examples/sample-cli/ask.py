"""A small program with an answer: asks Claude, and shows each step while it happens.

    python3 ask.py "Why is the sky blue?"

It asks the `claude` CLI where there is one; else the API, where ANTHROPIC_API_KEY is set; else it
says plainly that neither is configured. Exit code: 0 answered, 3 nobody to ask, 1 no answer.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent / "vendor"))

from rich.console import Console  # from the bundle, where there is none installed
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

STAGES = ("looking around", "reading the question", "asking", "writing the answer down")
QUESTION = "In one sentence: why do short-lived credentials help?"
MODEL = os.environ.get("SAMPLE_MODEL", "claude-haiku-4-5")
MAX_TOKENS = 300
ANSWER_SECONDS = 60
NOBODY = (
    "No answer: there is no `claude` on PATH, and ANTHROPIC_API_KEY is not set.\n"
    "Install Claude Code, or set the key, and run this again."
)


class Answer(NamedTuple):
    by: str
    text: str


class NoAnswerError(Exception):
    """Somebody was asked, and did not answer; the text says why."""


def main() -> int:
    console = Console(highlight=False)
    question = " ".join(sys.argv[1:]) or QUESTION
    console.print(Panel(question, title="question", width=min(console.width, 76)))
    try:
        answer = staged(console, question)
    except NoAnswerError as error:
        console.print(f"[bold red]No answer:[/] {error}")
        return 1
    if answer is None:
        console.print(f"[yellow]{NOBODY}[/]")
        return 3
    title = f"answer, by {answer.by}"
    console.print(Panel(answer.text, title=title, width=min(console.width, 76)))
    return 0


def staged(console: Console, question: str) -> Answer | None:
    """Go through the stages; each is named while it lasts, and ticked off."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(STAGES[0], total=len(STAGES))
        answer = None
        for number, stage in enumerate(STAGES, 1):
            progress.update(task, description=stage, refresh=True)
            if stage == "asking":
                answer = ask(question)
            progress.advance(task)
            console.print(f"[green]✓[/] {number}/{len(STAGES)} {stage}")
    return answer


def ask(question: str) -> Answer | None:
    if (program := shutil.which("claude")) is not None:
        return Answer("the claude CLI", by_program(program, question))
    if key := os.environ.get("ANTHROPIC_API_KEY"):
        try:
            import anthropic  # noqa: PLC0415  # only where it is installed
        except ImportError:
            return Answer("the API", by_request(key, question))
        return Answer("the Anthropic SDK", by_sdk(anthropic, question))
    return None


def by_program(program: str, question: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603  # what PATH has under this name
            [program, "-p", question], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=ANSWER_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoAnswerError(str(error)) from error
    if done.returncode != 0:
        raise NoAnswerError(done.stderr.strip() or f"claude ended with {done.returncode}")
    return done.stdout.strip()


def by_sdk(anthropic: Any, question: str) -> str:  # noqa: ANN401  # a module that may be absent
    try:
        message = anthropic.Anthropic(timeout=ANSWER_SECONDS, max_retries=1).messages.create(
            model=MODEL, max_tokens=MAX_TOKENS, messages=[{"role": "user", "content": question}]
        )
    except anthropic.AnthropicError as error:
        raise NoAnswerError(str(error)) from error
    return "".join(block.text for block in message.content if block.type == "text")


def by_request(key: str, question: str) -> str:
    """Ask the API as the SDK does (docs.anthropic.com/en/api/messages)."""
    base = os.environ.get("ANTHROPIC_BASE_URL", "https://api.anthropic.com").rstrip("/")
    asked = {
        "model": MODEL,
        "max_tokens": MAX_TOKENS,
        "messages": [{"role": "user", "content": question}],
    }
    request = urllib.request.Request(
        f"{base}/v1/messages",
        data=json.dumps(asked).encode(),
        headers={
            "x-api-key": key,
            "anthropic-version": "2023-06-01",
            "content-type": "application/json",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:
            message = json.load(response)
        return "".join(part["text"] for part in message["content"] if part["type"] == "text")
    except urllib.error.HTTPError as error:
        msg = f"the API answered {error.code}"
        raise NoAnswerError(msg) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"the API cannot be asked: {error}"
        raise NoAnswerError(msg) from error


if __name__ == "__main__":
    sys.exit(main())
