"""`gk up`: Gatekeeper on this machine, to work with."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from gatekeeper.bootstrap.settings import AGENT_PORT, CONTROL_PLANE_PORT, GATEWAY_PORT
from gatekeeper.client.config import load, save_profile
from gatekeeper.entrypoints.cli.caller import explaining
from gatekeeper.entrypoints.operate.stack import Stack

DEFAULT_HOME: Final = Path("~/.gatekeeper")
MAX_PORT: Final = 65_535


def up(
    home: Annotated[
        Path, typer.Option(help="Folder for state and configuration.", envvar="GATEKEEPER_HOME")
    ] = DEFAULT_HOME,
    port: Annotated[
        int, typer.Option(min=1, max=MAX_PORT, help="Port of the control plane.")
    ] = CONTROL_PLANE_PORT,
    agent_port: Annotated[
        int, typer.Option(min=1, max=MAX_PORT, help="Port of the agent.")
    ] = AGENT_PORT,
    gateway_port: Annotated[
        int, typer.Option(min=1, max=MAX_PORT, help="Port of the gateway to terminals.")
    ] = GATEWAY_PORT,
) -> None:
    """Run all of Gatekeeper on this machine: databases with a sample target, and terminals.

    State stays in the folder: started again, it goes on where it was. Ctrl-C stops it.

    Example:  gk up

    Example:  gk up --home ./gatekeeper --port 4400 --agent-port 4401 --gateway-port 4402
    """
    with explaining():
        folder = home.expanduser().absolute()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        asyncio.run(_run(folder, port, agent_port, gateway_port))


async def _run(home: Path, port: int, agent_port: int, gateway_port: int) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stopped.set)
    began = time.monotonic()
    typer.echo(f"Starting Gatekeeper in {home}")
    stack = Stack(
        home / "stack", port=port, agent_port=agent_port, gateway_port=gateway_port, report=_report
    )
    async with stack:
        if stack.without_terminals is not None:
            typer.echo(f"\nNo terminals on this machine: {stack.without_terminals}\n")
        save_profile(home, "local", {"server": stack.url})
        typer.echo(f"Ready after {time.monotonic() - began:.1f} s: {stack.url}\n")
        typer.echo(_next_steps(home, stack.url, terminals=stack.without_terminals is None))
        typer.echo("Ctrl-C stops it; state stays in the folder.")
        await stopped.wait()
        typer.echo("\nStopping ...")
    typer.echo("Stopped.")


def _next_steps(home: Path, url: str, *, terminals: bool = True) -> str:
    """Say what to type, in a form that reaches this stack from any terminal."""
    lines = [f"In a browser: {url}/console\n"] if terminals else []
    lines.append("In another terminal:")
    if shutil.which("gk") is None:
        folder = shlex.quote(str(Path(sys.argv[0]).absolute().parent))
        lines.append(f"  export PATH={folder}:$PATH")
    if home != DEFAULT_HOME.expanduser():
        lines.append(f"  export GATEKEEPER_HOME={shlex.quote(str(home))}")
    gk = "gk" if load(None, home, {}).server == url else "gk --profile local"
    lines += [
        f"  {gk} login        (as dana, or as olga, who is an operator)",
        f"  {gk} session create --target pg-local --role app_read --ttl 15m --reason try",
        f"  {gk} exec --target pg-local --role app_read -- psql",
        *([f"  {gk} shell        (a terminal in a sandbox, with nothing of this machine)"]
          if terminals else []),
    ]  # fmt: skip
    return "\n".join([*lines, ""])


def _report(step: str, seconds: float) -> None:
    typer.echo(f"  {step:<66} {seconds:5.1f} s" if seconds else f"  {step}")
