"""Agent 7, backend interaction: the request a rule makes, and how its answer is seen.

Each outbound header has one owner: what a rule's `forwardAs` writes wins over the forwarded
X-Forwarded-*, which win over the rule's own headers. Sources of credentials are stripped before:
null never copies one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, quote_plus

from gatekeeper.forwardauth.agents.compiling import Compiler, reads_of
from gatekeeper.forwardauth.agents.matching import Forwarded, Sources, basic
from gatekeeper.forwardauth.errors import EvaluationError
from gatekeeper.forwardauth.model import BackendPage, BackendRequest, BackendResponse, Scope
from gatekeeper.forwardauth.request import views

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatekeeper.forwardauth.agents.evaluation import Evaluation
    from gatekeeper.forwardauth.config.rule import BackendApi, Introspection
    from gatekeeper.forwardauth.model import OriginalRequest, Read
    from gatekeeper.forwardauth.ports import Expression

SERVER_ERROR: Final = 500
_URI: Final = "x-forwarded-uri"
_FORM: Final = "application/x-www-form-urlencoded"
BEFORE: Final = {
    "backend.requested": False,
    "backend.status": 0,
    "backend.headers": {},
    "backend.body": None,
    "backend.bodyText": "",
    "backend.accepted": True,
    "backend.error": "",
    "backend.pages": [],
}
"""What a rule without a backend sees, or one that has not asked yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A rule's call, compiled."""

    url: Expression
    method: str
    headers: tuple[tuple[str, Expression | None], ...]
    query: tuple[tuple[str, Expression | None], ...]
    body: Expression | None
    introspection: Introspecting | None
    proxy_headers: bool
    accepted: frozenset[int]
    max_pages: int
    timeout: float
    retries: int
    reads: frozenset[Read]


@dataclass(frozen=True, slots=True, kw_only=True)
class Introspecting:
    """What RFC 7662 section 2.1 asks for."""

    token: Expression
    hint: str | None
    client: tuple[Expression, Expression] | None


def compile_backend(config: BackendApi, compiler: Compiler, *, timeout: float) -> Backend:
    headers = compiler.at("headers").copied(config.headers)
    query = compiler.at("query").copied(config.query)
    url = compiler.at("url").url(config.url)
    body = compiler.body(config.body, config.body_file)
    asked = None
    if config.introspection is not None:
        asked = _introspection(config.introspection, compiler.at("introspection"))
    copies: set[Read] = {("request.headers", name) for name, value in headers if value is None}
    copies |= {("request.query", name) for name, value in query if value is None}
    if config.forward_proxy_headers:
        copies.add(("forward.headers",))
    secrets = None if asked is None else (asked.token, asked.client)
    return Backend(
        url=url,
        method="POST" if asked is not None else config.method,
        headers=headers,
        query=query,
        body=body,
        introspection=asked,
        proxy_headers=config.forward_proxy_headers,
        accepted=frozenset(config.accepted_statuses),
        max_pages=config.pagination.max_pages if config.pagination is not None else 1,
        timeout=timeout if config.timeout is None else config.timeout,
        retries=config.retries,
        reads=reads_of(url, headers, query, body, secrets).union(copies),
    )


def _introspection(config: Introspection, compiler: Compiler) -> Introspecting:
    client = None
    if config.client_id is not None:
        client = (
            compiler.at("clientId").template(config.client_id),
            compiler.at("clientSecret").template(config.client_secret or ""),
        )
    return Introspecting(
        token=compiler.at("token").template(config.token),
        hint=config.token_type_hint,
        client=client,
    )


def render(
    plan: Backend, evaluation: Evaluation, forwarded: Forwarded, sources: Sources
) -> BackendRequest:
    """Make the request. Raises `EvaluationError` when a part of it has no value."""
    scope, request = evaluation.scope, evaluation.request
    headers = dict(_headers(plan, request, scope, sources))
    body = None
    if plan.proxy_headers:
        headers |= _told(evaluation.forwarded, sources)
    headers |= dict(forwarded.headers)
    if plan.introspection is not None:
        headers |= {"content-type": _FORM, "accept": "application/json"}
        headers |= _client(plan.introspection, scope)
        body = _form(plan.introspection, scope)
    elif plan.body is not None:
        body = plan.body(scope).encode()
    parameters = dict(_query(plan, request, scope, sources)) | dict(forwarded.query)
    return BackendRequest(
        method=plan.method,
        url=_with_query(plan.url(scope), parameters),
        headers=tuple(headers.items()),
        body=body,
        accepted=plan.accepted,
        max_pages=plan.max_pages,
        timeout=plan.timeout,
        retries=plan.retries,
    )


