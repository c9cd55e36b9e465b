"""A small program with an answer: asks Claude, and shows each step while it happens.

    python3 ask.py "Why is the sky blue?"

It asks the `claude` CLI where there is one; else the API through the Anthropic SDK, where
ANTHROPIC_API_KEY is set; else it says plainly what is missing. The answer is shown as it comes.
Exit code: 0 answered, 3 nobody to ask, 1 no answer.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(Path(__file__).parent / "vendor"))

from rich.console import Console  # from the bundle, where there is none installed
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

STAGES = (LOOKING, ASKING, WRITING) = (
    "looking for somebody to ask",
    "asking",
    "writing the answer down",
)
QUESTION = "In one sentence: why do short-lived credentials help?"
MODEL = os.environ.get("SAMPLE_MODEL", "claude-haiku-4-5")
MAX_TOKENS = 300
ANSWER_SECONDS = 60
NOBODY = (
    "there is no `claude` on PATH, and ANTHROPIC_API_KEY is not set.\n"
    "Install Claude Code, or set the key, and run this again."
)
NO_SDK = (
    "ANTHROPIC_API_KEY is set, but the Anthropic SDK is not installed here.\n"
    "Run `python3 -m pip install 'anthropic>=2'`, and this again."
)


class Asked(NamedTuple):
    by: str
    pieces: Iterator[str]
    """Of the answer, as they come. Nobody is asked before the first is wanted."""


class NobodyError(Exception):
    """There is nobody to ask; the text says what is missing."""


class NoAnswerError(Exception):
    """Somebody was asked, and did not answer; the text says why."""


def main() -> int:
    console = Console(highlight=False)
    question = " ".join(sys.argv[1:]) or QUESTION
    console.print(panel(console, "question", question))
    try:
        answer(console, question)
    except NobodyError as error:
        console.print(Text(f"No answer: {error}", "yellow"))
        return 3
    except NoAnswerError as error:
        console.print(Text(f"No answer: {error}", "bold red"))
        return 1
    return 0


def answer(console: Console, question: str) -> None:
    """Go through the stages; each is named while it lasts, and ticked off."""
    with waiting(console, LOOKING):
        asked = somebody(question)
    with waiting(console, ASKING):
        text = next(asked.pieces, "")
    title = f"answer, by {asked.by}"
    with Live(panel(console, title, text), console=console) as live:
        for piece in asked.pieces:
            text += piece
            live.update(panel(console, title, text))
    tick(console, WRITING)


@contextmanager
def waiting(console: Console, stage: str) -> Iterator[None]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24))
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task(stage, total=len(STAGES), completed=STAGES.index(stage))
        yield
    tick(console, stage)


def tick(console: Console, stage: str) -> None:
    console.print(f"[green]✓[/] {STAGES.index(stage) + 1}/{len(STAGES)} {stage}")


def panel(console: Console, title: str, text: str) -> Panel:
    return Panel(Text(text), title=title, width=min(console.width, 76))


def somebody(question: str) -> Asked:
    """Find whom to ask. Raises `NobodyError`."""
    if (program := shutil.which("claude")) is not None:
        return Asked("the claude CLI", by_program(program, question))
    key = os.environ.get("ANTHROPIC_API_KEY", "").strip()
    if not key:
        raise NobodyError(NOBODY)
    if find_spec("anthropic") is None:
        raise NobodyError(NO_SDK)
    return Asked("the Anthropic SDK", by_sdk(key, question))


def by_program(program: str, question: str) -> Iterator[str]:
    try:
        done = subprocess.run(  # noqa: S603  # what PATH has under this name
            [program, "-p", question], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=ANSWER_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoAnswerError(str(error)) from error
    if done.returncode != 0:
        raise NoAnswerError(done.stderr.strip() or f"claude ended with {done.returncode}")
    yield done.stdout.strip()


def by_sdk(key: str, question: str) -> Iterator[str]:
    """Stream the API's answer. No text of an error is shown that may hold the key."""
    import anthropic  # noqa: PLC0415  # optional, and it takes a second

    client = anthropic.Anthropic(api_key=key, timeout=ANSWER_SECONDS, max_retries=1)
    try:
        with client.messages.stream(
            model=MODEL, max_tokens=MAX_TOKENS, messages=[{"role": "user", "content": question}]
        ) as stream:
            yield from stream.text_stream
            is_whole = stream.get_final_message().stop_reason is not None
    except anthropic.APIStatusError as error:
        said = f"the API answered {error.status_code}: {error.api_message or 'it says no more'}"
        raise NoAnswerError(said.replace(key, "[key]")) from error
    except anthropic.APIConnectionError as error:
        msg = "the API cannot be reached; is there a network here?"
        raise NoAnswerError(msg) from error
    except Exception as error:  # halfway, those of the SDK's HTTP client
        msg = f"the API's answer broke off ({type(error).__name__})"
        raise NoAnswerError(msg) from error
    if not is_whole:
        msg = "the API's answer broke off"
        raise NoAnswerError(msg)


if __name__ == "__main__":
    sys.exit(main())
