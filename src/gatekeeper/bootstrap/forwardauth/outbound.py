"""What decisions call, made at the first call: its libraries are a tenth of a worker's memory."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.outbound.guard import AddressGuard
from gatekeeper.platform.random import SystemRandom

if TYPE_CHECKING:
    from gatekeeper.forwardauth.adapters.backends import HttpBackends
    from gatekeeper.forwardauth.config import Server
    from gatekeeper.forwardauth.config.loaded import Loaded
    from gatekeeper.forwardauth.model import BackendRequest, BackendResponse
    from gatekeeper.platform.outbound.client import OutboundClient


class Outbound:
    """The port `Backends`, and the client that it and others call with."""

    def __init__(self, settings: Server) -> None:
        self._settings = settings.backend

    async def call(self, request: BackendRequest) -> BackendResponse:
        return await self._backends.call(request)

    async def close(self) -> None:
        if "client" in vars(self):
            await self.client.close()

    def prepare(self, loaded: Loaded) -> None:
        """Make it now, if a rule calls: no request is to wait until its libraries are loaded."""
        if any(rule.backend_api is not None for rule in loaded.configuration.rules.values()):
            _ = self._backends

    @cached_property
    def client(self) -> OutboundClient:
        from gatekeeper.platform.outbound.client import OutboundClient  # noqa: PLC0415  # as above

        return OutboundClient(
            guard=AddressGuard(self._settings.denied_networks),
            max_connections=self._settings.max_connections,
        )

    @cached_property
    def _backends(self) -> HttpBackends:
        from gatekeeper.forwardauth.adapters.backends import HttpBackends  # noqa: PLC0415  # as above

        return HttpBackends(
            client=self.client,
            max_response_bytes=self._settings.max_response_bytes,
            clock=SystemClock(),
            random=SystemRandom(),
        )
