"""Which files a configuration is made of. A folder may be a ConfigMap or a Secret of Kubernetes.

There every file is a link into `..data`, which links to a folder with a date: hidden names are
passed over, and each file is found once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gatekeeper.platform.documents import SUFFIXES, DocumentError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatekeeper.forwardauth.config import Server

CASES: Final = ".test"
"""How the name of a table of cases ends, before its suffix."""
MAX_FILES: Final = 10_000
"""Of a rules folder, and of a templates folder."""


def rule_files(main: Path, server: Server) -> tuple[Path, ...]:
    """Return the rule documents, each once, in order. Raises `DocumentError`."""
    found: dict[str, Path] = {}
    if server.rules.rules_file is not None:
        file = beside(main, server.rules.rules_file)
        found[os.path.realpath(file)] = file
    if server.rules.rules_folder is not None:
        for file in files_in(beside(main, server.rules.rules_folder)):
            if file.suffix in SUFFIXES and not file.stem.endswith(CASES):
                found.setdefault(os.path.realpath(file), file)
    found.pop(os.path.realpath(main), None)
    return tuple(found.values())


def case_files(main: Path, server: Server) -> tuple[Path, ...]:
    """Return the tables of cases: `x.test.yaml` beside `x.yaml`, and those of the rules folder.

    Raises `DocumentError`.
    """
    alone = [main]
    if server.rules.rules_file is not None:
        alone.append(beside(main, server.rules.rules_file))
    found = [
        table
        for file in alone
        for suffix in sorted(SUFFIXES)
        if (table := file.with_name(f"{file.stem}{CASES}{suffix}")).exists()
    ]
    if server.rules.rules_folder is not None:
        folder = files_in(beside(main, server.rules.rules_folder))
        found += [f for f in folder if f.suffix in SUFFIXES and f.stem.endswith(CASES)]
    return tuple({os.path.realpath(file): file for file in found}.values())


def template_files(main: Path, server: Server) -> tuple[Path, ...]:
    """Return the files of the templates folder. Raises `DocumentError`."""
    folder = server.templates.templates_folder
    return () if folder is None else files_in(beside(main, folder))


def secret_files(main: Path, server: Server) -> Iterator[tuple[str, Path]]:
    """Yield the name of each secret, and its file."""
    folder = beside(main, server.variables.secrets_folder)
    for name, file in server.variables.secrets.items():
        yield name, folder / (file or name)


def beside(main: Path, name: str) -> Path:
    """Return a path that a configuration names: relative ones begin at the configuration."""
    return main.parent / name


def files_in(folder: Path) -> tuple[Path, ...]:
    """Return what is in a folder and below, sorted. Raises `DocumentError`."""
    found = []
    try:
        if not folder.is_dir():
            folder.stat()  # says so itself when there is nothing
            raise DocumentError(folder, "not a folder")
        for place, folders, files in os.walk(folder, onerror=_raise):
            folders[:] = [name for name in folders if not name.startswith(".")]
            found += [Path(place, name) for name in files if not name.startswith(".")]
            if len(found) > MAX_FILES:
                raise DocumentError(folder, f"a folder may have at most {MAX_FILES} files")
    except OSError as error:
        raise DocumentError(folder, error.strerror or type(error).__name__) from error
    except ValueError as error:  # a NUL in the name
        raise DocumentError(folder, "not the name of a folder") from error
    return tuple(sorted(found))


def _raise(error: OSError) -> None:
    raise error
