"""The reference page of forward auth's configuration, from its JSON Schema."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter

from gatekeeper.forwardauth.config import Configuration
from gatekeeper.forwardauth.config.base import Duration

if TYPE_CHECKING:
    from collections.abc import Iterator

Schema = dict[str, Any]

HEAD: Final = """\
# Configuration of forward auth

Every key; generated from the schema by `make docs`. Editors check a file against
[forwardauth-configuration.json](schemas/forwardauth-configuration.json), and one of
`server.rules` against [forwardauth-rules.json](schemas/forwardauth-rules.json); `passctrl check`
([how-to](../how-to/check-a-configuration-in-ci.md)) knows more than a schema can say.

* YAML, TOML or JSON, by the name's ending: `.yaml`, `.yml`, `.toml`, `.tml`, `.json`. A key that
  is not known, stands twice, or has a value of another type is an error.
* Durations are written `500ms`, `30s`, `5m`, `1h30m`.
* The environment is over the file for the `server` block: `PASSCTRL_SERVER__LISTEN__PORT=9090`,
  `PASSCTRL_SERVER__LOGGING__CORRELATION_HEADER=X-Trace`; lists and mappings as JSON.
* Paths are relative to the folder of the configuration. In a rules folder files of those endings
  are read, in folders below it too; hidden ones and `*.test.*` are not.
* A definition that is wrong is left out with its reason, and so is an endpoint that names it; the
  others serve. A name that is defined twice is used by neither. At a reload anything wrong keeps
  the whole configuration that was in force, and a changed `server` block needs a restart.
* An endpoint names a rule once: what a rule exports is found under its name.
* Names that no endpoint can have, because paths begin with them: `auth`, `caddy`, `envoy`,
  `haproxy`, `ingress-nginx`, `nginx`, `traefik`.
"""
DURATION: Final = TypeAdapter(Duration).json_schema()["pattern"]


def page() -> str:
    schema = Configuration.model_json_schema()
    definitions = schema["$defs"]
    for found in (schema, *definitions.values()):
        for key in found["properties"].values():
            if "$ref" in key:
                kind = definitions[key["$ref"].rpartition("/")[2]]
                key.setdefault("description", kind["description"])
    parts = [_section("The file", schema)]
    parts += [_section(name, schema["$defs"][name]) for name in _in_order(schema)]
    return "\n".join([HEAD, *parts])


def _in_order(schema: Schema) -> list[str]:
    """Return the names of definitions, each after what first refers to it."""
    names: list[str] = []
    waiting = list(_references(schema["properties"]))
    while waiting:
        name = waiting.pop(0)
        if name not in names:
            names.append(name)
            waiting = [*_references(schema["$defs"][name]["properties"]), *waiting]
    return names


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(reference := value.get("$ref"), str):
            yield reference.rpartition("/")[2]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _section(name: str, schema: Schema) -> str:
    required = schema.get("required", [])
    rows = [
        f"| `{key}` | {_kind(found)} | {_default(found, needed=key in required)} | {_text(found)} |"
        for key, found in schema["properties"].items()
    ]
    table = "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows])
    return f"## {name}\n\n{_text(schema)}\n\n{table}\n"


def _text(schema: Schema) -> str:
    if "const" in schema and "description" not in schema:
        return "Which kind it is."
    return " ".join(schema["description"].split()).replace("|", "\\|")


def _default(schema: Schema, *, needed: bool) -> str:
    if needed:
        return "must be given"
    value = schema.get("default")
    if "const" in schema or value in (None, {}, []):
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _kind(schema: Schema) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    branches = [one for key in ("anyOf", "oneOf") for one in schema.get(key, [])]
    if branches:
        return " or ".join(_kind(one) for one in branches if one.get("type") != "null")
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{one}`" for one in schema.get("enum", [schema.get("const")]))
    return _plain(schema)


def _plain(schema: Schema) -> str:
    match schema["type"]:
        case "array":
            return f"list of {_kind(schema['items'])}"
        case "object":
            values = [
                schema.get("additionalProperties"),
                *schema.get("patternProperties", {}).values(),
            ]
            return (
                f"mapping of names to {_kind(next(one for one in values if isinstance(one, dict)))}"
            )
        case "string":
            return "duration" if schema.get("pattern") == DURATION else schema.get("format", "text")
        case "integer" if "minimum" in schema:
            return f"integer, {schema['minimum']:,} to {schema['maximum']:,}"
    return str(schema["type"])
