"""The one fake of the `Tokens` port: believes what a test says it does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gatekeeper.forwardauth.model import Rejected

if TYPE_CHECKING:
    from collections.abc import Mapping

REJECTED = Rejected(401, "the token is not accepted")


@dataclass
class FakeTokens:
    """Has the claims of each token by issuer and token; `asked` has what it was asked about."""

    claims: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def verify(self, issuer: str, token: str) -> Mapping[str, Any] | Rejected:
        self.asked.append((issuer, token))
        await asyncio.sleep(0)
        return self.claims.get((issuer, token), REJECTED)
