"""One running stack for all tests of a worker that only use it."""

from collections.abc import Iterator

import pytest

from acceptance.local_stack import Stack, running


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("local")) as stack:
        yield stack
