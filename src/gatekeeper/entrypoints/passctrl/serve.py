"""`passctrl serve`: answer proxies."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from gatekeeper.entrypoints.passctrl import serving


def serve(
    config: Annotated[Path, typer.Argument(help="Configuration: YAML, TOML or JSON.")],
) -> None:
    """Answer proxies until told to stop, and take each new configuration that is whole.

    Broken definitions are left out at the start, and endpoints that need them answer 503;
    `passctrl check` says what is wrong. A broken server block ends the process.

    Example:  gk forwardauth serve config.yaml

    Example:  PASSCTRL_SERVER__LISTEN__PORT=9090 gk forwardauth serve config.yaml
    """
    os.execv(sys.executable, [sys.executable, "-m", serving.__name__, str(config)])  # noqa: S606  # ourselves
