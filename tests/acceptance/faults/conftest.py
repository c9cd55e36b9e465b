"""A target that the tests of faults share, on a server of its own."""

import asyncio
from collections.abc import Iterator

import pytest

from acceptance.faults.stacks import PreparedTarget, prepared_target


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PreparedTarget]:
    prepared = asyncio.run(prepared_target(tmp_path_factory.mktemp("faults")))
    try:
        yield prepared
    finally:
        asyncio.run(prepared.server.stop())
