"""Key files: made once, by whoever is first, and seen by others only when they are whole."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

from gatekeeper.kernel.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


def write_once(path: Path, text: str) -> None:
    """Make a file that only its owner can read, unless it is there already.

    Several processes may start on one folder: a link appears whole, and for one of them.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()


def read_private(path: Path) -> str:
    """Read a key file. Raises `InputError` when others can read it too."""
    with path.open() as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            msg = f"{path}: a key that others can read is not used; chmod 600 it, or make a new one"
            raise InputError(msg)
        return file.read()
