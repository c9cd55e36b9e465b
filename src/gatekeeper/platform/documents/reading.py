"""Reading a file as a document of the kind that its name ends in."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any, Final

from gatekeeper.platform.documents import from_json, from_toml, from_yaml
from gatekeeper.platform.documents.document import (
    MAX_FILE_BYTES,
    Document,
    DocumentError,
    Lines,
    TextError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_READERS: Final[dict[str, Callable[[str], tuple[Any, Lines]]]] = {
    ".yaml": from_yaml.read,
    ".yml": from_yaml.read,
    ".json": from_json.read,
    ".toml": from_toml.read,
    ".tml": from_toml.read,
}
SUFFIXES: Final = frozenset(_READERS)


def read_document(path: Path) -> Document:
    """Read YAML, TOML or JSON. Raises `DocumentError`, and nothing else."""
    if path.is_dir():
        raise DocumentError(path, "a folder, not a file")
    if path.suffix not in _READERS:
        msg = f"expected a name that ends in one of {', '.join(_READERS)}"
        raise DocumentError(path, msg)
    return _read(path, _READERS[path.suffix])


def read_yaml(path: Path) -> Document:
    """Read YAML, whatever the file is called. Raises `DocumentError`, and nothing else."""
    return _read(path, from_yaml.read)


def _read(path: Path, read: Callable[[str], tuple[Any, Lines]]) -> Document:
    content = read_bytes(path)
    try:
        value, lines = read(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DocumentError(path, "not usable as text: expected UTF-8", line) from error
    except TextError as error:
        raise DocumentError(path, error.what, error.line) from error
    return Document(path=path, content=content, value=value, lines=lines)


def read_bytes(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """Read a whole file; a pipe or a device, which need never end, is none.

    Raises `DocumentError`, and nothing else.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DocumentError(path, "not a file")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise DocumentError(path, error.strerror or type(error).__name__) from error
    except ValueError as error:  # a NUL in the name
        raise DocumentError(path, "not the name of a file") from error
    if len(data) > limit:
        raise DocumentError(path, f"a file may have at most {limit} bytes")
    return data
