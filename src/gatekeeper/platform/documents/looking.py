"""Files that change, seen by looking: it survives what file events do not.

The symlink swap of a ConfigMap, a network file system, an editor that writes a new file over
the old. A change counts once two looks found the same: half of a file can be a whole document
without its denies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

LOOK_SECONDS: Final = 0.5

Fingerprint = tuple[tuple[str, int, int, int], ...]


def fingerprint(files: Iterable[Path]) -> Fingerprint:
    """Return names, sizes and times of files; nothing when one of them is not to be had."""
    try:
        stats = [(str(file), file.stat()) for file in files]
    except OSError:
        return ()
    return tuple((name, s.st_ino, s.st_size, s.st_mtime_ns) for name, s in stats)


class Looks:
    """Tells when what is there has changed, and is still."""

    def __init__(self, look: Callable[[], Fingerprint], taken: Fingerprint | None) -> None:
        """`taken` is what is in use; None: not known, so that the first still look counts."""
        self._look = look
        self._taken = self._seen = taken

    def changed(self) -> Fingerprint | None:
        """Look once. Return what is there when it is new and was the same a look ago."""
        found = self._look()
        still = found == self._seen
        self._seen = found
        return found if still and found != self._taken else None

    def same(self, found: Fingerprint) -> bool:
        """Tell whether nothing has changed while it was read."""
        return self._look() == found

    def take(self, found: Fingerprint) -> None:
        """Remember that this is dealt with: in use, or refused."""
        self._taken = found
