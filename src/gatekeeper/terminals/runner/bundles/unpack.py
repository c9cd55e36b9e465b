"""An archive becomes a folder, or nothing: what it may hold, and how much.

Files and folders are written first, links last and only those that stay inside, so that nothing
is ever written through a link. What an archive says about itself is not believed; what comes out
of it is counted.
"""

from __future__ import annotations

import os
import time
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from gatekeeper.terminals.errors import BundleRefusedError

if TYPE_CHECKING:
    from pathlib import Path

    from gatekeeper.terminals.settings import BundleSettings

CHUNK_BYTES: Final = 262_144
MAX_NAME_BYTES: Final = 255
MAX_PATH_BYTES: Final = 3_500
RATIO_FLOOR_BYTES: Final = 10_485_760
"""What small archives may become, whatever the ratio: text packs well."""
_FILE_MODE, _PROGRAM_MODE, _FOLDER_MODE = 0o644, 0o755, 0o755
_ANY_EXECUTE: Final = 0o111


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Unpacked:
    files: int
    bytes: int


class Budget:
    """What is left to unpack: entries, bytes, time."""

    def __init__(self, settings: BundleSettings, *, packed_bytes: int, seconds: float) -> None:
        by_ratio = max(RATIO_FLOOR_BYTES, packed_bytes * settings.max_ratio)
        self.max_bytes = min(settings.max_unpacked_bytes, by_ratio)
        self.max_depth = settings.max_depth
        self.max_files = settings.max_files
        self.bytes = 0
        self.entries = 0
        self._deadline = time.monotonic() + seconds

    def entry(self) -> None:
        self.entries += 1
        if self.entries > self.max_files:
            message = f"The bundle holds more than {self.max_files} files and folders"
            raise BundleRefusedError(message)
        self.in_time()

    def take(self, count: int) -> None:
        self.bytes += count
        if self.bytes > self.max_bytes:
            message = f"The bundle would become more than {self.max_bytes} bytes"
            raise BundleRefusedError(message)
        self.in_time()

    def in_time(self) -> None:
        if time.monotonic() > self._deadline:
            message = "The bundle could not be unpacked in time"
            raise BundleRefusedError(message)


class Tree:
    """A folder that an archive is written into."""

    def __init__(self, root: Path, budget: Budget) -> None:
        self._root = root
        self._budget = budget
        self._seen: dict[str, bool] = {}
        """Whether it is a folder, by its name without the differences that hide."""
        self._links: list[tuple[Path, str]] = []
        self.files = 0

    def folder(self, name: str) -> None:
        self._budget.entry()
        parts = self._parts(name)
        if parts:
            self._folders(parts)

    def file(self, name: str, content: Readable, *, mode: int) -> None:
        """Write a file. Of its mode, only whether it is a program is kept."""
        path = self._place(name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            while chunk := content.read(CHUNK_BYTES):
                self._budget.take(len(chunk))
                file.write(chunk)
            os.fchmod(file.fileno(), _PROGRAM_MODE if mode & _ANY_EXECUTE else _FILE_MODE)
        self.files += 1

    def symbolic_link(self, name: str, target: str) -> None:
        """Note a link; it is made when everything else is there."""
        if not target or target.startswith("/") or "\0" in target or "\\" in target:
            raise _leads_out(name)
        if len(target.encode()) > MAX_PATH_BYTES:
            raise _leads_out(name)
        self._links.append((self._place(name), target))

    def hard_link(self, name: str, target: str) -> None:
        """Make a second name for a file that this archive wrote before."""
        parts = self._parts(target)
        source = self._root.joinpath(*parts)
        if self._seen.get(_key(parts)) is not False or not source.is_file():
            raise _leads_out(name)
        os.link(source, self._place(name), follow_symlinks=False)
        self.files += 1

    def finish(self) -> None:
        """Make the links, and see that each leads to something inside, through others too."""
        for path, target in self._links:
            path.symlink_to(target)
        root = self._root.resolve()
        for path, _ in self._links:
            try:
                inside = path.resolve().is_relative_to(root)
            except (OSError, RuntimeError):  # a loop
                inside = False
            if not inside:
                raise _leads_out(path.name)
        self.files += len(self._links)

    def _place(self, name: str) -> Path:
        """Return where something new goes; its folders are made."""
        self._budget.entry()
        parts = self._parts(name)
        if not parts:
            message = "The bundle holds a file without a name"
            raise BundleRefusedError(message)
        self._folders(parts[:-1])
        if _key(parts) in self._seen:
            message = f"The bundle holds two files of the same name, or nearly: {_shown(name)}"
            raise BundleRefusedError(message)
        self._seen[_key(parts)] = False
        return self._root.joinpath(*parts)

    def _folders(self, parts: tuple[str, ...]) -> None:
        for count in range(1, len(parts) + 1):
            some = parts[:count]
            path, key = self._root.joinpath(*some), _key(some)
            if key not in self._seen:
                self._budget.entry()
                path.mkdir(mode=_FOLDER_MODE)
                self._seen[key] = True
            elif not self._seen[key] or not path.is_dir():
                message = f"The bundle holds two things of the same name: {_shown(path.name)}"
                raise BundleRefusedError(message)

    def _parts(self, name: str) -> tuple[str, ...]:
        """Take a name apart. What is not plainly below the folder is refused."""
        if name.startswith("/") or "\\" in name or (len(name) > 1 and name[1] == ":"):
            raise _leads_out(name)
        parts = tuple(part for part in name.split("/") if part not in {"", "."})
        if ".." in parts:
            raise _leads_out(name)
        if (
            any(_bad(part) for part in parts)
            or len(name.encode("utf-8", "replace")) > MAX_PATH_BYTES
        ):
            message = f"The bundle holds a name that cannot be used: {_shown(name)}"
            raise BundleRefusedError(message)
        if len(parts) > self._budget.max_depth:
            message = f"The bundle's folders are deeper than {self._budget.max_depth}"
            raise BundleRefusedError(message)
        return parts


def _bad(part: str) -> bool:
    """Tell whether a name is too long, not Unicode, or holds what moves a cursor."""
    hidden = any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in part)
    return hidden or len(part.encode("utf-8", "replace")) > MAX_NAME_BYTES


def _key(parts: tuple[str, ...]) -> str:
    """Return what two names share that a person, or another file system, takes for one."""
    return unicodedata.normalize("NFC", "/".join(parts)).casefold()


def _leads_out(name: str) -> BundleRefusedError:
    return BundleRefusedError(f"The bundle holds a name or a link that leads out: {_shown(name)}")


def _shown(name: str) -> str:
    """Return a name in plain ASCII: it is shown in a terminal."""
    return ascii(name[:60])
