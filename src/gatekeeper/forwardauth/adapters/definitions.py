"""Endpoints and rules out of documents: what can be used, and why the rest cannot.

The same for those in the configuration itself and those in files of their own, at start and at
every reload. One that is wrong is left out, and so is what needs it; the others stay.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from gatekeeper.forwardauth.config import Configuration, Endpoint, Rule, RuleDocument
from gatekeeper.forwardauth.config.checks import Finding, check_endpoint, check_rule
from gatekeeper.forwardauth.errors import Problem
from gatekeeper.forwardauth.model import SkippedDefinition
from gatekeeper.platform.documents import dotted, find_faults, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gatekeeper.forwardauth.config import Server
    from gatekeeper.platform.documents import Document, Location

D = TypeVar("D", Endpoint, Rule)

_KINDS: Final = {"rules": "rule", "endpoints": "endpoint"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Definition:
    """A definition as it stands in a document."""

    document: Document
    section: str
    name: str
    value: Any

    def problem(self, location: Location, message: str, near: str | None = None) -> Problem:
        where = (self.section, self.name, *location)
        return Problem(
            place=self.document.place(where), key=dotted(where), message=message, near=near
        )


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
    """Sort the definitions of documents. Without a server block each is only looked at by itself."""
    result = Sorted()
    found: dict[str, dict[str, list[_Definition]]] = {"rules": {}, "endpoints": {}}
    for document in documents:
        for one in _definitions(document, result.problems):
            found[one.section].setdefault(one.name, []).append(one)
    for name, copies in found["rules"].items():
        rule = _only(copies, Rule, result)
        if rule is None or server is None:
            continue
        if not _refused(copies, check_rule(rule, server), result):
            result.rules[name] = rule
    for name, copies in found["endpoints"].items():
        endpoint = _only(copies, Endpoint, result)
        if endpoint is None or server is None:
            continue
        findings = check_endpoint(name, endpoint, result.rules, server)
        refused = _refused(copies, findings, result)
        if not _lacks_rules(copies, endpoint, result, found["rules"]) and not refused:
            result.endpoints[name] = endpoint
    result.skipped.sort()
    return result


def _definitions(document: Document, problems: list[Problem]) -> Iterator[_Definition]:
    if not isinstance(document.value, dict):
        problems.append(_problem(document, (), "expected a mapping with endpoints and rules"))
        return
    for section in _KINDS:
        value = document.value.get(section)
        if value is not None and not isinstance(value, dict):
            problems.append(_problem(document, (section,), "expected a mapping of names"))
        elif value is not None:
            for name, one in value.items():
                yield _Definition(document=document, section=section, name=name, value=one)


def check_keys(document: Document, model: type[BaseModel]) -> list[Problem]:
    """Find keys at the top of a document that are not known there."""
    if not isinstance(document.value, dict):
        return []
    known = [field.alias or name for name, field in model.model_fields.items()]
    message = "this key is not known"
    if model is RuleDocument and "server" in document.value:
        message = "this key is not known: a file of rules has endpoints and rules alone"
    return [
        _problem(document, (key,), message, nearest(key, known))
        for key in document.value
        if key not in known
    ]


def _problem(
    document: Document, location: Location, message: str, near: str | None = None
) -> Problem:
    return Problem(
        place=document.place(location), key=dotted(location) or "-", message=message, near=near
    )


def _only(copies: list[_Definition], model: type[D], result: Sorted) -> D | None:
    """Return a definition if there is one of its name, and it is one."""
    if len(copies) > 1:
        result.skip(copies, "duplicate definition", _duplicates(copies))
        return None
    (one,) = copies
    # As part of the whole, so that its name is looked at too.
    whole = {one.section: {one.name: one.value}}
    try:
        parsed = Configuration.model_validate(whole)
    except ValidationError as error:
        faults = find_faults(error, Configuration, whole)
        problems = [
            Problem(
                place=one.document.place(fault.location),
                key=dotted(fault.location),
                message=fault.message,
                near=fault.near,
            )
            for fault in faults
        ]
        result.skip(copies, _reason(problems), problems)
        return None
    found: D = getattr(parsed, one.section)[one.name]
    return found


def _duplicates(copies: list[_Definition]) -> Iterator[Problem]:
    for copy in copies:
        others = [
            other.document.place((other.section, other.name))
            for other in copies
            if other is not copy
        ]
        yield copy.problem((), f"duplicate definition: it stands in {', '.join(others)} too")


def _refused(copies: list[_Definition], findings: Iterable[Finding], result: Sorted) -> bool:
    problems = [copies[0].problem(*finding) for finding in findings]
    if problems:
        result.skip(copies, _reason(problems), problems)
    return bool(problems)


def _reason(problems: list[Problem]) -> str:
    first, more = problems[0], len(problems) - 1
    others = f" (and {more} more)" if more else ""
    return f"invalid definition: {first.key}: {first.message}{others}"


def _lacks_rules(
    copies: list[_Definition],
    endpoint: Endpoint,
    result: Sorted,
    written: dict[str, list[_Definition]],
) -> bool:
    missing = {
        reference.name: number
        for number, reference in enumerate(endpoint.rules)
        if reference.name not in result.rules
    }
    if not missing:
        return False
    names = ", ".join(sorted(missing))
    problems = [
        copies[0].problem(
            ("rules", number, "name"),
            "this rule cannot be used" if name in written else "there is no such rule",
            None if name in written else nearest(name, written),
        )
        for name, number in missing.items()
    ]
    result.skip(copies, f"missing rule dependencies: {names}", problems)
    return True
