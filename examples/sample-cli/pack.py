"""Pack the sample as a bundle: the same bytes, and so the same SHA-256, however often.

    python3 examples/sample-cli/pack.py sample-cli.tar.gz

The one library that it needs at run time, rich, is taken from the environment this runs in:
inside a sandbox there is no network to fetch it from.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import tarfile
from importlib import metadata
from pathlib import Path, PurePosixPath

HERE = Path(__file__).parent
OURS = ("ask.py", "install.py")
VENDORED = "rich"


def contents() -> dict[str, bytes]:
    """Return every file of the bundle by its name in it."""
    found = {name: (HERE / name).read_bytes() for name in OURS}
    for file in metadata.files(VENDORED) or ():
        pure = PurePosixPath(file)
        if pure.parts[0] == VENDORED and pure.suffix in {".py", ".typed"}:
            found[f"vendor/{pure}"] = Path(str(file.locate())).read_bytes()
    return found


def pack(files: dict[str, bytes]) -> bytes:
    """Make a tar.gz that depends on names and contents alone: no times, no owners, no order."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(filename="", fileobj=packed, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size = len(files[name])
            entry.mode = 0o644
            archive.addfile(entry, io.BytesIO(files[name]))
    return packed.getvalue()


def main() -> None:
    match sys.argv[1:]:
        case [file]:
            bundle = pack(contents())
            Path(file).write_bytes(bundle)
        case _:
            sys.exit("usage: pack.py FILE.tar.gz")
    print(hashlib.sha256(bundle).hexdigest())


if __name__ == "__main__":
    main()
