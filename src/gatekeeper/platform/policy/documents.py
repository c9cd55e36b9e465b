"""YAML documents: read strictly, with the line of everything that is wrong in them."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Final

import yaml

from gatekeeper.kernel.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

MAX_FILE_BYTES: Final = 1_048_576


class PolicyError(InputError):
    """A policy cannot be used; `problems` lists everything that is wrong with it."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("the policy cannot be used:\n" + "\n".join(f"  {p}" for p in problems))


def read_yaml(path: Path) -> tuple[yaml.Node | None, Any]:
    """Read one YAML document without aliases or duplicate keys, and where its parts stand.

    Raises `InputError` for anything else.
    """
    try:
        loader = _StrictLoader(_read_text(path))
        try:
            node = loader.get_single_node()
            return node, None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except OSError as error:
        msg = f"{path}: {error.strerror}"
        raise InputError(msg) from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        what = getattr(error, "problem", None) or type(error).__name__
        msg = f"{path}{line}: not usable YAML: {what}"
        raise InputError(msg) from error


def _read_text(path: Path) -> str:
    """Read a whole file; a pipe or a device, which need never end, is none."""
    if not path.is_file():
        path.stat()  # says so itself when there is nothing
        msg = f"{path}: not a file"
        raise InputError(msg)
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        msg = f"{path}: a file may have at most {MAX_FILE_BYTES} bytes"
        raise InputError(msg)
    return data.decode("utf-8")


class _StrictLoader(yaml.SafeLoader):
    """No aliases (they can expand without end), no key twice (the last would win silently)."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, "aliases are not allowed", event.start_mark
            )
        node: yaml.Node | None = super().compose_node(parent, index)
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, _value in node.value:
                if key.value in seen:
                    raise yaml.composer.ComposerError(
                        None, None, f"the key {key.value!r} stands here twice", key.start_mark
                    )
                seen.add(key.value)
        return node


def problems_of(
    path: Path, node: yaml.Node | None, error: ValidationError, models: Sequence[type[BaseModel]]
) -> list[str]:
    """Say everything that is wrong with a document of these models, each with its line."""
    return [
        f"{path}:{line_of(node, where)}: {'.'.join(map(str, where))}: {_what(one, models)}"
        for one in error.errors(include_url=False, include_input=False)
        for where in (one["loc"],)
    ]


def _what(found: ErrorDetails, models: Sequence[type[BaseModel]]) -> str:
    if found["type"] != "extra_forbidden":
        return found["msg"].removeprefix("Value error, ")
    known = {field.alias or name for model in models for name, field in model.model_fields.items()}
    near = difflib.get_close_matches(str(found["loc"][-1]), sorted(known), n=1)
    return "this key is not known" + (f"; did you mean {near[0]!r}?" if near else "")


def line_of(node: yaml.Node | None, location: tuple[str | int, ...]) -> int:
    """Return the line of the innermost part of a location that exists."""
    line = 1
    for part in location:
        child = _child(node, part)
        if child is None:
            break
        node, line = child
    return line


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, int] | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        item = node.value[part]
        return item, item.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return value, key.start_mark.line + 1
    return None
