"""Each proxy, started once, between a decision service and an application."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from acceptance.proxies.policy import decide
from proxies.application import Application
from proxies.client import PATIENCE
from proxies.decisions import Decisions
from proxies.servers import KINDS, Proxy, answers, free_port, running

PASSCTRL = "from gatekeeper.entrypoints.passctrl.main import main; main()"
CONFIGURATION = Path(__file__).with_name("passctrl.yaml")

Start = Callable[..., Proxy]


@pytest.fixture(scope="session")
def played() -> Iterator[Decisions]:
    with Decisions(decide) as decisions:
        yield decisions


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Run PassCtrl itself; give its port."""
    ports = {"8080": str(free_port()), "8081": str(free_port())}
    folder = tmp_path_factory.mktemp("passctrl")
    configuration = folder / "passctrl.yaml"
    configuration.write_text(
        re.sub(r"\b(8080|8081)\b", lambda found: ports[found[0]], CONFIGURATION.read_text())
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", PASSCTRL, "serve", configuration],
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    port = int(ports["8080"])
    try:
        assert answers(port, process, target="/app/auth"), (folder / "log").read_text()
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.fixture(scope="session", params=["played", "real"])
def decided_by(request: pytest.FixtureRequest) -> int:
    """Give the port of who decides: the policy played, or PassCtrl."""
    if request.param == "real":
        port: int = request.getfixturevalue("real")
        return port
    decisions: Decisions = request.getfixturevalue("played")
    return decisions.port


@pytest.fixture(scope="session")
def application() -> Iterator[Application]:
    with Application() as running_application:
        yield running_application


@pytest.fixture(scope="session")
def start(application: Application, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start a proxy that asks the given port about an endpoint; each is started once."""
    started: dict[tuple[str, int, str], Proxy] = {}
    with ExitStack() as stack:

        def start(name: str, passctrl: int, endpoint: str = "app") -> Proxy:
            key = (name, passctrl, endpoint)
            if key not in started:
                started[key] = stack.enter_context(
                    running(
                        name,
                        tmp_path_factory.mktemp(name),
                        passctrl=passctrl,
                        application=application.port,
                        endpoint=endpoint,
                    )
                )
            return started[key]

        yield start


@pytest.fixture(scope="session", params=KINDS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def proxy(name: str, decided_by: int, start: Start) -> Proxy:
    return start(name, decided_by)


@pytest.fixture(scope="session")
def portal(name: str, decided_by: int, start: Start) -> Proxy:
    """Give the proxy of the endpoint that sends everybody to the login page."""
    return start(name, decided_by, "portal")


@pytest.fixture(autouse=True)
def _forget(application: Application, played: Decisions) -> Iterator[None]:
    application.received.clear()
    played.asked.clear()
    yield
    played.answer = decide
