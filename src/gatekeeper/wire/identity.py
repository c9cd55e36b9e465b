"""How a client finds out where to log in."""

from __future__ import annotations

from gatekeeper.wire.base import Response


class LoginIssuer(Response):
    """An issuer that people log in at with `gk login`."""

    issuer: str
    client_id: str
    scopes: tuple[str, ...] = ("openid", "email", "offline_access")


class AuthConfig(Response):
    """What `gk login` needs to know; it is public."""

    issuers: tuple[LoginIssuer, ...]
