"""Key files: only their owner can read them, and each is there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def read_or_make(path: Path, make: Callable[[], str]) -> str:
    """Read a file, or make it first. Of several processes that do so at once, one wins."""
    if not path.exists():
        descriptor, new = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(make())
            with suppress(FileExistsError):
                path.hardlink_to(new)
        finally:
            Path(new).unlink()
    return path.read_text()
