"""Who may call: the issuers, the development issuer among them, behind one verifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gatekeeper.kernel.errors import InputError
from gatekeeper.platform.crypto.keys import TokenKey
from gatekeeper.platform.http.rates import CallRates
from gatekeeper.platform.oidc import development
from gatekeeper.platform.oidc.callers import authenticator, identity_routes, no_pages
from gatekeeper.platform.oidc.development import DevelopmentIssuer
from gatekeeper.platform.oidc.development_routes import development_routes
from gatekeeper.platform.oidc.exchange import TokenEndpoint, exchange_routes
from gatekeeper.platform.oidc.keysource import KeySource, RemoteKeys, StaticKeys, is_safe
from gatekeeper.platform.oidc.verifier import IssuerSettings, TokenVerifier
from gatekeeper.platform.oidc.workload import AccessTokens, TokenExchange

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastapi import APIRouter

    from gatekeeper.bootstrap.settings import ControlPlaneSettings
    from gatekeeper.kernel.clock import Clock
    from gatekeeper.kernel.random import Random
    from gatekeeper.platform.http.context import Authenticate
    from gatekeeper.platform.oidc.callers import PageCaller
    from gatekeeper.platform.oidc.exchange import Record
    from gatekeeper.platform.oidc.workload import WorkloadIssuerSettings

Known = tuple[IssuerSettings, KeySource]

CALLS_PER_REQUEST: Final = 20
"""For each request for a session that the policy allows in a minute, a caller may make this
many calls of any kind. What costs as much as a session is bounded by the policy's number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The dependencies that authenticate a request and count it, and the routes around them."""

    authenticate: Authenticate
    authenticate_costly: Authenticate
    """For what reads the whole chain or asks every target."""
    verifier: TokenVerifier
    issuers: tuple[IssuerSettings, ...]
    """All whose tokens are taken, our own included."""
    routes: tuple[APIRouter, ...]


def make_identity(
    settings: ControlPlaneSettings,
    *,
    clock: Clock,
    random: Random,
    per_minute: Callable[[], int],
    record: Record,
    of_page: PageCaller = no_pages,
    other_keys: Callable[[], Sequence[Any]] = tuple,
) -> Identity:
    """Wire who may call. `per_minute` is the policy's limit; `record` writes evidence.

    `other_keys` gives the public keys of what else we sign, to be published with ours.

    Raises `InputError` for a public address that others could answer in the place of.
    """
    issuers = _remote(settings.issuers)
    routers = []
    if settings.development_users:
        known, router = _development(settings, clock=clock, random=random)
        issuers[known[0].issuer] = known
        routers.append(router)
    rates = CallRates()
    endpoint = None
    if settings.workload_issuers:
        tokens = _access_tokens(settings, clock=clock, random=random)
        issuers[settings.public_url] = tokens.trusted()
        endpoint = TokenEndpoint(
            exchange=_exchange(settings.workload_issuers, tokens, clock),
            tokens=tokens,
            rates=rates,
            per_minute=per_minute,
            record=record,
        )
    verifier = TokenVerifier(issuers, clock=clock)
    authenticate = authenticator(
        verifier,
        rates,
        lambda: per_minute() * CALLS_PER_REQUEST,
        bucket="calls",
        of_page=of_page,
    )
    public = tuple(found for found, _keys in issuers.values())
    return Identity(
        authenticate=authenticate,
        authenticate_costly=authenticator(
            verifier, rates, per_minute, bucket="costly calls", of_page=of_page
        ),
        verifier=verifier,
        issuers=public,
        routes=(
            *routers,
            exchange_routes(endpoint, other_keys),
            identity_routes(public, authenticate),
        ),
    )


def _remote(issuers: Sequence[IssuerSettings]) -> dict[str, Known]:
    return {one.issuer: (one, RemoteKeys(one.issuer, one.jwks_uri)) for one in issuers}


def _development(
    settings: ControlPlaneSettings, *, clock: Clock, random: Random
) -> tuple[Known, APIRouter]:
    key = TokenKey.load_or_create(settings.key_folder / "development-issuer.jwk")
    issuer = DevelopmentIssuer(
        public_url=settings.public_url,
        users=settings.development_users,
        key=key,
        clock=clock,
        random=random,
    )
    known = IssuerSettings(
        issuer=issuer.issuer,
        audience=development.AUDIENCE,
        algorithms=("RS256",),
        client_id=development.CLIENT_ID,
    )
    return (known, StaticKeys(key.public())), development_routes(issuer, key)


def _access_tokens(settings: ControlPlaneSettings, *, clock: Clock, random: Random) -> AccessTokens:
    if not is_safe(settings.public_url):
        msg = "public_url: workload_issuers need an https address, or http on loopback"
        raise InputError(msg)
    key = TokenKey.load_or_create(settings.key_folder / "access-tokens.jwk")
    return AccessTokens(public_url=settings.public_url, key=key, clock=clock, random=random)


def _exchange(
    issuers: Sequence[WorkloadIssuerSettings], tokens: AccessTokens, clock: Clock
) -> TokenExchange:
    """Workloads' issuers have a verifier of their own: their tokens open nothing else."""
    return TokenExchange(
        verifier=TokenVerifier(_remote(issuers), clock=clock),
        rules={one.issuer: tuple(rule.rule() for rule in one.rules) for one in issuers},
        tokens=tokens,
    )
