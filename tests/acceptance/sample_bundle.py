"""The sample program as a bundle on this machine, with a stand-in for whom it asks."""

import hashlib
import io
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SAMPLE = Path(__file__).parents[2] / "examples" / "sample-cli"


@contextmanager
def served(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def sample(folder: Path) -> str:
    """Pack the sample with a stand-in for the claude CLI; return the SHA-256."""
    packed, archive = folder / "packed.tar.gz", folder / "sample.tar.gz"
    subprocess.run([sys.executable, str(SAMPLE / "pack.py"), str(packed)], check=True)
    with tarfile.open(packed) as source, tarfile.open(archive, "w:gz") as target:
        for entry in source:
            target.addfile(entry, source.extractfile(entry))
        claude = b'#!/bin/sh\necho "you asked: $2"\n'
        entry = tarfile.TarInfo("claude")
        entry.mode, entry.size = 0o755, len(claude)
        target.addfile(entry, io.BytesIO(claude))
    return hashlib.sha256(archive.read_bytes()).hexdigest()
