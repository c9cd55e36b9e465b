"""The way of one bundle, from its URL to a folder."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gatekeeper.terminals.errors import BundleRefusedError
from gatekeeper.terminals.model import Stage
from gatekeeper.terminals.runner.bundles.archives import unpack
from gatekeeper.terminals.runner.bundles.cache import Cache
from gatekeeper.terminals.runner.bundles.download import Network, download
from gatekeeper.terminals.runner.bundles.places import matches, place_of
from gatekeeper.terminals.runner.bundles.scanner import scan
from gatekeeper.terminals.runner.bundles.unpack import Budget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gatekeeper.terminals.model import Bundle
    from gatekeeper.terminals.runner.bundles.unpack import Unpacked
    from gatekeeper.terminals.settings import BundleSettings

_THOUSAND: Final = 1_000


@dataclass(frozen=True, slots=True)
class Fetched:
    sha256: str
    files: int
    bytes: int
    """Of the archive."""


async def fetch(
    bundle: Bundle,
    *,
    settings: BundleSettings,
    cache: Path,
    progress: Callable[[str], None],
    into: Path,
    reached: Callable[[Stage], None] = lambda _: None,
    network: Network | None = None,
) -> Fetched:
    """Fetch a bundle, hold it against its hash, and unpack it into a folder that is empty or new.

    `progress` gets lines for the terminal; nothing in them was written by the other side.
    Raises `BundleRefusedError`; nothing of the bundle is left then.
    """
    _check(bundle, settings)
    kept = await asyncio.to_thread(Cache, cache, max_bytes=settings.cache_bytes)
    try:
        async with asyncio.timeout(settings.max_seconds):
            path, sha256 = await _obtain(bundle, settings, kept, progress, network or Network())
    except TimeoutError:
        message = f"The bundle did not come within {settings.max_seconds} seconds"
        raise BundleRefusedError(message) from None
    reached(Stage.FETCHED)
    if settings.clamd_socket is not None:
        await scan(path, settings.clamd_socket)
        progress("The scanner found nothing")
    reached(Stage.VERIFIED)
    unpacked = await asyncio.to_thread(_unpack, path, into, settings)
    progress(f"Unpacked {unpacked.files} files")
    return Fetched(sha256=sha256, files=unpacked.files, bytes=path.stat().st_size)


def _check(bundle: Bundle, settings: BundleSettings) -> None:
    place = place_of(bundle.url, settings)
    if bundle.sha256 is None and not matches(place, settings.hosts_without_hash):
        message = f"A bundle from {place.shown} needs its SHA-256"
        raise BundleRefusedError(message)


async def _obtain(
    bundle: Bundle,
    settings: BundleSettings,
    cache: Cache,
    progress: Callable[[str], None],
    network: Network,
) -> tuple[Path, str]:
    """Return the archive, out of the cache or from where it is."""
    if bundle.sha256 is not None:
        found = await asyncio.to_thread(cache.find, bundle.sha256)
        if found is not None:
            progress("Found in the cache, SHA-256 verified")
            return found, bundle.sha256
    with cache.new_file() as (file, path):
        got = await download(
            bundle.url,
            settings=settings,
            file=file,
            network=network,
            hashless=bundle.sha256 is None,
        )
        progress(f"Fetched {_size(got.bytes)} from {got.host}")
        if bundle.sha256 is not None:
            if got.sha256 != bundle.sha256:
                message = f"The bundle's SHA-256 is {got.sha256}, not the one asked for"
                raise BundleRefusedError(message)
            progress("SHA-256 verified")
        return cache.keep(path, got.sha256), got.sha256


def _unpack(archive: Path, into: Path, settings: BundleSettings) -> Unpacked:
    budget = Budget(
        settings, packed_bytes=archive.stat().st_size, seconds=float(settings.max_seconds)
    )
    with _beside(into) as folder:
        unpacked = unpack(archive, folder, budget)
        if not unpacked.files:
            message = "There is nothing in the bundle"
            raise BundleRefusedError(message)
        _entered(folder).replace(into)
    return unpacked


@contextmanager
def _beside(into: Path) -> Iterator[Path]:
    """Yield a folder that is gone afterwards, or has become the one it stands beside."""
    outer = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=into.parent))
    try:
        inner = outer / "bundle"
        inner.mkdir(mode=0o755)
        yield inner
    finally:
        with suppress(OSError):
            shutil.rmtree(outer)


def _entered(folder: Path) -> Path:
    """Return the folder itself, or the only thing in it when that is a folder."""
    inside = list(folder.iterdir())
    only = inside[0] if len(inside) == 1 else folder
    return only if only.is_dir() and not only.is_symlink() else folder


def _size(count: int) -> str:
    if count < _THOUSAND:
        return f"{count} bytes"
    if count < _THOUSAND**2:
        return f"{count / _THOUSAND:.1f} kB"
    return f"{count / _THOUSAND**2:.1f} MB"
