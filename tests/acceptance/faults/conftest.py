"""What the tests of faults share: a target on a server of its own, and a stack with terminals."""

import asyncio
from collections.abc import Iterator

import pytest

from acceptance.faults.stacks import PreparedTarget, prepared_target
from acceptance.faults.terminal_stacks import TerminalStack, stack_in


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PreparedTarget]:
    prepared = asyncio.run(prepared_target(tmp_path_factory.mktemp("faults")))
    try:
        yield prepared
    finally:
        asyncio.run(prepared.server.stop())


@pytest.fixture(scope="session")
def terminal_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TerminalStack]:
    with stack_in(tmp_path_factory.mktemp("terminals")) as stack:
        yield stack
