"""What is run first, in view: says what it finds, and gets the program ready."""

from __future__ import annotations

import compileall
import sys
from pathlib import Path

LEAST = (3, 9)
HERE = Path(__file__).parent

print("Python", ".".join(map(str, sys.version_info[:3])))
if sys.version_info < LEAST:
    sys.exit(f"needs Python {'.'.join(map(str, LEAST))} or newer")
packages = sorted(path.name for path in (HERE / "vendor").iterdir() if path.is_dir())
print("brings along:", ", ".join(packages))
if not compileall.compile_dir(HERE, quiet=1):
    sys.exit("it cannot be compiled")
print("ready")
