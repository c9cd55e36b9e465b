"""How an endpoint reads requests: made once, when a configuration is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gatekeeper.forwardauth.request.head import TOLD, Names
from gatekeeper.forwardauth.request.trust import TrustedPeers

if TYPE_CHECKING:
    from gatekeeper.forwardauth import config

_ALWAYS_GUARDED: Final = frozenset({b"authorization", b"cookie", b"host"})
_ALWAYS_SINGLE: Final = frozenset({b"authorization", b"host"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How an endpoint reads requests."""

    trusted: TrustedPeers
    development_mode: bool = False
    keep_encoded_slashes: bool = False
    guarded: frozenset[bytes] = _ALWAYS_GUARDED
    """Names whose twins are refused, besides those by which proxies speak of a request."""
    single: frozenset[bytes] = _ALWAYS_SINGLE | TOLD
    """Names that may stand only once."""
    names: Names = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", Names(self.guarded))


def reading_of(endpoint: config.Endpoint) -> Reading:
    """Compile what an endpoint says about whom it believes and what it guards."""
    policy = endpoint.forward_proxy_policy
    credentials = frozenset(name.encode() for name in endpoint.authentication.allow.header)
    identity = frozenset(name.encode() for name in endpoint.response_policy.pass_.headers)
    return Reading(
        trusted=TrustedPeers(policy.trusted_proxy_ips),
        development_mode=policy.development_mode,
        keep_encoded_slashes=endpoint.forward_request_policy.encoded_slashes == "keep",
        guarded=_ALWAYS_GUARDED | credentials | identity,
        single=_ALWAYS_SINGLE | TOLD | credentials,
    )
