"""Signed orders in, signed results out: nobody else is heard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from pydantic import ValidationError

from gatekeeper.kernel.errors import ErrorCode, Refusal
from gatekeeper.platform.crypto.envelope import open_envelope, seal
from gatekeeper.terminals.runner.attesting import Attestor
from gatekeeper.wire.runner import ORDER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    from gatekeeper.kernel.clock import Clock
    from gatekeeper.kernel.random import Random
    from gatekeeper.platform.crypto.envelope import Opened, ReplayGuard
    from gatekeeper.terminals.runner.host import Host
    from gatekeeper.wire.runner import Result

log = structlog.get_logger("gatekeeper.runner")


class Orders:
    """Takes the orders of its control planes."""

    def __init__(
        self,
        host: Host,
        *,
        name: str,
        key: Ed25519PrivateKey,
        control_planes: Mapping[str, tuple[Ed25519PublicKey, ...]],
        seen: ReplayGuard,
        clock: Clock,
        random: Random,
    ) -> None:
        self._host = host
        self._name = name
        self._key = key
        self._control_planes = control_planes
        self._seen = seen
        self._clock = clock
        self._random = random
        self._attestor = Attestor(name=name, key=key, clock=clock)

    async def handle(self, envelope: str) -> str | Refusal:
        """Open an order, carry it out, and seal what came of it."""
        opened = open_envelope(
            envelope,
            trusted=self._control_planes,
            audience=self._name,
            purpose="job",
            now=self._clock.now(),
            seen=self._seen,
        )
        if isinstance(opened, Refusal):
            log.warning("order refused", detail=opened.detail)
            return Refusal(code=ErrorCode.RUNNER_REJECTED, detail=opened.detail)
        try:
            order = ORDER.validate_json(opened.payload)
        except ValidationError:
            return Refusal(code=ErrorCode.RUNNER_REJECTED, detail="the order has the wrong shape")
        with structlog.contextvars.bound_contextvars(correlationId=order.correlation_id):
            result = await self._host.carry_out(order)
        result = self._attestor.attested(order.terminal, order.instance, result)
        return self._sealed(result, opened)

    def _sealed(self, result: Result, opened: Opened) -> str:
        """Sign a result for whoever asked."""
        return seal(
            result.model_dump_json(by_alias=True).encode(),
            key=self._key,
            sender=self._name,
            audience=opened.sender,
            purpose="result",
            message_id=self._random.bytes(16).hex(),
            now=self._clock.now(),
            in_reply_to=opened.message_id,
        )
