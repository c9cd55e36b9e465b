"""Endpoints and rules out of documents: what can be used, and why the rest cannot.

The same for those in the configuration itself and those in files of their own, at start and at
every reload. One that is wrong is left out, and so is what needs it; the others stay.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ValidationError

from gatekeeper.forwardauth.adapters.problems import problem_at, problems_in
from gatekeeper.forwardauth.config import RuleDocument
from gatekeeper.forwardauth.config.checks import check_endpoint, check_rule
from gatekeeper.forwardauth.model import SkippedDefinition
from gatekeeper.platform.documents import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gatekeeper.forwardauth.config import Endpoint, Rule, Server
    from gatekeeper.forwardauth.errors import Problem
    from gatekeeper.platform.documents import Document, Location

_KINDS: Final = {"rules": "rule", "endpoints": "endpoint"}
BLANK: Final = "nothing stands here: write null if the client's own is meant"
"""`X-User:` with the value forgotten would hand on as identity what a client says of itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Definition:
    """A definition as it stands in a document."""

    document: Document
    section: str
    name: str
    value: Any

    def blanks(self) -> tuple[Location, ...]:
        return self.document.blanks((self.section, self.name))

    def problem(self, location: Location, message: str, near: str | None = None) -> Problem:
        return problem_at(self.document, (self.section, self.name, *location), message, near)


@dataclass(slots=True)
class Sorted:
    """Definitions that can be used, and those that cannot."""

    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    rules: dict[str, Rule] = field(default_factory=dict)
    skipped: list[SkippedDefinition] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def skip(self, copies: list[_Definition], reason: str, problems: Iterable[Problem]) -> None:
        first = copies[0]
        sources = tuple(dict.fromkeys(str(copy.document.path) for copy in copies))
        self.skipped.append(SkippedDefinition(_KINDS[first.section], first.name, reason, sources))
        self.problems += problems


def sort_out(documents: Iterable[Document], server: Server | None) -> Sorted:
    """Sort the definitions of documents. Without a server block each is seen by itself."""
    result = Sorted()
    found: dict[str, dict[str, list[_Definition]]] = {"rules": {}, "endpoints": {}}
    for document in documents:
        for one in _definitions(document, result.problems):
            found[one.section].setdefault(one.name, []).append(one)
    for name, copies in found["rules"].items():
        rule: Rule | None = _only(copies, result)
        if rule is None or server is None:
            continue
        problems = [copies[0].problem(*finding) for finding in check_rule(rule, server)]
        if problems:
            result.skip(copies, _reason(problems), problems)
        else:
            result.rules[name] = rule
    for name, copies in found["endpoints"].items():
        endpoint: Endpoint | None = _only(copies, result)
        if endpoint is None or server is None:
            continue
        problems = [
            copies[0].problem(*f) for f in check_endpoint(name, endpoint, result.rules, server)
        ]
        missing = _missing(endpoint, result.rules)
        if missing:
            lacks = f"missing rule dependencies: {', '.join(sorted(missing))}"
            problems += _lacking(copies[0], missing, found["rules"])
            result.skip(copies, lacks, problems)
        elif problems:
            result.skip(copies, _reason(problems), problems)
        else:
            result.endpoints[name] = endpoint
    result.skipped.sort()
    return result


def _definitions(document: Document, problems: list[Problem]) -> Iterator[_Definition]:
    if not isinstance(document.value, dict):
        problems.append(problem_at(document, (), "expected a mapping with endpoints and rules"))
        return
    for section in _KINDS:
        value = document.value.get(section)
        if value is not None and not isinstance(value, dict):
            problems.append(problem_at(document, (section,), "expected a mapping of names"))
        elif value is not None:
            for name, one in value.items():
                yield _Definition(document=document, section=section, name=name, value=one)


def check_keys(document: Document, model: type[BaseModel]) -> list[Problem]:
    """Find keys at the top of a document that are not known there."""
    if not isinstance(document.value, dict):
        return []
    known = [field.alias or name for name, field in model.model_fields.items()]
    return [
        problem_at(document, (key,), "this key is not known here", nearest(key, known))
        for key in document.value
        if key not in known
    ]


def _only(copies: list[_Definition], result: Sorted) -> Any:  # noqa: ANN401  # a rule or endpoint
    """Return a definition if there is one of its name and it is valid, else None."""
    if len(copies) > 1:
        result.skip(copies, "duplicate definition", _duplicates(copies))
        return None
    (one,) = copies
    # As part of a document, so that its name is looked at too.
    whole = {one.section: {one.name: one.value}}
    try:
        parsed = RuleDocument.model_validate(whole)
    except ValidationError as error:
        problems = [*problems_in(one.document, error, RuleDocument, whole)]
        result.skip(copies, _reason(problems), problems)
        return None
    problems = [one.problem(where, BLANK) for where in one.blanks()]
    if problems:
        result.skip(copies, _reason(problems), problems)
        return None
    return getattr(parsed, one.section)[one.name]


def _duplicates(copies: list[_Definition]) -> Iterator[Problem]:
    for copy in copies:
        others = [
            other.document.place((other.section, other.name))
            for other in copies
            if other is not copy
        ]
        yield copy.problem((), f"duplicate definition: it stands in {', '.join(others)} too")


def _reason(problems: list[Problem]) -> str:
    first, more = problems[0], len(problems) - 1
    others = f" (and {more} more)" if more else ""
    return f"invalid definition: {first.key}: {first.message}{others}"


def _missing(endpoint: Endpoint, rules: Mapping[str, Rule]) -> dict[str, int]:
    """Return the rules an endpoint names that cannot be used, with their place in its chain."""
    chain = reversed(list(enumerate(endpoint.rules)))
    return {one.name: number for number, one in chain if one.name not in rules}


def _lacking(
    endpoint: _Definition, missing: Mapping[str, int], written: Mapping[str, object]
) -> Iterator[Problem]:
    for name, number in missing.items():
        location = ("rules", number, "name")
        if name in written:
            yield endpoint.problem(location, "this rule cannot be used")
        else:
            yield endpoint.problem(location, "there is no such rule", nearest(name, written))
