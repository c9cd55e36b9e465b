"""A real proxy, and PassCtrl itself, on files that a test wrote."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gatekeeper.platform.processes.listening import free_port
from proxies.client import PATIENCE
from proxies.servers import KINDS, LISTENS, answers, die_with_us, started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSCTRL = "from gatekeeper.entrypoints.passctrl.main import main; main()"


@contextmanager
def proxy_on(name: str, folder: Path, *, target: str = "/") -> Iterator[int]:
    """Run a proxy in a folder with its files, until the block ends; give its port.

    It listens where the files say 8000: that alone is replaced.
    """
    texts = {file: file.read_text() for file in folder.iterdir() if file.is_file()}

    def write(port: int) -> None:
        for file, text in texts.items():
            file.write_text(text.replace(str(LISTENS), str(port)))

    with started(KINDS[name], folder, write, target=target) as proxy:
        yield proxy.port


@contextmanager
def passctrl_on(
    configuration: Path,
    *,
    port: int = 0,
    environment: dict[str, str] | None = None,
    endpoint: str = "app",
) -> Iterator[int]:
    """Run `passctrl serve` on a configuration, until the block ends; give its port."""
    port = port or free_port()
    variables = {
        **os.environ,
        "PASSCTRL_SERVER__LISTEN__PORT": str(port),
        "PASSCTRL_SERVER__OPERATIONS__PORT": str(free_port()),
        **(environment or {}),
    }
    log = configuration.parent / "passctrl.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", PASSCTRL, "serve", configuration], preexec_fn=die_with_us,  # noqa: PLW1509  # calls one function of the C library
            env=variables, cwd=configuration.parent, stdout=stream, stderr=stream,
        )  # fmt: skip
    try:
        assert answers(port, process, target=f"/{endpoint}/auth"), log.read_text()[-2000:]
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE)
