"""An issuer's public keys (RFC 7517): cached, refreshed on an unknown key id."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

import httpx
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from gatekeeper.kernel.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from joserfc.jwk import Key

log = structlog.get_logger("gatekeeper.oidc")

FETCH_SECONDS: Final = 5.0
MAX_DOCUMENT_BYTES: Final = 262_144
REFRESH_PAUSE_SECONDS: Final = 30.0
"""However many tokens with unknown keys arrive, the issuer is asked this often at most."""
FRESH_SECONDS: Final = 3_600.0
"""After this long the keys are fetched anew, so that one its issuer withdrew is not taken for
ever. While the issuer does not answer, the keys it last published stay."""


_FAILURES: Final = (
    httpx.HTTPError,
    httpx.InvalidURL,  # of a discovery document; it is no HTTPError
    JoseError,
    ValueError,
    KeyError,
    TypeError,
    TimeoutError,
)


class KeySource(Protocol):
    """Finds the key a token was signed with."""

    async def find(self, key_id: str) -> Key | None:
        """Return the key, or None. Raises `UnavailableError` when no key was ever fetched."""
        ...


class StaticKeys:
    """Keys that this process holds itself."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    async def find(self, key_id: str) -> Key | None:
        return _by_id(self._keys, key_id)


class RemoteKeys:
    """Keys of an issuer elsewhere, found through its discovery document or a fixed address."""

    def __init__(
        self,
        issuer: str,
        jwks_uri: str | None,
        *,
        now: Callable[[], float] = time.monotonic,
        pause_seconds: float = REFRESH_PAUSE_SECONDS,
    ) -> None:
        self._issuer = issuer
        self._jwks_uri = jwks_uri
        self._now = now
        self._pause_seconds = pause_seconds
        self._keys: KeySet | None = None
        self._asked_at = self._fetched_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def find(self, key_id: str) -> Key | None:
        # Whoever comes while they are being fetched waits for them too.
        if self._must_ask(key_id) or (self._fetching.locked() and not self._knows(key_id)):
            async with self._fetching:
                if self._must_ask(key_id):
                    await self._refresh()
        if self._keys is None:
            msg = "the issuer's keys cannot be fetched"
            raise UnavailableError(msg)
        return _by_id(self._keys, key_id)

    def _must_ask(self, key_id: str) -> bool:
        now = self._now()
        wanted = not self._knows(key_id) or now - self._fetched_at > FRESH_SECONDS
        return wanted and now - self._asked_at > self._pause_seconds

    def _knows(self, key_id: str) -> bool:
        return self._keys is not None and _by_id(self._keys, key_id) is not None

    async def _refresh(self) -> None:
        self._asked_at = self._now()
        try:
            async with (
                asyncio.timeout(FETCH_SECONDS),
                httpx.AsyncClient(timeout=FETCH_SECONDS, trust_env=False) as client,
            ):
                address = self._jwks_uri or await self._discover(client)
                self._keys = KeySet.import_key_set(await _document(client, address))
                self._fetched_at = self._asked_at
        except _FAILURES as error:
            log.warning("keys not fetched", issuer=self._issuer, error=type(error).__name__)

    async def _discover(self, client: httpx.AsyncClient) -> str:
        """Find the keys (OpenID Connect Discovery 1.0, section 4)."""
        address = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
        document = await _document(client, address)
        if document["issuer"] != self._issuer:
            msg = "the discovery document belongs to another issuer"
            raise ValueError(msg)
        return str(document["jwks_uri"])


def _by_id(keys: KeySet, key_id: str) -> Key | None:
    return next((key for key in keys.keys if key.kid == key_id), None)


async def _document(client: httpx.AsyncClient, address: str) -> Any:  # noqa: ANN401  # JSON
    if not is_safe(address):
        msg = "keys are fetched over https, or from loopback"
        raise ValueError(msg)
    body = bytearray()
    async with client.stream("GET", address) as response:
        response.raise_for_status()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_DOCUMENT_BYTES:
                msg = "the document is too large"
                raise ValueError(msg)
    return json.loads(body)


def is_safe(address: str) -> bool:
    """Tell whether nobody between us and the address could answer in its place."""
    url = httpx.URL(address)
    return url.scheme == "https" or (
        url.scheme == "http" and url.host in ("127.0.0.1", "::1", "localhost")
    )
