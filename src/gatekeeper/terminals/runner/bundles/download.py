"""One bundle over HTTP into a file: bounded in bytes, time and redirects."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

import httpx

from gatekeeper.terminals.errors import BundleRefusedError
from gatekeeper.terminals.runner.bundles.places import (
    addresses_of,
    matches,
    next_place,
    place_of,
    system_resolver,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

    from gatekeeper.terminals.runner.bundles.places import Place, Resolver
    from gatekeeper.terminals.settings import BundleSettings

MAX_REDIRECTS: Final = 5
CONNECT_SECONDS: Final = 5.0
SILENCE_SECONDS: Final = 15.0
"""How long nothing at all may come."""
_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))
_OK: Final = 200
_TYPES: Final = frozenset(
    (
        *("application/zip", "application/x-zip-compressed", "application/x-zip"),
        *("application/gzip", "application/x-gzip", "application/x-tar", "application/tar"),
        *("application/x-gtar", "application/x-compressed-tar", "application/x-tgz"),
        *("application/x-bzip2", "application/bzip2", "application/x-bzip"),
        *("application/x-xz", "application/xz", "application/octet-stream"),
        *("binary/octet-stream", "application/x-compressed", ""),
    )
)


@dataclass(frozen=True, slots=True)
class Downloaded:
    sha256: str
    bytes: int
    host: str
    """Where it came from in the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """How names become addresses, and whom TLS trusts. `tls` None: the usual authorities."""

    resolve: Resolver = system_resolver
    tls: ssl.SSLContext | None = None


async def download(
    url: str, *, settings: BundleSettings, file: BinaryIO, network: Network, hashless: bool
) -> Downloaded:
    """Fetch a bundle into a file. `hashless`: every host on the way must be one of the exempt."""
    place = place_of(url, settings)
    for _ in range(MAX_REDIRECTS + 1):
        if hashless and not matches(place, settings.hosts_without_hash):
            message = f"A bundle from {place.shown} needs its SHA-256"
            raise BundleRefusedError(message)
        found = await _ask(place, settings, file, network)
        if isinstance(found, Downloaded):
            return found
        place = next_place(place, found, settings)
    message = f"There were more than {MAX_REDIRECTS} redirects"
    raise BundleRefusedError(message)


async def _ask(
    place: Place, settings: BundleSettings, file: BinaryIO, network: Network
) -> Downloaded | str:
    """Ask the first address that can be connected to. Returns where a redirect leads, if one."""
    for address in await addresses_of(place, network.resolve):
        try:
            async with _response(place, address, network) as response:
                return await _take(response, place, settings, file)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            continue
        except httpx.HTTPError:
            message = f"The connection to {place.shown} broke, or what came is not HTTP"
            raise BundleRefusedError(message) from None
    message = f"{place.shown} cannot be connected to"
    raise BundleRefusedError(message)


@asynccontextmanager
async def _response(place: Place, address: str, network: Network) -> AsyncIterator[httpx.Response]:
    """Ask. The address is connected to; the name is what TLS and HTTP see."""
    authority = f"[{address}]" if ":" in address else address
    timeout = httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)
    verify = True if network.tls is None else network.tls
    async with (
        httpx.AsyncClient(trust_env=False, timeout=timeout, verify=verify) as client,
        client.stream(
            "GET",
            f"{place.scheme}://{authority}:{place.port}{place.target}",
            headers={
                "Host": place.authority,
                "Accept": "*/*",
                "Accept-Encoding": "identity",
                "User-Agent": "gatekeeper-runner",
            },
            extensions={"sni_hostname": place.host},
        ) as response,
    ):
        yield response


async def _take(
    response: httpx.Response, place: Place, settings: BundleSettings, file: BinaryIO
) -> Downloaded | str:
    if response.status_code in _REDIRECTS:
        return str(response.headers.get("location", ""))
    if response.status_code != _OK:
        message = f"{place.shown} answered {response.status_code}"
        raise BundleRefusedError(message)
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _TYPES or response.headers.get("content-encoding", "identity") != "identity":
        message = f"What {place.shown} sent does not call itself an archive"
        raise BundleRefusedError(message)
    announced = response.headers.get("content-length", "0")
    if not announced.isdigit() or int(announced) > settings.max_bytes:
        raise BundleRefusedError(_too_long(settings))
    return await _store(response, place, settings, file)


async def _store(
    response: httpx.Response, place: Place, settings: BundleSettings, file: BinaryIO
) -> Downloaded:
    digest, size = hashlib.sha256(), 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > settings.max_bytes:
            break
        digest.update(chunk)
        file.write(chunk)
    if size > settings.max_bytes:  # not raised above, where it would hold on to what is read from
        raise BundleRefusedError(_too_long(settings))
    file.flush()
    return Downloaded(digest.hexdigest(), size, place.shown)


def _too_long(settings: BundleSettings) -> str:
    return f"The bundle has more than {settings.max_bytes} bytes"
