"""The tables of cases of a configuration, read strictly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from gatekeeper.forwardauth.adapters import sources
from gatekeeper.forwardauth.config.recorded import Case, Cases
from gatekeeper.forwardauth.errors import WHOLE_FILE, ConfigurationError, Problem
from gatekeeper.platform.documents import DocumentError, dotted, find_faults, read_document

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gatekeeper.forwardauth.config.server import Server
    from gatekeeper.platform.documents import Document


@dataclass(frozen=True, slots=True)
class Table:
    """One file of cases."""

    cases: tuple[Case, ...]
    document: Document

    def place(self, number: int) -> str:
        """Say where a case stands: `file:line`."""
        return self.document.place(("cases", number))


def read_tables(main: Path, server: Server) -> tuple[Table, ...]:
    """Read every table that belongs to a configuration. Raises `ConfigurationError`."""
    try:
        files = sources.case_files(main, server)
    except DocumentError as error:
        raise ConfigurationError([_unreadable(error)]) from error
    return read_files(files)


def read_files(files: Sequence[Path]) -> tuple[Table, ...]:
    """Read tables. Raises `ConfigurationError` with everything that is wrong with them."""
    tables: list[Table] = []
    problems: list[Problem] = []
    for file in files:
        try:
            tables.append(_read(file, problems))
        except DocumentError as error:
            problems.append(_unreadable(error))
    if problems:
        raise ConfigurationError(problems)
    return tuple(tables)


def _unreadable(error: DocumentError) -> Problem:
    return Problem(place=error.place, key=WHOLE_FILE, message=error.what)


def _read(file: Path, problems: list[Problem]) -> Table:
    document = read_document(file)
    try:
        return Table(tuple(Cases.model_validate(document.value).cases), document)
    except ValidationError as error:
        problems += (
            Problem(
                place=document.place(fault.location),
                key=dotted(fault.location) or WHOLE_FILE,
                message=fault.message,
                near=fault.near,
            )
            for fault in find_faults(error, Cases, document.value)
        )
        return Table((), document)
