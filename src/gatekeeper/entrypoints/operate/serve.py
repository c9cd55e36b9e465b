"""`gk serve`: run one process of Gatekeeper."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from gatekeeper import bootstrap
from gatekeeper.bootstrap.settings import S
from gatekeeper.entrypoints.cli.caller import explaining
from gatekeeper.entrypoints.commands import group
from gatekeeper.platform.telemetry.logs import configure_logs

GRACE_SECONDS = 5

app = group(no_args_is_help=True, help="Run one process of Gatekeeper.")

Config = Annotated[Path, typer.Option(help="Settings file (TOML).", exists=True, dir_okay=False)]


@app.command("control-plane")
def control_plane(config: Config) -> None:
    """Run a control plane: the API, the dispatcher, the sequencer.

    Any number may run side by side on one store.

    Example:  gk serve control-plane --config control-plane.toml
    """
    settings = _settings(bootstrap.ControlPlaneSettings, config)
    configure_logs(settings.log_level, service="control-plane")
    _serve(
        bootstrap.control_plane_app(settings, stop=_stop),
        settings.listen_host,
        settings.listen_port,
    )


@app.command()
def agent(config: Config) -> None:
    """Run an agent: it carries out the signed jobs of its control planes at its targets.

    Example:  gk serve agent --config agent.toml
    """
    settings = _settings(bootstrap.AgentSettings, config)
    configure_logs(settings.log_level, service="agent")
    _serve(bootstrap.agent_app(settings), settings.listen_host, settings.listen_port)


def _stop() -> None:
    """End this process in order; whoever runs it starts it anew."""
    os.kill(os.getpid(), signal.SIGTERM)


def _serve(application: object, host: str, port: int) -> None:
    uvicorn.run(
        application,  # type: ignore[arg-type]  # an ASGI application
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def _settings(model: type[S], path: Path) -> S:
    with explaining():
        return bootstrap.load_settings(model, path)
