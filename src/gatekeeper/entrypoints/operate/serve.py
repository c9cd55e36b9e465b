"""`gk serve`: run one process of Gatekeeper."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
import uvicorn

from gatekeeper import bootstrap
from gatekeeper.entrypoints.cli.caller import explaining
from gatekeeper.entrypoints.commands import group
from gatekeeper.kernel.errors import InputError
from gatekeeper.platform.telemetry.logs import configure_logs
from gatekeeper.platform.telemetry.traces import configure_traces

GRACE_SECONDS = 5

app = group(no_args_is_help=True, help="Run one process of Gatekeeper.")

Config = Annotated[Path, typer.Option(help="Settings file (TOML).", exists=True, dir_okay=False)]


@app.command("control-plane")
def control_plane(config: Config) -> None:
    """Run a control plane: the API, the dispatcher, the sequencer.

    Any number may run side by side on one store.

    Example:  gk serve control-plane --config control-plane.toml
    """
    with explaining():
        settings = bootstrap.load_settings(bootstrap.ControlPlaneSettings, config)
        configure_logs(settings.log_level, service="control-plane")
        configure_traces("control-plane")
        application = bootstrap.control_plane_app(settings, stop=_stop)
    _serve(
        application,
        settings.listen_host,
        settings.listen_port,
        close_waiting=application.state.close_waiting,
    )


@app.command()
def agent(config: Config) -> None:
    """Run an agent: it carries out the signed jobs of its control planes at its targets.

    It listens for them, or dials out and fetches them (mode = "poll").

    Example:  gk serve agent --config agent.toml
    """
    with explaining():
        settings = bootstrap.load_settings(bootstrap.AgentSettings, config)
        configure_logs(settings.log_level, service="agent")
        configure_traces("agent")
        if settings.mode == "poll":
            asyncio.run(bootstrap.poll_for_jobs(settings))
            return
        application = bootstrap.agent_app(settings)
    _serve(application, settings.listen_host, settings.listen_port)


@app.command()
def gateway(config: Config) -> None:
    """Run a gateway: it lets clients with a ticket attach to terminals, and moves their bytes.

    Any number may run side by side; each needs the store, and reaches the runners.

    Example:  gk serve gateway --config gateway.toml
    """
    with explaining():
        try:
            status = bootstrap.serve_gateway(config)
        except OSError as error:
            msg = f"the gateway cannot listen: {error.strerror}"
            raise InputError(msg) from error
    raise typer.Exit(status)


@app.command()
def runner(config: Config) -> None:
    """Run a runner: it holds the terminals of this machine, each in a sandbox.

    One on each machine; control planes order, gateways attach, both over its own socket.

    Example:  gk serve runner --config runner.toml
    """
    with explaining():
        settings = bootstrap.load_settings(bootstrap.RunnerSettings, config)
        configure_logs(settings.log_level, service="runner")
        configure_traces("runner")
        bootstrap.run_runner(settings)


def _stop() -> None:
    """End this process in order; whoever runs it starts it anew."""
    os.kill(os.getpid(), signal.SIGTERM)


class _Server(uvicorn.Server):
    """Ends the requests that wait for something to happen, so as not to wait for them."""

    def __init__(self, config: uvicorn.Config, close_waiting: Callable[[], None]) -> None:
        super().__init__(config)
        self._close_waiting = close_waiting

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._close_waiting()
        super().handle_exit(sig, frame)


def _serve(
    application: object, host: str, port: int, *, close_waiting: Callable[[], None] = lambda: None
) -> None:
    config = uvicorn.Config(
        application,  # type: ignore[arg-type]  # an ASGI application
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(config, close_waiting)
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C, after everything was stopped in order
        server.run()
    if not server.started:
        raise typer.Exit(1)
