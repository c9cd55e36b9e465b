"""The development issuer over HTTP: its endpoints, and the pages that a person sees."""

from __future__ import annotations

import asyncio
import html
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Form, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from gatekeeper.platform.oidc.development import (
    CLIENT_ID,
    DEVICE_GRANT,
    PREFIX,
    AuthorizationRequest,
    TokenRequest,
)

_OWN_NAMES: Final = frozenset({"127.0.0.1", "::1", "localhost"})

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatekeeper.platform.crypto.keys import TokenKey
    from gatekeeper.platform.oidc.development import DevelopmentIssuer, DevelopmentUser


def development_routes(  # noqa: C901  # one small route after the other
    issuer: DevelopmentIssuer, key: TokenKey
) -> APIRouter:
    """Make the issuer's routes; none of them is part of the product's API."""
    router = APIRouter(
        prefix=PREFIX, include_in_schema=False, dependencies=[Depends(_from_here_alone)]
    )

    @router.get("/.well-known/openid-configuration")
    async def discovery() -> dict[str, Any]:
        return {
            "issuer": issuer.issuer,
            "jwks_uri": f"{issuer.issuer}/jwks.json",
            "token_endpoint": f"{issuer.issuer}/token",
            "authorization_endpoint": f"{issuer.issuer}/authorize",
            "device_authorization_endpoint": f"{issuer.issuer}/device_authorization",
            "grant_types_supported": ["authorization_code", DEVICE_GRANT, "refresh_token"],
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    @router.get("/jwks.json")
    async def keys() -> Any:  # noqa: ANN401  # JSON
        return key.jwks()

    @router.post("/device_authorization")
    async def device_authorization(client_id: Annotated[str, Form()]) -> JSONResponse:
        if client_id != CLIENT_ID:
            return _oauth({"error": "invalid_client"})
        return _oauth(issuer.begin())

    @router.post("/token")
    async def token(asked: Annotated[TokenRequest, Form()]) -> JSONResponse:
        await asyncio.sleep(0)
        match asked.grant_type:
            case "authorization_code":
                return _oauth(
                    issuer.redeem_code(asked.code, asked.redirect_uri, asked.code_verifier)
                )
            case "refresh_token":
                return _oauth(issuer.refresh(asked.refresh_token))
            case grant if grant == DEVICE_GRANT:
                return _oauth(issuer.redeem(asked.device_code))
        return _oauth({"error": "unsupported_grant_type"})

    @router.get("/authorize")
    async def ask(asked: Annotated[AuthorizationRequest, Query()]) -> HTMLResponse:
        if (problem := issuer.problem_with(asked)) is not None:
            return _html(f"<p>{html.escape(problem)}</p>", status=400)
        return _authorize_page(issuer.people(), asked)

    @router.post("/authorize")
    async def answer(
        asked: Annotated[AuthorizationRequest, Query()],
        user: Annotated[str, Form()] = "",
        action: Annotated[str, Form()] = "approve",
    ) -> Response:
        # A client we do not know is never redirected to (RFC 6749 section 4.1.2.1).
        if (problem := issuer.problem_with(asked)) is not None:
            return _html(f"<p>{html.escape(problem)}</p>", status=400)
        back = issuer.authorize(asked, user, approved=action == "approve")
        return RedirectResponse(back, status_code=303, headers={"Cache-Control": "no-store"})

    @router.get("/device")
    async def page(user_code: str = "") -> HTMLResponse:
        return _page(issuer.people(), user_code)

    @router.post("/device")
    async def confirm(
        user_code: Annotated[str, Form()],
        user: Annotated[str, Form()],
        action: Annotated[str, Form()] = "approve",
    ) -> HTMLResponse:
        if issuer.confirm(user_code, user, approved=action == "approve"):
            return _html("<p>Done. You can close this page and go back to the terminal.</p>")
        return _html("<p>This code is not known, or has expired.</p>", status=400)

    return router


def _from_here_alone(request: Request) -> None:
    """Refuse what a page of somebody else sends with the browser of whoever looks at it.

    Such a page can have a name of its own mean this machine (DNS rebinding), and then read
    what is answered; it cannot have the browser name this machine's address, nor keep it from
    saying that another site asks (https://www.w3.org/TR/fetch-metadata/).
    """
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname
    asked_by = request.headers.get("sec-fetch-site", "none")
    changes = request.method != "GET"
    if host not in _OWN_NAMES or (changes and asked_by not in {"none", "same-origin"}):
        raise HTTPException(404, "the development issuer answers this machine's own pages alone")


def _oauth(answer: dict[str, Any]) -> JSONResponse:
    return JSONResponse(
        answer,
        status_code=400 if "error" in answer else 200,
        headers={"Cache-Control": "no-store"},
    )


def _page(people: Sequence[DevelopmentUser], user_code: str) -> HTMLResponse:
    code = html.escape(user_code, quote=True)
    return _html(
        '<h1>Gatekeeper development login</h1><form method="post">'
        f'<p><label>Code <input name="user_code" value="{code}"></label></p>'
        f"{_buttons(people)}</form>"
    )


def _authorize_page(people: Sequence[DevelopmentUser], asked: AuthorizationRequest) -> HTMLResponse:
    back = urlsplit(asked.redirect_uri)
    return _html(
        # The form goes to this address, which holds the request.
        f'<h1>Gatekeeper development login</h1><form method="post">{_buttons(people)}'
        '<p><button name="action" value="deny">Not now</button></p></form>',
        # A browser holds form-action against the redirect that follows as well.
        form_action=f"'self' {back.scheme}://{back.netloc}",
    )


def _buttons(people: Sequence[DevelopmentUser]) -> str:
    return "".join(
        f'<button name="user" value="{html.escape(p.name, quote=True)}">I am'
        f" {html.escape(p.name)} ({html.escape(', '.join(p.groups))})</button> "
        for p in people
    )


def _html(body: str, status: int = 200, form_action: str = "'self'") -> HTMLResponse:
    return HTMLResponse(
        '<!doctype html><html lang="en"><meta charset="utf-8"><link rel="icon" href="data:,">'
        f"<title>Gatekeeper</title>{body}",
        status_code=status,
        headers={
            "Content-Security-Policy": "default-src 'none'; img-src data:; "
            f"form-action {form_action}; frame-ancestors 'none'",
            "Referrer-Policy": "no-referrer",
        },
    )
