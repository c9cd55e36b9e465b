"""`POST /auth/token` (RFC 8693) and the keys of what it issues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol

from fastapi import APIRouter, Form
from fastapi.responses import JSONResponse

from gatekeeper.kernel.audit import Actor, AuditKind, Json
from gatekeeper.kernel.errors import ErrorCode, Refusal
from gatekeeper.kernel.identity import PrincipalKind
from gatekeeper.platform.http import context
from gatekeeper.platform.http.problems import RefusedError, problem_of, problems
from gatekeeper.platform.http.rates import CallRates
from gatekeeper.platform.oidc.workload import ACCESS_TOKEN_SECONDS, Exchanged, NoWorkload
from gatekeeper.wire import identity as wire
from gatekeeper.wire.problems import PROBLEM_MEDIA_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatekeeper.platform.oidc.workload import AccessTokens, Subject, TokenExchange

REFUSED_EVENTS_PER_MINUTE: Final = 30
"""Anybody can send a token that is not believed, and anybody with a project at a public CI
service one that no rule admits. This many of each leave an event of their own; the next event
says how many were only counted, so a flood costs the store next to nothing."""


class Record(Protocol):
    """Writes an event of identity into the evidence."""

    async def __call__(
        self, kind: AuditKind, *, actor: Actor, correlation_id: str, **data: Json
    ) -> None: ...


class TokenEndpoint:
    """Answers exchanges; every one, granted or refused, is told to the evidence."""

    def __init__(
        self,
        *,
        exchange: TokenExchange,
        tokens: AccessTokens,
        rates: CallRates,
        per_minute: Callable[[], int],
        record: Record,
    ) -> None:
        self._exchange = exchange
        self._tokens = tokens
        self._rates = rates
        self._per_minute = per_minute
        self._record = record
        self._refusals = CallRates()
        self._only_counted = 0

    def jwks(self) -> Any:  # noqa: ANN401  # JSON
        return self._tokens.jwks()

    async def answer(self, wanted: wire.TokenRequest) -> JSONResponse:
        if (fault := self._fault(wanted)) is not None:
            return _no_token(*fault)
        found = await self._exchange.exchange(wanted.subject_token)
        if isinstance(found, Refusal):
            # Its words prove nothing, so none of them are kept.
            await self._tell_refused("", Actor(kind="unknown", key=""), because=found.detail)
            return _no_token("invalid_request", found)
        key = f"exchange {found.subject.key}"
        if (refusal := self._rates.refuse(key, self._per_minute())) is not None:
            raise RefusedError(refusal)
        if isinstance(found, NoWorkload):
            await self._tell_refused(
                found.subject.issuer,
                _workload(found.subject.key),
                because=found.refusal.detail,
                **_about(found.subject),
            )
            return _no_token("invalid_target", found.refusal)
        await self._record(
            AuditKind.TOKEN_EXCHANGED,
            actor=_workload(f"{self._tokens.settings.issuer}#{found.rule.name}"),
            correlation_id=context.correlation_id.get(),
            **_about(found.subject),
            workload=found.rule.name,
            groups=list[Json](sorted(found.rule.groups)),
            issuedTokenId=found.token_id,
            ttlSeconds=ACCESS_TOKEN_SECONDS,
        )
        return _token(found)

    def _fault(self, wanted: wire.TokenRequest) -> tuple[str, Refusal] | None:
        """Say what is wrong with the parameters, in the words of RFC 6749 and RFC 8693."""
        if wanted.grant_type != wire.TOKEN_EXCHANGE:
            return "unsupported_grant_type", _invalid(f"grant_type: expected {wire.TOKEN_EXCHANGE}")
        if wanted.subject_token_type not in (wire.JWT_TYPE, wire.ID_TOKEN_TYPE):
            return "invalid_request", _invalid(
                f"subject_token_type: expected {wire.JWT_TYPE} or {wire.ID_TOKEN_TYPE}"
            )
        if not wanted.subject_token:
            return "invalid_request", _invalid("subject_token: expected the job's token")
        if wanted.requested_token_type not in ("", wire.ACCESS_TOKEN_TYPE, wire.JWT_TYPE):
            return "invalid_request", _invalid(
                f"requested_token_type: expected {wire.ACCESS_TOKEN_TYPE}"
            )
        if wanted.actor_token:
            return "invalid_request", _invalid("actor_token: nobody acts for a workload here")
        if wanted.audience not in ("", self._tokens.settings.audience):
            return "invalid_target", _invalid("audience: tokens are issued for this server alone")
        if wanted.scope:
            return "invalid_scope", _invalid("scope: what a token allows is up to the policy")
        return None

    async def _tell_refused(self, source: str, actor: Actor, **data: Json) -> None:
        """Tell of a refusal; of a source that has many, only count the rest."""
        if self._refusals.take(source, REFUSED_EVENTS_PER_MINUTE):
            self._only_counted += 1
            return
        counted, self._only_counted = self._only_counted, 0
        await self._record(
            AuditKind.TOKEN_REFUSED,
            actor=actor,
            correlation_id=context.correlation_id.get(),
            alsoRefused=counted,
            **data,
        )


def exchange_routes(
    endpoint: TokenEndpoint | None, other_keys: Callable[[], Sequence[Any]] = tuple
) -> APIRouter:
    """Make the routes; without an endpoint there are no workloads, and nothing is exchanged.

    `other_keys` gives the public keys of what else we sign.
    """
    router = APIRouter(responses=problems(422, 429, 503))

    @router.post(
        "/auth/token",
        response_model=wire.TokenAnswer,
        responses={
            400: {
                "description": "There is no token for this.",
                "content": {PROBLEM_MEDIA_TYPE: {"schema": wire.TokenProblem.model_json_schema()}},
            }
        },
    )
    async def exchange_token(wanted: Annotated[wire.TokenRequest, Form()]) -> JSONResponse:
        """Exchange a CI job's token for one of ours (RFC 8693)."""
        if endpoint is None:
            return _no_token(
                "unsupported_grant_type", _invalid("grant_type: this server knows no workloads")
            )
        return await endpoint.answer(wanted)

    @router.get("/.well-known/jwks.json")
    async def token_keys() -> wire.JsonWebKeys:
        """Give the keys that our tokens are signed with."""
        own = () if endpoint is None else endpoint.jwks()["keys"]
        return wire.JsonWebKeys(keys=(*own, *other_keys()))

    return router


