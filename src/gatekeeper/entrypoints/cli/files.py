"""Files that commands write: there when they are whole, or not at all."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from gatekeeper.kernel.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """Write a file that is there only when it is whole; `-` is standard output."""
    if str(path) == "-":
        yield sys.stdout.buffer
        return
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    except OSError as error:
        msg = f"{path}: {error.strerror}"
        raise InputError(msg) from error
    finally:
        part.unlink(missing_ok=True)
