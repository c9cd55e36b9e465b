"""Bundles that were fetched before, by their SHA-256: bounded, the longest unused go first."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_NEW: Final = ".new-"
CHUNK_BYTES: Final = 1_048_576


class Cache:
    """One folder. A file's name is its content's hash; it is hashed again before each use."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def find(self, sha256: str) -> Path | None:
        """Return a bundle that is what its name says. One that is not is removed."""
        if not _DIGEST.fullmatch(sha256):
            return None
        path = self._folder / sha256
        try:
            with path.open("rb") as file:
                good = sha256_of(file) == sha256
        except OSError:
            return None
        if not good:
            path.unlink(missing_ok=True)
            return None
        with suppress(OSError):
            os.utime(path)
        return path

    @contextmanager
    def new_file(self) -> Iterator[tuple[BinaryIO, Path]]:
        """Yield a file that is gone afterwards, unless it was kept."""
        fd, name = tempfile.mkstemp(prefix=_NEW, dir=self._folder)
        path = Path(name)
        try:
            with os.fdopen(fd, "w+b") as file:
                yield file, path
        finally:
            path.unlink(missing_ok=True)

    def keep(self, path: Path, sha256: str) -> Path:
        """Give a new file its name, and make room by removing what was not used for longest."""
        kept = self._folder / sha256
        path.replace(kept)
        self._make_room(but=kept)
        return kept

    def _make_room(self, *, but: Path) -> None:
        known = []
        for path in self._folder.iterdir():
            with suppress(OSError):
                if _DIGEST.fullmatch(path.name):
                    known.append((path.stat(), path))
        held = sum(found.st_size for found, _ in known)
        for found, path in sorted(known, key=lambda one: one[0].st_mtime_ns):
            if held <= self._max_bytes:
                break
            if path != but:
                path.unlink(missing_ok=True)
                held -= found.st_size


def sha256_of(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
