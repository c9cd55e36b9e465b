"""Writes settings as TOML, readable by their owner alone: they hold DSNs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gatekeeper.client.files import write_private

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


def write_toml(path: Path, values: Mapping[str, Any]) -> None:
    write_private(path, "".join(_lines(values)))


def _lines(values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        yield f"{json.dumps(key)} = {_value(value)}\n"


def _value(value: Any) -> str:  # noqa: ANN401  # any TOML value
    # A JSON string is a TOML basic string; tables and arrays differ in their punctuation.
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return json.dumps(value)