def _headers(
    plan: Backend, request: OriginalRequest, scope: Scope, sources: Sources
) -> Iterator[tuple[str, str]]:
    for name, expression in plan.headers:
        value = _copy(name, request, sources) if expression is None else expression(scope).strip()
        if value:
            yield name, value


def _copy(name: str, request: OriginalRequest, sources: Sources) -> str:
    if name in sources.headers:
        return ""
    if name == "cookie" and sources.cookies:
        kept = {k: v for k, v in views.cookies(request).items() if k not in sources.cookies}
        return "; ".join(f"{key}={value}" for key, value in kept.items())
    return request.fields.get(name.encode("ascii"), b"").decode("latin-1")


def _told(forwarded: Mapping[str, str], sources: Sources) -> dict[str, str]:
    """Tell of the original request, without parameters that are credentials."""
    told = dict(forwarded)
    path, mark, query = told.get(_URI, "").partition("?")
    if sources.query and mark:
        kept = [pair for pair in query.split("&") if views.name_of(pair) not in sources.query]
        told[_URI] = f"{path}?{'&'.join(kept)}" if kept else path
    return told


def _query(
    plan: Backend, request: OriginalRequest, scope: Scope, sources: Sources
) -> Iterator[tuple[str, str]]:
    for name, expression in plan.query:
        if expression is not None:
            value = expression(scope).strip()
        else:
            value = "" if name in sources.query else views.query(request).get(name, "")
        if value:
            yield name, value


def _with_query(url: str, parameters: dict[str, str]) -> str:
    if not parameters:
        return url
    text = "&".join(f"{quote(name, safe='')}={quote(v, safe='')}" for name, v in parameters.items())
    return f"{url}{'&' if '?' in url else '?'}{text}"


def _form(plan: Introspecting, scope: Scope) -> bytes:
    token = plan.token(scope)
    if not token:
        msg = "introspection: there is no token to ask about"
        raise EvaluationError(msg)
    hint = f"&token_type_hint={quote_plus(plan.hint)}" if plan.hint else ""
    return f"token={quote_plus(token)}{hint}".encode()


def _client(plan: Introspecting, scope: Scope) -> dict[str, str]:
    """Authenticate the client (RFC 6749 section 2.3.1: both parts are form-encoded first)."""
    if plan.client is None:
        return {}
    user, password = (quote_plus(part(scope)) for part in plan.client)
    return {"authorization": basic(user, password)}


def show(response: BackendResponse, plan: Backend, scope: Scope) -> bool:
    """Let expressions see an answer; tell whether it is one the rule accepts."""
    accepted = response.error is None and response.status in plan.accepted
    if plan.introspection is not None:
        accepted = accepted and _is_active(response)
    scope.values.update(
        {
            "backend.requested": True,
            "backend.status": response.status,
            "backend.headers": response.headers,
            "backend.body": response.body,
            "backend.bodyText": response.body_text,
            "backend.accepted": accepted,
            "backend.error": response.error or "",
            "backend.pages": [_page(page) for page in response.pages],
        }
    )
    scope.prepared = None
    return accepted


def _is_active(response: BackendResponse) -> bool:
    """Tell whether an introspection says that the token is good.

    Of one that is not it answers with status 200 too (RFC 7662 section 2.2).
    """
    return isinstance(response.body, Mapping) and response.body.get("active") is True


def active_until(response: BackendResponse) -> float:
    """Return when the token an introspection tells of ends (RFC 7662 section 4), in Unix time."""
    ends = response.body.get("exp") if isinstance(response.body, Mapping) else None
    return ends if isinstance(ends, int | float) else inf


def _page(page: BackendPage) -> dict[str, Any]:
    return {
        "url": page.url,
        "status": page.status,
        "headers": page.headers,
        "body": page.body,
        "bodyText": page.body_text,
    }
