"""The port `SharedCache` on the Valkey that a configuration names."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gatekeeper.platform.valkey.client import ValkeyCache

if TYPE_CHECKING:
    from gatekeeper.forwardauth.config.server import Valkey

PORT = 6379


def shared_cache(settings: Valkey) -> ValkeyCache:
    """Make the cache; it connects when it is first asked."""
    parts = urlsplit(f"//{settings.address}")
    return ValkeyCache(
        host=parts.hostname or "",
        port=parts.port or PORT,
        timeout=settings.timeout,
        db=settings.db,
        username=settings.username,
        password=settings.password,
        tls=settings.tls.enabled,
        ca_file=settings.tls.ca_file,
    )
