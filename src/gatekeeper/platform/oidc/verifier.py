"""Tokens of any OIDC issuer, verified to a `Principal`: one path for every issuer.

Checked: size, shape, algorithm (pinned to the issuer's list), key (of that issuer
alone), signature, issuer, audience, expiry, not-before, issued-at, subject.
Headers that bring their own key (`jwk`, `jku`, `x5u`) are never looked at.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, TypeGuard

from joserfc import jwt
from joserfc.errors import JoseError
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gatekeeper.kernel import base64url
from gatekeeper.kernel.errors import ErrorCode, Refusal
from gatekeeper.kernel.identity import Principal, PrincipalKind
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.oidc.keysource import is_safe

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from gatekeeper.kernel.clock import Clock
    from gatekeeper.platform.oidc.keysource import KeySource

MAX_TOKEN_CHARS: Final = 16_384
LEEWAY_SECONDS: Final = 60
"""How far an issuer's clock may be from ours."""
MAX_GROUPS: Final = 1_000
MAX_SUBJECT_CHARS: Final = 255
"""OpenID Connect Core 1.0, section 2."""
MAX_TIME_SECONDS: Final = 253_402_300_799
"""The last second of the year 9999."""

Algorithm = Literal["RS256", "ES256", "PS256", "EdDSA"]


class IssuerSettings(BaseModel):
    """An issuer whose tokens are taken."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str
    audience: str
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("RS256", "ES256")
    jwks_uri: str | None = None
    """Where its keys are; None: its discovery document says."""
    groups_claim: str = "groups"
    kind: PrincipalKind = PrincipalKind.HUMAN
    client_id: str | None = None
    """What `gk login` and the pages name themselves as; None: nobody is sent there."""
    client_secret: Secret | None = None
    """Of a confidential client, which the pages alone can be: gk keeps no secret (RFC 8252 8.5)."""

    @field_validator("issuer", "jwks_uri")
    @classmethod
    def _safe(cls, address: str | None) -> str | None:
        if address is not None and not is_safe(address):
            msg = "expected an https address, or http on loopback"
            raise ValueError(msg)
        return address

    @model_validator(mode="after")
    def _secret_is_a_clients(self) -> Self:
        if self.client_secret is not None and not (self.client_id and self.client_secret):
            msg = "client_secret: expected one that is not empty, and its client_id"
            raise ValueError(msg)
        return self


class TokenVerifier:
    """Verifies tokens of the configured issuers, and of no other."""

    def __init__(
        self, issuers: Mapping[str, tuple[IssuerSettings, KeySource]], *, clock: Clock
    ) -> None:
        self._issuers = issuers
        self._clock = clock

    async def verify(self, unverified_token: str) -> Principal | Refusal:
        """Return who the token is about, or why it is not believed.

        Raises `UnavailableError` when the issuer's keys were never to be had.
        """
        claims = await self.claims(unverified_token)
        if isinstance(claims, Refusal):
            return claims
        return self.principal(claims)

    def principal(self, claims: Mapping[str, Any]) -> Principal:
        """Return whom verified claims are about."""
        return _principal(claims, self._issuers[claims["iss"]][0])

    async def claims(self, unverified_token: str) -> dict[str, Any] | Refusal:
        """Return a token's claims once all of it is verified."""
        parts = _unverified_parts(unverified_token)
        if parts is None:
            return _refused("it is no JSON Web Token")
        header, unverified = parts
        issuer = unverified.get("iss")
        if not isinstance(issuer, str) or issuer not in self._issuers:
            return _refused("its issuer is not one we trust")
        settings, keys = self._issuers[issuer]
        if header.get("alg") not in settings.algorithms or not isinstance(header.get("kid"), str):
            return _refused("its algorithm or key is not one its issuer uses")
        key = await keys.find(header["kid"])
        if key is None:
            return _refused("its key is not one its issuer uses")
        try:
            token = jwt.decode(unverified_token, key, algorithms=list(settings.algorithms))
        except (JoseError, ValueError, TypeError):
            return _refused("its signature does not fit")
        why = _fault(token.claims, settings, self._clock.now())
        return dict(token.claims) if why is None else _refused(why)


def _fault(claims: Mapping[str, Any], settings: IssuerSettings, now: datetime) -> str | None:
    """Say what is wrong with verified claims (RFC 7519 section 4.1, OIDC Core 3.1.3.7)."""
    seconds = now.timestamp()
    audience = claims.get("aud")
    expires, issued, begins = (claims.get(name) for name in ("exp", "iat", "nbf"))
    subject = claims.get("sub")
    if claims.get("iss") != settings.issuer:
        return "it belongs to another issuer"
    if settings.audience not in (audience if isinstance(audience, list) else [audience]):
        return "it is meant for another audience"
    if not _is_time(expires) or seconds > expires + LEEWAY_SECONDS:
        return "it has expired"
    if not _is_time(issued) or seconds < issued - LEEWAY_SECONDS:
        return "it comes from the future"
    if begins is not None and (not _is_time(begins) or seconds < begins - LEEWAY_SECONDS):
        return "it is not valid yet"
    if not is_plain(subject) or not 0 < len(subject) <= MAX_SUBJECT_CHARS:
        return "it names no subject"
    return None


def is_plain(value: object) -> TypeGuard[str]:
    """Tell whether a value is text without control characters, which no store need take."""
    return isinstance(value, str) and value.isprintable()


def _is_time(value: object) -> TypeGuard[int | float]:
    """Tell whether a value is a NumericDate (RFC 7519 section 2) that a calendar has."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and 0 <= value <= MAX_TIME_SECONDS
    )


def _principal(claims: Mapping[str, Any], settings: IssuerSettings) -> Principal:
    groups = claims.get(settings.groups_claim)
    listed = groups if isinstance(groups, list) else []
    email = claims.get("email")
    # An address that the issuer calls unverified says nothing about who this is.
    believed = is_plain(email) and claims.get("email_verified", True) is True
    return Principal(
        issuer=settings.issuer,
        subject=claims["sub"],
        kind=settings.kind,
        email=email if believed else None,
        groups=frozenset(g for g in listed[:MAX_GROUPS] if is_plain(g)),
    )


def _unverified_parts(token: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Look into a token before it is believed: only to choose the issuer to ask."""
    if len(token) > MAX_TOKEN_CHARS or not token.isascii() or token.count(".") != 2:  # noqa: PLR2004  # a compact JWS
        return None
    try:
        header, claims = (json.loads(base64url.decode(part)) for part in token.split(".")[:2])
    except (ValueError, RecursionError):
        return None
    return (header, claims) if isinstance(header, dict) and isinstance(claims, dict) else None


def _refused(why: str) -> Refusal:
    return Refusal(
        code=ErrorCode.AUTHENTICATION_ERROR,
        detail=f"the token is not accepted: {why}",
        hint="gk login gets a new one",
    )
