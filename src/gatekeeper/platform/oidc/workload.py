"""Workload identity: a CI job's token exchanged for one of ours (RFC 8693), by rules over claims.

What we issue is a token of an issuer like any other, our own: signed, with an audience
and an end, and verified by the same verifier as all the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Final

from joserfc import jwt
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, model_validator

from gatekeeper.kernel.errors import ErrorCode, Refusal
from gatekeeper.kernel.identity import PrincipalKind
from gatekeeper.kernel.secret import Secret
from gatekeeper.kernel.workload import NAMING_CLAIMS, WorkloadRule, workload_of
from gatekeeper.platform.oidc.keysource import StaticKeys
from gatekeeper.platform.oidc.verifier import IssuerSettings, is_plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatekeeper.kernel.clock import Clock
    from gatekeeper.kernel.random import Random
    from gatekeeper.platform.crypto.keys import TokenKey
    from gatekeeper.platform.oidc.keysource import KeySource
    from gatekeeper.platform.oidc.verifier import TokenVerifier

ACCESS_TOKEN_SECONDS: Final = 900
MAX_RULES: Final = 1_000
MAX_TOKEN_ID_CHARS: Final = 255
_TOKEN_ID_BYTES: Final = 16

ClaimCondition = Annotated[StrictStr, Field(min_length=1, max_length=512)] | StrictBool | StrictInt


class WorkloadRuleSettings(BaseModel):
    """Whom a job's token makes it. `*` in a text stands for any characters but `/` and `:`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,99}$")]
    groups: frozenset[str] = frozenset()
    claims: Annotated[dict[str, ClaimCondition], Field(min_length=1, max_length=32)]

    @model_validator(mode="after")
    def _says_whose_jobs(self) -> WorkloadRuleSettings:
        if not self.rule().narrows():
            msg = (
                f"the rule {self.name!r} does not say whose jobs it is for: give one of"
                f" {', '.join(sorted(NAMING_CLAIMS))}, exact or whole up to its first '/'"
            )
            raise ValueError(msg)
        return self

    def rule(self) -> WorkloadRule:
        return WorkloadRule(name=self.name, groups=self.groups, claims=self.claims)


class WorkloadIssuerSettings(IssuerSettings):
    """An issuer whose tokens are exchanged, and never taken as they are."""

    rules: Annotated[tuple[WorkloadRuleSettings, ...], Field(min_length=1, max_length=MAX_RULES)]


class AccessTokens:
    """Our own issuer: signs tokens, and says how they are verified."""

    def __init__(self, *, public_url: str, key: TokenKey, clock: Clock, random: Random) -> None:
        """Raises `ValueError` for an address that anybody could answer in the place of."""
        self.settings = IssuerSettings(
            issuer=public_url,
            audience=public_url,
            algorithms=("RS256",),
            kind=PrincipalKind.WORKLOAD,
        )
        self._key = key
        self._clock = clock
        self._random = random

    def trusted(self) -> tuple[IssuerSettings, KeySource]:
        return self.settings, StaticKeys(self._key.public())

    def jwks(self) -> Any:  # noqa: ANN401  # JSON
        return self._key.jwks()

    def issue(self, rule: WorkloadRule) -> tuple[Secret, str]:
        """Return a token (RFC 9068) for a workload, and the token's id."""
        now = int(self._clock.now().timestamp())
        token_id = self._random.bytes(_TOKEN_ID_BYTES).hex()
        claims = {
            "iss": self.settings.issuer,
            "sub": rule.name,
            "aud": self.settings.audience,
            "iat": now,
            "exp": now + ACCESS_TOKEN_SECONDS,
            "jti": token_id,
            "groups": sorted(rule.groups),
        }
        header = {"alg": "RS256", "kid": self._key.key_id, "typ": "at+jwt"}
        return Secret(jwt.encode(header, claims, self._key.private)), token_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whom a verified token of a workload issuer is about."""

    issuer: str
    subject: str
    token_id: str | None

    @property
    def key(self) -> str:
        return f"{self.issuer}#{self.subject}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """A workload has got a token."""

    rule: WorkloadRule
    token: Secret
    token_id: str
    subject: Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class NoWorkload:
    """The token is genuine, and no rule is for it."""

    subject: Subject
    refusal: Refusal


class TokenExchange:
    """Verifies a job's token, finds its rule, and issues ours."""

    def __init__(
        self,
        *,
        verifier: TokenVerifier,
        rules: Mapping[str, Sequence[WorkloadRule]],
        tokens: AccessTokens,
    ) -> None:
        """`verifier` knows the issuers of workloads alone; `rules` are by issuer."""
        self._verifier = verifier
        self._rules = rules
        self._tokens = tokens

    async def exchange(self, unverified_token: str) -> Exchanged | NoWorkload | Refusal:
        """Return the new token, or why there is none; a `Refusal` when it is not believed.

        A token can be exchanged until it ends, not once: a GitLab job has one for all its
        life, and a lost answer must not cost a job its access.
        """
        claims = await self._verifier.claims(unverified_token)
        if isinstance(claims, Refusal):
            return replace(claims, hint="ask the CI service for a token with our audience")
        subject = _subject(claims)
        rule = workload_of(self._rules[subject.issuer], claims)
        if rule is None:
            return NoWorkload(subject=subject, refusal=_no_rule())
        token, token_id = self._tokens.issue(rule)
        return Exchanged(rule=rule, token=token, token_id=token_id, subject=subject)


def _subject(claims: Mapping[str, Any]) -> Subject:
    token_id = claims.get("jti")
    return Subject(
        issuer=claims["iss"],
        subject=claims["sub"],
        token_id=token_id[:MAX_TOKEN_ID_CHARS] if is_plain(token_id) else None,
    )


def _no_rule() -> Refusal:
    return Refusal(
        code=ErrorCode.POLICY_DENIED,
        detail="the token is genuine, but no rule admits its job",
        hint="an operator adds a rule to workload_issuers that fits the token's claims",
    )
