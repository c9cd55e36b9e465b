"""Scripts and styles, under names that change with them: a browser keeps each for ever."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
PREFIX: Final = "/console/assets"
COMPRESS_LEVEL: Final = 9
HASH_CHARS: Final = 16
TYPES: Final = {
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}
NOT_BUILT: Final = (
    "xterm.js is not here: it is put into the package when that is built (hatch_build.py);"
    " for a working copy: python -m pip install --no-deps -e ."
)


class NotBuiltError(Exception):
    """There is no xterm.js in this copy of the package."""

    def __init__(self) -> None:
        super().__init__(NOT_BUILT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    media_type: str
    plain: bytes
    packed: bytes
    """gzip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assets:
    """What is served below `PREFIX`, by the rest of the path."""

    files: dict[str, Asset]
    own: str
    """The folder, below `PREFIX`, that our own scripts and styles are in."""

    def address(self, name: str) -> str:
        return f"{PREFIX}/{self.own}/{name}"

    def modules(self, *names: str) -> list[str]:
        """Return what a page with these scripts loads, for it to begin with all at once."""
        of_npm = (f"{PREFIX}/{name}" for name in self.files if name.endswith(".mjs"))
        return [*map(self.address, names), *of_npm]


@cache
def assets() -> Assets:
    """Read them once. Raises `NotBuiltError`."""
    npm = _npm()
    own = {path.name: path.read_bytes() for path in sorted((FOLDER / "assets").iterdir())}
    # Our scripts import xterm.js from a neighbour of theirs, which knows its hashed names.
    own["vendor.js"] = _vendor(npm).encode()
    own["vendor.css"] = f'@import url("../npm/{npm["xterm.css"]}");\n'.encode()
    digest = hashlib.sha256(
        b"".join(
            name.encode() + b"\0" + hashlib.sha256(body).digest() for name, body in own.items()
        )
    ).hexdigest()[:HASH_CHARS]
    files = {f"{digest}/{name}": _packed(name, body) for name, body in own.items()}
    for name in npm.values():
        files[f"npm/{name}"] = Asset(
            media_type=TYPES[Path(name).suffix],
            plain=(FOLDER / "static" / name).read_bytes(),
            packed=(FOLDER / "static" / f"{name}.gz").read_bytes(),
        )
    return Assets(files=files, own=digest)


def _npm() -> dict[str, str]:
    try:
        found = json.loads((FOLDER / "static" / "manifest.json").read_text())
    except OSError:
        raise NotBuiltError from None
    files: dict[str, str] = found["files"]
    return files


def _vendor(npm: dict[str, str]) -> str:
    return "".join(
        f'export {{ {what} }} from "../npm/{npm[name]}";\n'
        for what, name in (
            ("Terminal", "xterm.mjs"),
            ("FitAddon", "addon-fit.mjs"),
            ("Unicode11Addon", "addon-unicode11.mjs"),
        )
    )


def _packed(name: str, body: bytes) -> Asset:
    return Asset(
        media_type=TYPES[Path(name).suffix],
        plain=body,
        packed=gzip.compress(body, COMPRESS_LEVEL, mtime=0),
    )
