"""Signed orders in, signed results out: nobody else is heard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from pydantic import ValidationError

from gatekeeper.kernel.errors import ErrorCode, Refusal
from gatekeeper.platform.crypto.party import Party
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
    from gatekeeper.platform.crypto.envelope import ReplayGuard
    from gatekeeper.terminals.runner.host import Host

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
        self._party = Party(
            name=name, key=key, trusted=control_planes, clock=clock, random=random, seen=seen
        )
        self._attestor = Attestor(name=name, key=key, clock=clock)

    async def handle(self, envelope: str) -> str | Refusal:
        """Open an order, carry it out, and seal what came of it."""
        opened = self._party.open(envelope, "job")
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
        return self._party.answer(result.model_dump_json(by_alias=True).encode(), opened)
