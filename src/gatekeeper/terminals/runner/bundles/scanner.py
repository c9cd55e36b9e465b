"""A ClamAV daemon's opinion about a bundle (clamd(8), INSTREAM). No answer is a no."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from gatekeeper.terminals.errors import BundleRefusedError

if TYPE_CHECKING:
    from pathlib import Path

CHUNK_BYTES: Final = 65_536
SCAN_SECONDS: Final = 60.0
MAX_ANSWER_BYTES: Final = 4_096
_CLEAN: Final = b"stream: OK"
_FOUND: Final = b" FOUND"


async def scan(path: Path, socket: Path) -> None:
    """Raise `BundleRefusedError` unless the daemon says that there is nothing in it."""
    try:
        async with asyncio.timeout(SCAN_SECONDS):
            answer = await _ask(path, socket)
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        answer = b""
    if answer == _CLEAN:
        return
    if answer.startswith(b"stream: ") and answer.endswith(_FOUND):
        message = "The scanner found something in the bundle"
        raise BundleRefusedError(message)
    message = "The scanner did not say that the bundle is clean"
    raise BundleRefusedError(message)


async def _ask(path: Path, socket: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(socket), limit=MAX_ANSWER_BYTES)
    try:
        writer.write(b"zINSTREAM\0")
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                writer.write(len(chunk).to_bytes(4, "big") + chunk)
                await writer.drain()
        writer.write(bytes(4))
        await writer.drain()
        return (await reader.readuntil(b"\0"))[:-1]
    finally:
        writer.close()
