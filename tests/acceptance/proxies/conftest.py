"""Each proxy, started once, between a decision service and an application."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from acceptance.proxies.policy import decide
from gatekeeper.platform.processes.listening import free_port
from proxies.application import Application
from proxies.decisions import Decisions
from proxies.files import passctrl_on
from proxies.servers import KINDS, Proxy, running

CONFIGURATION = Path(__file__).with_name("passctrl.yaml")

Start = Callable[..., Proxy]


@pytest.fixture(scope="session")
def played() -> Iterator[Decisions]:
    with Decisions(decide) as decisions:
        yield decisions


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """Run PassCtrl itself; give its ports, for HTTP and for gRPC."""
    configuration = tmp_path_factory.mktemp("passctrl") / "passctrl.yaml"
    configuration.write_text(CONFIGURATION.read_text())
    grpc = free_port()
    with passctrl_on(configuration, environment={"PASSCTRL_SERVER__GRPC__PORT": str(grpc)}) as port:
        yield port, grpc


@pytest.fixture(scope="session")
def real(served: tuple[int, int]) -> int:
    return served[0]


@pytest.fixture(scope="session")
def real_grpc(served: tuple[int, int]) -> int:
    return served[1]


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
    """Start a proxy that asks the given port about an endpoint; each is started once.

    A name with a value changes what is `true` in its file.
    """
    started: dict[tuple[object, ...], Proxy] = {}
    with ExitStack() as stack:

        def start(name: str, passctrl: int, endpoint: str = "app", **changed: str) -> Proxy:
            key = (name, passctrl, endpoint, *changed.items())
            if key not in started:
                started[key] = stack.enter_context(
                    running(
                        name,
                        tmp_path_factory.mktemp(name),
                        passctrl=passctrl,
                        application=application.port,
                        endpoint=endpoint,
                        changed={
                            f"{key}: true": f"{key}: {value}" for key, value in changed.items()
                        },
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
