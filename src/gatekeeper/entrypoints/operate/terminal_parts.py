"""What the stack on one machine has for terminals: a runner, a gateway, and their settings."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gatekeeper.entrypoints.operate.sample import BUNDLES, PROFILES, RUNNER

if TYPE_CHECKING:
    from gatekeeper.bootstrap import Keys
    from gatekeeper.kernel.secret import Secret

CAPACITY: Final = 50
"""Terminals at a time, of one developer's machine."""
LONGEST_SOCKET_BYTES: Final = 90
"""The kernel takes 107, and the runner a few for a name that it has while it is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalParts:
    """Where they are; the settings that say so."""

    home: Path
    url: str
    """Of the control plane."""
    gateway_port: int

    @property
    def folder(self) -> Path:
        """Return the runner's folder: in ours, unless its socket's path would be too long."""
        folder = self.home / "runner"
        if len(os.fsencode(folder / "runner.sock")) <= LONGEST_SOCKET_BYTES:
            return folder
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"gatekeeper-{os.getuid()}-{digest}"

    @property
    def socket(self) -> Path:
        return self.folder / "runner.sock"

    def clear(self) -> None:
        """Leave nothing of the runner's outside of the stack's folder."""
        if not self.folder.is_relative_to(self.home):
            shutil.rmtree(self.folder, ignore_errors=True)

    def of_plane(self, keys: Keys) -> dict[str, Any]:
        """Return what the control plane is told."""
        return {
            "gateway_url": f"ws://127.0.0.1:{self.gateway_port}",
            "runner": RUNNER,
            "runners": {
                RUNNER: {
                    "address": f"unix:{self.socket}",
                    "public_key": keys.runner_public,
                    "capacity": CAPACITY,
                }
            },
            "profiles": list(PROFILES),
            "recordings": str(self.home / "recordings"),
        }

    def of_runner(self, keys: Keys, control_plane: str) -> dict[str, Any]:
        return {
            "name": RUNNER,
            "key_file": str(keys.runner_file),
            "control_planes": {control_plane: keys.control_plane_public},
            "control_plane_url": self.url,
            "attach_key_file": str(keys.attach_file),
            "folder": str(self.folder),
            "recordings": str(self.home / "recordings"),
            "capacity": CAPACITY,
            "bundles": BUNDLES,
        }

    def of_gateway(self, keys: Keys, dsn: Secret) -> dict[str, Any]:
        return {
            "store_dsn": dsn.reveal(),
            "keys_url": f"{self.url}/.well-known/jwks.json",
            "issuer": self.url,
            "attach_key_file": str(keys.attach_file),
            "listen_port": self.gateway_port,
        }

    async def are_ready(self) -> bool:
        """Tell whether both take connections."""
        try:
            await _knock(asyncio.open_unix_connection(str(self.socket)))
            await _knock(asyncio.open_connection("127.0.0.1", self.gateway_port))
        except OSError:
            return False
        return True


async def _knock(connecting: Any) -> None:  # noqa: ANN401  # a coroutine of asyncio's streams
    _, writer = await connecting
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
