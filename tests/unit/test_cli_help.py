"""Every command: help that shows how it is typed, JSON where it prints, nothing heavy to start."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from gatekeeper.entrypoints import gk

PRINT_NO_RESULT = {
    "login", "logout", "exec", "shell", "terminal attach", "terminal play", "terminal download",
    "terminal input", "audit export", "up", "demo", "key", "rotate-tickets", "completion",
    "serve control-plane", "serve agent", "serve gateway", "serve runner", "forwardauth init", "forwardauth serve", "forwardauth completion",
}  # fmt: skip
"""They change something, run something, or print what only a shell reads."""


def commands() -> Iterator[tuple[str, Any]]:
    root: Any = get_command(gk.root)
    for name in gk.COMMANDS:
        yield from leaves(name, root.get_command(None, name))


def leaves(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name, one in inner.items():
        yield from leaves(f"{path} {name}", one)


ALL = dict(commands())


def run(*arguments: str) -> str:
    result = CliRunner().invoke(gk.root, list(arguments), prog_name="gk")
    assert result.exit_code == 0, result.output
    return result.output


def test_there_are_as_many_as_we_know() -> None:
    assert len(ALL) > 20
    assert set(ALL) >= PRINT_NO_RESULT


@pytest.mark.parametrize("path", ALL)
def test_help_has_an_example_that_can_be_copied(path: str) -> None:
    text = run(*path.split(), "--help")

    assert any("Example:  " in line and f"gk {path}" in line for line in text.splitlines()), text
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize("path", sorted(set(ALL) - PRINT_NO_RESULT))
def test_what_prints_a_result_prints_it_as_json_too(path: str) -> None:
    assert "--json" in run(*path.split(), "--help")


@pytest.mark.parametrize("path", ALL)
def test_every_option_and_argument_says_what_it_is_for(path: str) -> None:
    unexplained = [
        option.opts[0]
        for option in ALL[path].params
        if option.param_type_name == "option" and not option.hidden and not option.help
    ]

    assert unexplained == []


def test_groups_and_the_root_list_what_is_in_them() -> None:
    for name in gk.COMMANDS:
        assert f"  {name} " in run("--help")
    assert "revoke" in run("session", "--help")
    assert "install-completion" not in run("session", "--help")


@pytest.mark.parametrize(("typo", "meant"), [("sesion", "session"), ("logn", "login")])
def test_a_typing_error_is_met_with_the_nearest_command(typo: str, meant: str) -> None:
    result = CliRunner().invoke(gk.root, [typo])

    assert result.exit_code == 2
    assert f"Did you mean {meant!r}" in result.output


HEAVY = (
    "fastapi", "starlette", "uvicorn", "psycopg", "cryptography", "joserfc", "cel_expr_python",
    "structlog", "keyring", "rich", "yaml", "asyncio",
)  # fmt: skip


def imported(*arguments: str) -> set[str]:
    program = (
        "import sys\n"
        "from gatekeeper.entrypoints.gk import main\n"
        f"sys.argv = ['gk', *{list(arguments)!r}]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*(n for n, m in sys.modules.items() if m), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        env={"GATEKEEPER_HOME": "/nonexistent", "GATEKEEPER_TOKEN": "x", "PATH": ""},
    )  # fmt: skip
    return {name.partition(".")[0] for name in done.stderr.splitlines()[-1].split()}


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        (["--help"], {"httpx", "pydantic", "ssl", "importlib_metadata"}),
        (["--version"], {"httpx", "ssl"}),
        (["session", "--help"], set()),
        (["shell", "--help"], {"websockets", "tty"}),
        (["terminal", "list", "--help"], {"websockets", "tty"}),
        (["--server", "http://127.0.0.1:9", "session", "list"], {"webbrowser"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_starting_imports_nothing_that_is_not_needed(arguments: list[str], more: set[str]) -> None:
    assert imported(*arguments) & ({*HEAVY} | more) == set()
