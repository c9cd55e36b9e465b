"""A configuration of forward auth, read and compiled. Checking one needs nothing that serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatekeeper.forwardauth.adapters.files import load
from gatekeeper.forwardauth.adapters.language import Language
from gatekeeper.forwardauth.adapters.tables import Table, read_tables
from gatekeeper.forwardauth.errors import ConfigurationError, Problem
from gatekeeper.forwardauth.plan import Compiled, compile_configuration
from gatekeeper.forwardauth.rehearsal.cases import CaseResult, run_cases

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from gatekeeper.forwardauth.agents.server import Generation
    from gatekeeper.forwardauth.config.loaded import Loaded

FIRST_GENERATION: Final = 1


def check_configuration(path: Path, environ: Mapping[str, str]) -> tuple[Problem, ...]:
    """Say everything that is wrong with a configuration, as it would be loaded."""
    try:
        loaded = load(path, environ=environ)
    except ConfigurationError as error:
        return error.problems
    compiled = compile_loaded(loaded)
    cases = _case_problems(path, loaded, compiled.generation)
    return (*loaded.problems, *problems_of(loaded, compiled), *cases)


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


def first_generation(path: Path, loaded: Loaded) -> Generation:
    """Compile what can be used. An endpoint that fails a case of its tables is quarantined.

    Raises `ConfigurationError` for a table that cannot be read: nobody knows what it would say.
    """
    generation = compile_loaded(loaded).generation
    return generation.without(
        {
            result.endpoint: f"{table.place(number)}: {_failed(result)}"
            for table, number, result in failing_cases(path, loaded, generation)
            if result.endpoint not in generation.quarantined
        }
    )


def next_generation(path: Path, loaded: Loaded, number: int) -> Generation:
    """Compile a whole configuration. Raises `ConfigurationError` if a case fails, or anything."""
    compiled = compile_loaded(loaded, number)
    problems = problems_of(loaded, compiled) or _case_problems(path, loaded, compiled.generation)
    if problems:
        raise ConfigurationError(problems)
    return compiled.generation


def _case_problems(path: Path, loaded: Loaded, generation: Generation) -> tuple[Problem, ...]:
    """Say which cases fail of endpoints that can be used, or what is wrong with their tables."""
    try:
        return tuple(
            Problem(place=table.place(n), key=f"cases.{n}", message=_failed(result))
            for table, n, result in failing_cases(path, loaded, generation)
            if result.endpoint not in generation.quarantined
        )
    except ConfigurationError as error:
        return error.problems


def failing_cases(
    path: Path, loaded: Loaded, generation: Generation
) -> Iterator[tuple[Table, int, CaseResult]]:
    """Yield each case that fails: its table, its number there, and how."""
    for table in read_tables(path, loaded.configuration.server):
        for number, result in enumerate(run_cases(table.cases, generation)):
            if result.problem is not None:
                yield table, number, result


def _failed(result: CaseResult) -> str:
    return f"case {result.name!r} fails: {result.problem}"