def _token(found: Exchanged) -> JSONResponse:
    answer = wire.TokenAnswer(access_token=found.token.reveal(), expires_in=ACCESS_TOKEN_SECONDS)
    return JSONResponse(answer.model_dump(mode="json"), headers={"Cache-Control": "no-store"})


def _no_token(error: str, refusal: Refusal) -> JSONResponse:
    """Write a refusal; the status is RFC 6749's, whatever the code."""
    problem = problem_of(refusal).model_dump() | {
        "status": 400,
        "error": error,
        "error_description": refusal.detail,
    }
    return JSONResponse(
        wire.TokenProblem.model_validate(problem).model_dump(
            mode="json", by_alias=True, exclude_none=True
        ),
        status_code=400,
        media_type=PROBLEM_MEDIA_TYPE,
        headers={"Cache-Control": "no-store"},
    )


def _workload(key: str) -> Actor:
    return Actor(kind=PrincipalKind.WORKLOAD.value, key=key)


def _about(subject: Subject) -> dict[str, Json]:
    return {
        "issuer": subject.issuer,
        "subject": subject.subject,
        "tokenId": subject.token_id,
    }


def _invalid(detail: str) -> Refusal:
    return Refusal(code=ErrorCode.VALIDATION_ERROR, detail=detail)
