"""Whether a change of what is published breaks somebody. Pure: documents in, findings out.

One question answers both directions: *is every value of the one schema one of the other?*
What we read (requests, jobs, settings) must take all that it took: old within new. What we
say (answers, results, `--json`) must still be what a reader of the old schema understands:
new within old, and no field gone. Looked at is what our schemas use: types, enumerations,
objects, arrays, alternatives, patterns and bounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Schema = Mapping[str, Any]

METHODS: Final = ("get", "put", "post", "delete", "patch")
LOWER_BOUNDS: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems")
UPPER_BOUNDS: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")


def breaking_api_changes(old: Schema, new: Schema) -> list[str]:
    """Compare two OpenAPI documents; return what would break a caller of the old one."""
    return [
        found
        for path, methods in old["paths"].items()
        for method in METHODS
        if method in methods
        for found in _operation_changes(
            f"{method.upper()} {path}",
            _Side(old, methods[method]),
            _Side(new, new["paths"].get(path, {}).get(method)),
        )
    ]


def narrowed_input(old: Schema, new: Schema) -> list[str]:
    """Return what the old schema of something that we read took, and the new one does not."""
    return list(_outside(_Place("", old, old), _Place("", new, new)))


def changed_output(old: Schema, new: Schema) -> list[str]:
    """Return what of something that we say a reader of the old schema would not understand."""
    return list(_unreadable(_Place("", new, new), _Place("", old, old)))


@dataclass(frozen=True, slots=True)
class _Side:
    """One operation, and the document it stands in."""

    document: Schema
    operation: Schema | None


@dataclass(frozen=True, slots=True)
class _Place:
    """A schema, the document that its references are looked up in, and how to call it."""

    name: str
    schema: Schema
    document: Schema

    def at(self, name: str, schema: Schema) -> _Place:
        return _Place(f"{self.name}.{name}" if self.name else name, schema, self.document)

    def resolved(self) -> _Place:
        schema = self.schema
        while "$ref" in schema:
            found: Any = self.document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            schema = found
        return _Place(self.name, schema, self.document)


def _operation_changes(name: str, old: _Side, new: _Side) -> Iterator[str]:
    if old.operation is None:
        return
    if new.operation is None:
        yield f"{name}: gone"
        return
    yield from (f"{name}: {found}" for found in _parameter_changes(old, new))
    yield from (f"{name}: {found}" for found in _body_changes(old, new))
    yield from (f"{name}: {found}" for found in _answer_changes(old, new))


def _parameter_changes(old: _Side, new: _Side) -> Iterator[str]:
    before, after = _parameters(old), _parameters(new)
    for key, parameter in before.items():
        where = f"{key[0]} parameter {key[1]}"
        if key not in after:
            yield f"{where}: gone"
            continue
        if after[key].get("required", False) and not parameter.get("required", False):
            yield f"{where}: now required"
        given = _Place(where, parameter["schema"], old.document)
        taken = _Place(where, after[key]["schema"], new.document)
        yield from (
            _outside_in_query(given, taken) if key[0] == "query" else _outside(given, taken)
        )
    for key in after.keys() - before.keys():
        if after[key].get("required", False):
            yield f"{key[0]} parameter {key[1]}: new and required"


def _outside_in_query(given: _Place, taken: _Place) -> Iterator[str]:
    """Compare what a query may say: never null, and `name=value` is also an array of one."""
    schema = given.schema
    said = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    if "items" in taken.schema and "items" not in schema:
        taken = _Place(taken.name, taken.schema["items"], taken.document)
    yield from _outside(
        _Place(given.name, {"anyOf": said} if said else schema, given.document), taken
    )


def _parameters(side: _Side) -> dict[tuple[str, str], Schema]:
    assert side.operation is not None
    return {(p["in"], p["name"]): p for p in side.operation.get("parameters", ())}


def _body_changes(old: _Side, new: _Side) -> Iterator[str]:
    before, after = _body(old), _body(new)
    if before is None:
        if after is not None:
            yield "body: new and required"
    elif after is None:
        yield "body: gone"
    else:
        yield from _outside(before, after)


def _body(side: _Side) -> _Place | None:
    assert side.operation is not None
    content = side.operation.get("requestBody", {}).get("content", {})
    if "application/json" not in content:
        return None
    return _Place("body", content["application/json"]["schema"], side.document)


def _answer_changes(old: _Side, new: _Side) -> Iterator[str]:
    assert old.operation is not None
    assert new.operation is not None
    for status, answer in old.operation["responses"].items():
        after = new.operation["responses"].get(status)
        if after is None:
            yield f"answer {status}: gone"
            continue
        for media_type, described in answer.get("content", {}).items():
            where = f"answer {status}"
            if media_type not in after.get("content", {}):
                yield f"{where}: no longer {media_type}"
                continue
            yield from _unreadable(
                _Place(where, after["content"][media_type].get("schema", {}), new.document),
                _Place(where, described.get("schema", {}), old.document),
            )


def _unreadable(new: _Place, old: _Place) -> Iterator[str]:
    yield from _outside(new, old, gone=True)


def _outside(inner: _Place, outer: _Place, *, gone: bool = False) -> Iterator[str]:
    """Yield why some value of `inner` is none of `outer`; with `gone` also missing fields."""
    inner, outer = inner.resolved(), outer.resolved()
    if "anyOf" in inner.schema or "oneOf" in inner.schema:
        for option in _options(inner):
            yield from _outside(option, outer, gone=gone)
    elif "anyOf" in outer.schema or "oneOf" in outer.schema:
        misfits = [list(_outside(inner, option, gone=gone)) for option in _options(outer)]
        if all(misfits):
            yield min(misfits, key=len)[0]
    else:
        yield from _plain(inner, outer, gone=gone)


def _options(place: _Place) -> list[_Place]:
    options = [*place.schema.get("anyOf", ()), *place.schema.get("oneOf", ())]
    return [_Place(place.name, option, place.document) for option in options]


def _plain(inner: _Place, outer: _Place, *, gone: bool) -> Iterator[str]:
    name, a, b = outer.name or "it", inner.schema, outer.schema
    if not _is_type_within(a.get("type"), b.get("type")):
        yield f"{name}: {a.get('type', 'anything')} is not {b['type']}"
        return
    allowed = _values(b)
    if allowed is not None:
        given = _values(a)
        if given is None or not given <= allowed:
            yield f"{name}: {_listed(given and given - allowed)} is not among {_listed(allowed)}"
    for bound in (*LOWER_BOUNDS, *UPPER_BOUNDS):
        if bound in b and not _is_bound_within(bound, a.get(bound), b[bound]):
            yield f"{name}: {bound} {a.get(bound)} is not within {b[bound]}"
    if "pattern" in b and a.get("pattern") != b["pattern"] and _values(a) is None:
        yield f"{name}: the pattern is another"
    if "items" in b:
        yield from _outside(
            inner.at("[]", a.get("items", {})), outer.at("[]", b["items"]), gone=gone
        )
    if "properties" in b or "additionalProperties" in b:
        yield from _fields(inner, outer, gone=gone)


def _fields(inner: _Place, outer: _Place, *, gone: bool) -> Iterator[str]:
    given, known = inner.schema.get("properties", {}), outer.schema.get("properties", {})
    others = outer.schema.get("additionalProperties", True)
    for name in sorted(
        set(outer.schema.get("required", ())) - set(inner.schema.get("required", ()))
    ):
        if not (gone and name not in given):
            yield f"{outer.at(name, {}).name}: may be missing, and must not"
    for name in known if gone else ():
        if name not in given:
            yield f"{outer.at(name, {}).name}: gone"
    for name, field in given.items():
        if name in known:
            yield from _outside(inner.at(name, field), outer.at(name, known[name]), gone=gone)
        elif others is False and not gone:
            yield f"{outer.at(name, {}).name}: not taken"
    if isinstance(others, Mapping):
        more = inner.schema.get("additionalProperties", {})
        if isinstance(more, Mapping):
            yield from _outside(inner.at("*", more), outer.at("*", others), gone=gone)


def _values(schema: Schema) -> frozenset[Any] | None:
    if "const" in schema:
        return frozenset({schema["const"]})
    return frozenset(schema["enum"]) if "enum" in schema else None


def _listed(values: frozenset[Any] | None) -> str:
    return "any value" if not values else ", ".join(sorted(map(str, values)))


def _is_type_within(inner: str | None, outer: str | None) -> bool:
    return outer is None or inner == outer or (inner, outer) == ("integer", "number")


def _is_bound_within(bound: str, inner: float | None, outer: float) -> bool:
    if inner is None:
        return False
    return inner >= outer if bound in LOWER_BOUNDS else inner <= outer
