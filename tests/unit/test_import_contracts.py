"""Each import contract refuses what it is there for: shown by breaking it in a copy."""

import configparser
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "gatekeeper"

STORE = "from gatekeeper.databases.adapters.store import PostgresSessionStore"
BROKEN = [
    ("roots", "plane/__init__.py", ""),
    ("roots", "utils.py", ""),
    ("roots", "platform/stray.py", "from gatekeeper.client import config"),
    ("plane-shape", "databases/utils.py", ""),
    ("plane-shape", "databases/reconcile.py", "from gatekeeper.databases import service"),
    ("forwardauth-shape", "forwardauth/utils.py", ""),
    (
        "forwardauth-shape",
        "forwardauth/dialects/stray.py",
        "from gatekeeper.forwardauth import plan",
    ),
    ("terminals-shape", "terminals/utils.py", ""),
    ("terminals-shape", "terminals/errors.py", "from gatekeeper.terminals import ports"),
    ("pure", "terminals/protocol/stray.py", "import asyncio"),
    ("ports", "terminals/ports/store.py", "from gatekeeper.wire import terminals"),
    ("pure", "kernel/stray.py", "import socket"),
    ("pure", "forwardauth/agents/stray.py", "import asyncio"),
    ("pure", "forwardauth/request/stray.py", "import socket"),
    ("pure", "databases/model.py", "import asyncio"),
    ("pure", "databases/evidence.py", "import psycopg_pool"),
    ("ports", "databases/service.py", "import httpx"),
    ("ports", "databases/jobs/stray.py", "from gatekeeper.platform import clock"),
    ("ports", "databases/ports.py", "from gatekeeper.wire import sessions"),
    ("adapters", "entrypoints/operate/stray.py", STORE),
    ("ports", "forwardauth/agents/stray.py", "from gatekeeper.platform import clock"),
    ("clients", "entrypoints/cli/stray.py", "from gatekeeper.platform import clock"),
    ("clients", "entrypoints/cli/stray.py", "from gatekeeper.databases import model"),
    ("cycles", "kernel/identity.py", "from gatekeeper.kernel import policy"),
    ("driver", "platform/policy/stray.py", "import psycopg"),
    ("driver", "entrypoints/cli/stray.py", "from psycopg_pool import AsyncConnectionPool"),
    ("web", "platform/queue/stray.py", "from fastapi import FastAPI"),
    ("web", "client/stray.py", "import uvicorn"),
    ("terminal", "platform/telemetry/stray.py", "from rich import print"),
    ("terminal", "bootstrap/stray.py", "import typer"),
    ("conditions", "databases/adapters/stray.py", "import yaml"),
    ("conditions", "entrypoints/cli/stray.py", "import cel_expr_python"),
    ("conditions", "forwardauth/adapters/stray.py", "import jinja2"),
    ("neighbours", "forwardauth/adapters/stray.py", "import aiohttp"),
    ("neighbours", "forwardauth/adapters/stray.py", "import redis.asyncio"),
    ("grpc", "forwardauth/dialects/stray.py", "import grpc"),
]


LINTER = """
import contextlib, io, json, sys
from importlinter.cli import lint_imports
for _ in sys.stdin:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        lint_imports(no_cache=True, no_logo=True)
    print(json.dumps(said.getvalue()), flush=True)
"""


@dataclass
class Copy:
    """A copy of the package, and the linter over it: one process, which reads it anew each time."""

    folder: Path
    linter: "subprocess.Popen[str]"

    def broken(self) -> set[str]:
        assert self.linter.stdin is not None
        assert self.linter.stdout is not None
        print(file=self.linter.stdin, flush=True)
        said = json.loads(self.linter.stdout.readline())
        assert "Contracts: " in said, said
        return set(re.findall(r"^(.+) BROKEN$", said, re.MULTILINE))


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    folder = tmp_path_factory.mktemp("contracts")
    shutil.copytree(PACKAGE, folder / "gatekeeper", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", folder)
    with subprocess.Popen(
        [sys.executable, "-c", LINTER],
        cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as linter:  # fmt: skip
        yield Copy(folder, linter)


def contracts() -> dict[str, str]:
    """Return the contracts there are: their names by their ids."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter")
    prefix = "importlinter:contract:"
    return {
        section.removeprefix(prefix): parser[section]["name"]
        for section in parser.sections()
        if section.startswith(prefix)
    }


def test_every_contract_has_something_that_breaks_it() -> None:
    assert {contract for contract, _, _ in BROKEN} == set(contracts())


def test_no_contract_is_broken_before(copied: Copy) -> None:
    assert copied.broken() == set()


@pytest.mark.parametrize(("contract", "file", "line"), BROKEN)
def test_a_contract_refuses(copied: Copy, contract: str, file: str, line: str) -> None:
    changed = copied.folder / "gatekeeper" / file
    before = changed.read_text() if changed.exists() else None
    changed.parent.mkdir(exist_ok=True)
    changed.write_text(f"{before or ''}\n{line}\n")
    try:
        assert copied.broken() == {contracts()[contract]}
    finally:
        if before is not None:
            changed.write_text(before)
        elif changed.name == "__init__.py":
            shutil.rmtree(changed.parent)
        else:
            changed.unlink()
