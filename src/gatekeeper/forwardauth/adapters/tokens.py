"""The port `Tokens`: JSON Web Tokens of the configured issuers, verified and remembered.

A caller sends the same token with every request, and verifying it is arithmetic with large
numbers. What was verified is remembered for a moment, and never beyond the token's own end.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gatekeeper.forwardauth.model import Rejected
from gatekeeper.kernel.errors import Refusal, UnavailableError
from gatekeeper.platform.oidc.keysource import RemoteKeys
from gatekeeper.platform.oidc.verifier import IssuerSettings, TokenVerifier

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatekeeper.forwardauth.config.server import Issuer
    from gatekeeper.kernel.clock import Clock
    from gatekeeper.platform.oidc.keysource import KeySource

REMEMBERED_SECONDS: Final = 60.0
"""So long at most a key that its issuer withdrew is still believed here."""
MAX_REMEMBERED: Final = 10_000
"""Tokens; the one that was not used for longest goes first."""


class _Verified(NamedTuple):
    claims: Mapping[str, Any]
    ends: float
    """Seconds since the epoch: from then on it is verified anew."""


class VerifiedTokens:
    """Verifies tokens of issuers by the names a configuration gives them."""

    def __init__(
        self,
        issuers: Mapping[str, Issuer],
        *,
        clock: Clock,
        keys: Callable[[str, str | None], KeySource] = RemoteKeys,
    ) -> None:
        """Raises `ValueError` for an issuer whose address anybody could answer in place of."""
        self._clock = clock
        self._verifiers = {
            name: TokenVerifier(
                {issuer.issuer: (_settings(issuer), keys(issuer.issuer, issuer.jwks_uri))},
                clock=clock,
            )
            for name, issuer in issuers.items()
        }
        self._verified: OrderedDict[tuple[str, bytes], _Verified] = OrderedDict()

    async def verify(self, issuer: str, token: str) -> Mapping[str, Any] | Rejected:
        """Return the claims of a token of this issuer, or why it is not believed."""
        # A digest and not the token: what is remembered is no credential.
        key = (issuer, hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest())
        known = self._verified.get(key)
        if known is not None and self._now() < known.ends:
            self._verified.move_to_end(key)
            return known.claims
        found = await self._ask(issuer, token)
        if not isinstance(found, Rejected):
            self._remember(key, found)
        return found

    async def _ask(self, issuer: str, token: str) -> Mapping[str, Any] | Rejected:
        verifier = self._verifiers.get(issuer)
        if verifier is None:
            return Rejected(401, f"there is no issuer {issuer!r}")
        try:
            found = await verifier.claims(token)
        except UnavailableError as error:
            return Rejected(503, error.detail)
        return Rejected(401, found.detail) if isinstance(found, Refusal) else found

    def _remember(self, key: tuple[str, bytes], claims: Mapping[str, Any]) -> None:
        ends = min(claims["exp"], self._now() + REMEMBERED_SECONDS)
        self._verified[key] = _Verified(claims, ends)
        self._verified.move_to_end(key)
        if len(self._verified) > MAX_REMEMBERED:
            self._verified.popitem(last=False)

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _settings(issuer: Issuer) -> IssuerSettings:
    return IssuerSettings(
        issuer=issuer.issuer,
        audience=issuer.audience,
        algorithms=tuple(issuer.algorithms),
        jwks_uri=issuer.jwks_uri,
    )
