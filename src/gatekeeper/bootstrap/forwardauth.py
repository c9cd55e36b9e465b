"""The decision service, wired."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatekeeper.forwardauth.adapters.files import load
from gatekeeper.forwardauth.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gatekeeper.forwardauth.errors import Problem


def check_configuration(path: Path, environ: Mapping[str, str]) -> tuple[Problem, ...]:
    """Return everything that is wrong with a configuration; whoever serves it finds the same."""
    try:
        return load(path, environ=environ).problems
    except ConfigurationError as error:
        return error.problems
