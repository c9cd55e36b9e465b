"""Real PostgreSQL servers for the tests, and the guard against leftover tasks.

Each server is started when the first test asks for it, on a free port, in this
run's own folder, and dies with the run, also when the run is killed. Under
pytest-xdist each worker has its own.
"""

from __future__ import annotations

import asyncio
import inspect
import signal
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
import structlog
from psycopg import sql
from psycopg.conninfo import make_conninfo

from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.postgres.embedded import EmbeddedServer
from gatekeeper.platform.postgres.migrations import migrate
from gatekeeper.platform.postgres.roles import allow_login
from servers import APPLICATION_PASSWORD, SETTINGS, TEMPLATE, binaries, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

# Programs under test may run in this process, and what they print is theirs alone.
structlog.configure(logger_factory=structlog.stdlib.LoggerFactory())

LONGEST: Final = (
    "test_documents.py", "test_crash_points.py", "test_gk_up.py", "test_demo.py",
    "test_postgresql_hostile_role.py", "test_target_faults.py", "test_ordinary_user.py",
    "test_completion.py", "test_overload.py", "test_forwardauth_port_served.py",
    "test_store_faults.py", "test_gk_shell.py", "test_session_machine.py", "test_launcher.py",
    "test_page_on_the_stack.py", "test_terminal_faults.py",
)  # fmt: skip
"""Files of tests that are run first: a worker that began with one at the end would be waited for.
Those that strain the machine are not side by side."""

WORKER_DIED: Final = pytest.StashKey[bool]()

# A shell ignores SIGINT in what it runs in the background, and every child would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object | None) -> None:
    """Remember a worker that died: with it went tests that were not run at all."""
    if error:
        node.config.stash[WORKER_DIED] = True


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell such a run from one whose tests failed: to repeat those would not be enough."""
    if session.config.stash.get(WORKER_DIED, False):
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR


@pytest.fixture(scope="session")
def server_18(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    yield from _server(18, tmp_path_factory)


@pytest.fixture(scope="session")
def server_16(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    yield from _server(16, tmp_path_factory)


@pytest.fixture(scope="session")
def server_15(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    yield from _server(15, tmp_path_factory)


@pytest.fixture(params=["15", "16", "18"])
def target_server(request: pytest.FixtureRequest) -> EmbeddedServer:
    """Run the test on each supported server."""
    server: EmbeddedServer = request.getfixturevalue(f"server_{request.param}")
    return server


@pytest.fixture(scope="session")
def store_databases(server_18: EmbeddedServer) -> Iterator[psycopg.Connection]:
    """Make the template once; hand out the connection that clones it."""
    with psycopg.connect(server_18.dsn(), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
        run(_set_up_store(server_18))
        yield admin


_numbers = count(1)


async def _set_up_store(server: EmbeddedServer) -> None:
    owner = Secret(server.dsn(TEMPLATE))
    await migrate(owner)
    await allow_login(owner, Secret(_as_application(owner.reveal())))
    # A test's store begins with an empty chain.
    async with await psycopg.AsyncConnection.connect(owner.reveal()) as connection:
        await connection.execute("DELETE FROM gatekeeper.audit_outbox")
        # Some tests keep notes of their own, beside our tables.
        await connection.execute("GRANT CREATE ON SCHEMA public TO store_tester")


def _as_application(dsn: str) -> str:
    return make_conninfo(dsn, user="store_tester", password=APPLICATION_PASSWORD)


@pytest.fixture
def store_dsn(store_owner_dsn: str) -> str:
    """Give the DSN a control plane works with, of a fresh database with all migrations applied."""
    return _as_application(store_owner_dsn)


@pytest.fixture
def store_owner_dsn(
    server_18: EmbeddedServer, store_databases: psycopg.Connection
) -> Iterator[str]:
    """Give the superuser's DSN of the same database."""
    name = f"store_{next(_numbers)}"
    store_databases.execute(
        sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
            sql.Identifier(name), sql.Identifier(TEMPLATE)
        )
    )
    yield server_18.dsn(name)
    store_databases.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(autouse=True)
def _leaves_no_task(request: pytest.FixtureRequest) -> None:
    """Fail an async test that leaves a task running, its fixtures' teardown included."""
    function = getattr(request.node, "function", None)
    if inspect.iscoroutinefunction(function):
        request.getfixturevalue("_watch_tasks")


@pytest.fixture
async def _watch_tasks() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    names = sorted(task.get_name() for task in left if not task.done())
    assert not names, f"the test left tasks running: {names}"


def _server(major: int, folders: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(
        folders.mktemp(f"postgres{major}") / "data", binaries(major), settings=SETTINGS
    )
    run(server.start())
    try:
        yield server
    finally:
        run(server.stop())
