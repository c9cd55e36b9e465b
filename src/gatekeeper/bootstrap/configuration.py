"""A configuration of forward auth, read and compiled. Checking one needs nothing that serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatekeeper.forwardauth.adapters.files import load
from gatekeeper.forwardauth.adapters.language import Language
from gatekeeper.forwardauth.errors import ConfigurationError, Problem
from gatekeeper.forwardauth.plan import Compiled, compile_configuration

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gatekeeper.forwardauth.config.loaded import Loaded

FIRST_GENERATION: Final = 1


def check_configuration(path: Path, environ: Mapping[str, str]) -> tuple[Problem, ...]:
    """Say everything that is wrong with a configuration, as it would be loaded."""
    try:
        loaded = load(path, environ=environ)
    except ConfigurationError as error:
        return error.problems
    return (*loaded.problems, *problems_of(loaded, compile_loaded(loaded)))


def compile_loaded(loaded: Loaded, number: int = FIRST_GENERATION) -> Compiled:
    """Compile what was read; what cannot be is left out."""
    return compile_configuration(
        loaded.configuration,
        Language(loaded.templates_folder),
        number=number,
        digest=loaded.digest,
        environment=loaded.environment,
        secret_values={name: secret.reveal() for name, secret in loaded.secrets.items()},
        skipped=loaded.skipped,
        sources=loaded.sources,
    )


def problems_of(loaded: Loaded, compiled: Compiled) -> tuple[Problem, ...]:
    return tuple(
        Problem(
            place=loaded.place(fault.where),
            key=".".join(map(str, fault.where)),
            message=fault.message,
        )
        for fault in compiled.faults
    )
