"""Forward auth without a port: a request explained, and tables of cases run. Nothing is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from gatekeeper.bootstrap.forwardauth.configuration import compile_loaded
from gatekeeper.forwardauth.adapters.files import load
from gatekeeper.forwardauth.adapters.tables import read_files, read_tables
from gatekeeper.forwardauth.config.recorded import Question
from gatekeeper.forwardauth.rehearsal.cases import run_cases
from gatekeeper.forwardauth.rehearsal.explaining import explain
from gatekeeper.forwardauth.rehearsal.replaying import replay
from gatekeeper.kernel.errors import InputError
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.documents import find_faults, read_document
from gatekeeper.wire.forwardauth import DecisionExplained, RuleCase

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def explain_request(
    path: Path,
    environ: Mapping[str, str],
    *,
    request: str,
    endpoint: str | None,
    dialect: str,
    answers: Path | None,
) -> DecisionExplained:
    """Explain what a configuration answers a request. Raises `InputError`."""
    generation = compile_loaded(load(path, environ=environ)).generation
    names = sorted({*generation.plans, *generation.quarantined})
    if endpoint is None and len(names) != 1:
        msg = f"choose an endpoint: {', '.join(names) or 'there is none'}"
        raise InputError(msg)
    question = _question(
        {
            **_recorded(answers),
            "endpoint": endpoint or names[0],
            "dialect": dialect,
            "request": request,
        }
    )
    now = SystemClock().now().timestamp()
    return replay(explain(question, generation, memory=None, now=now), question)


def _recorded(answers: Path | None) -> dict[str, Any]:
    """Read recorded answers: backends, tokens and sessions; a list has backends alone."""
    if answers is None:
        return {}
    value = read_document(answers).value
    if isinstance(value, list):
        return {"backends": value}
    if isinstance(value, dict):
        return value
    msg = f"{answers}: expected a list of answers, or backends, tokens and sessions"
    raise InputError(msg)


def _question(value: dict[str, Any]) -> Question:
    try:
        return Question.model_validate(value)
    except ValidationError as error:
        faults = find_faults(error, Question, value)
        lines = (f"{'.'.join(map(str, fault.location))}: {fault}" for fault in faults)
        raise InputError("\n".join(lines)) from error


def run_tables(
    path: Path, environ: Mapping[str, str], files: Sequence[Path]
) -> tuple[RuleCase, ...]:
    """Run tables, or all that belong to a configuration. Raises `InputError`."""
    loaded = load(path, environ=environ)
    generation = compile_loaded(loaded).generation
    tables = read_files(files) if files else read_tables(path, loaded.configuration.server)
    return tuple(
        RuleCase(
            name=result.name,
            file=table.place(number),
            passed=result.problem is None,
            problem=result.problem,
        )
        for table in tables
        for number, result in enumerate(run_cases(table.cases, generation))
    )
