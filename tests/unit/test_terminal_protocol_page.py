"""The reference of `gk.term.v1` says what the code says: messages, fields, limits, codes."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from gatekeeper.kernel.terminal import term
from gatekeeper.kernel.terminal.closing import MAX_REASON_BYTES, CloseCode
from gatekeeper.terminals.model import Ending, Stage
from gatekeeper.terminals.protocol.sharing import RING_BYTES
from gatekeeper.terminals.runner.viewers import FIRST_SECONDS

PAGE = (Path(__file__).parents[2] / "docs/reference/terminal-protocol.md").read_text()
OF_CLIENTS = (term.Attach, term.Ack, term.Resize, term.Take, term.Release, term.End, term.Ping)
OF_RUNNERS = {
    "hello": term.Hello, "size": term.SizeChanged, "lease": term.Lease, "stage": term.StageReached,
    "viewers": term.Viewers, "notice": term.Notice, "exit": term.Exit, "pong": term.Pong,
}  # fmt: skip
EXAMPLES = [
    json.loads(line) for line in re.findall(r'^\["(?:client|runner)", .*\]$', PAGE, re.MULTILINE)
]


def section(title: str) -> str:
    return re.split(r"^##", PAGE.split(f"# {title}\n")[1], flags=re.MULTILINE)[0]


def rows(title: str) -> dict[str, set[str]]:
    """Return the fields of each message with a `type` that a table has."""
    found = re.findall(r"^\| `([a-z]+)` \|([^|]*)\|", section(title), re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", said)) for name, said in found}


def camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)


def test_every_message_is_there_with_its_fields() -> None:
    clients = {kind.__name__.lower(): {one.name for one in fields(kind)} for kind in OF_CLIENTS}
    runners = {name: {camel(f.name) for f in fields(kind)} for name, kind in OF_RUNNERS.items()}

    assert rows("From the client") == clients
    assert rows("From the runner") == runners
    assert "| `00` |" in section("From the client")
    assert "| `01` |" in section("From the runner")
    assert "| `02` |" in section("From the runner")
    assert len(OF_CLIENTS) + 1 == len(term.FromClient.__args__)
    assert len(OF_RUNNERS) == len(term.Said.__args__)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_an_example_is_read_and_written_as_it_stands(example: tuple[str, object]) -> None:
    who, said = example
    message = bytes.fromhex(said) if isinstance(said, str) else json.dumps(said)
    written: bytes | str
    if who == "client":
        written = term.encode_client(term.read_client(message))
    else:
        read = term.read_runner(message)
        assert read is not None
        written = term.encode(read)

    assert (written if isinstance(written, bytes) else json.loads(written)) == (
        message if isinstance(message, bytes) else said
    )


def test_there_are_examples_of_bytes_and_of_objects() -> None:
    assert {(who, type(said)) for who, said in EXAMPLES} == {
        ("client", str), ("client", dict), ("runner", str), ("runner", dict),
    }  # fmt: skip


def test_codes_stages_and_endings_are_all_there() -> None:
    codes = re.findall(r"^\| (\d{4}) \| `(\w+)` \|", PAGE, re.MULTILINE)

    assert {(int(code), name) for code, name in codes} == {(c.value, c.name) for c in CloseCode}
    assert re.findall(r"`(\w+)`", section("Stages")) == [stage.value for stage in Stage]
    assert re.findall(r"`(\w+)`", section("Endings")) == [ending.value for ending in Ending]


def test_limits_are_those_of_the_code() -> None:
    rules = section("Rules")

    for said in (
        f"last {RING_BYTES:,} bytes",
        f"at most {term.WINDOW_BYTES:,} bytes on their way",
        f"at least every {term.ACK_EVERY_BYTES:,} bytes",
        f"one `00`: {term.MAX_INPUT_BYTES:,} bytes",
        f"of a client: {term.MAX_CONTROL_CHARS:,} characters",
        f"one `01`: {term.MAX_OUTPUT_BYTES:,} bytes",
        f"one `02`: {term.MAX_MESSAGE_BYTES:,} bytes",
        f"{term.MAX_COLUMNS:,} columns, {term.MAX_ROWS} rows",
        f"within {FIRST_SECONDS:.0f} seconds",
    ):
        assert said in rules, said
    assert f"at most {MAX_REASON_BYTES} bytes" in PAGE
    assert term.MAX_OFFSET == 2**53 - 1
