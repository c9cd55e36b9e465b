"""What is wrong with files, as problems of a configuration: each with its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatekeeper.forwardauth.errors import WHOLE_FILE, Problem
from gatekeeper.platform.documents import dotted, find_faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel, ValidationError

    from gatekeeper.platform.documents import Document, DocumentError, Location


def unreadable(error: DocumentError) -> Problem:
    """Say that a whole file cannot be read."""
    return Problem(place=error.place, key=WHOLE_FILE, message=error.what)


def problem_at(
    document: Document, location: Location, message: str, near: str | None = None
) -> Problem:
    """Say what is wrong at a location of a document."""
    place, key = document.place(location), dotted(location) or WHOLE_FILE
    return Problem(place=place, key=key, message=message, near=near)


def problems_in(
    document: Document, error: ValidationError, model: type[BaseModel], value: object
) -> Iterator[Problem]:
    """Say what a model finds wrong with a value that has the locations of a document."""
    for fault in find_faults(error, model, value):
        yield problem_at(document, *fault)
