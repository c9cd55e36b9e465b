"""An issuer whose client is a confidential one: the development issuer, behind a demand for a secret.

Its flow, codes and tokens are the real ones. Before them stands what Keycloak, Okta or Google do:
no token without the client's secret, by HTTP Basic or in the form (RFC 6749 section 2.3.1).
"""

from __future__ import annotations

import base64
import json
import socket
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote_plus

from fastapi import FastAPI, Request, Response
from joserfc.jwk import RSAKey

from factories.installation import address, serving
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.crypto.keys import TokenKey
from gatekeeper.platform.oidc.development import (
    AUDIENCE,
    CLIENT_ID,
    PREFIX,
    DevelopmentIssuer,
    DevelopmentUser,
)
from gatekeeper.platform.oidc.development_routes import development_routes
from gatekeeper.platform.random import SystemRandom

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

BASIC, POST, NONE = "client_secret_basic", "client_secret_post", "none"
DANA = DevelopmentUser(name="dana", email="d@x", groups=("eng",))


@dataclass
class ConfidentialIssuer:
    """`takes` are the ways it takes the secret in; `says` is what its discovery tells of them."""

    secret: str
    takes: tuple[str, ...] = (BASIC,)
    says: Any = None
    url: str = ""
    came: list[str | None] = field(default_factory=list)
    """By which way each asked for a token; None: by one that does not fit."""

    @contextmanager
    def serving(self) -> Iterator[ConfidentialIssuer]:
        listener = socket.create_server(("127.0.0.1", 0))
        key = TokenKey(RSAKey.generate_key(2048))
        real = DevelopmentIssuer(
            public_url=address(listener), users=(DANA,), key=key, clock=SystemClock(),
            random=SystemRandom(),
        )  # fmt: skip
        self.url = real.issuer
        app = FastAPI()
        app.middleware("http")(self._demand)
        app.include_router(development_routes(real, key))
        with serving(app, listener):
            yield self

    def settings(self, **more: Any) -> dict[str, Any]:
        return {
            "issuer": self.url, "audience": AUDIENCE, "algorithms": ["RS256"],
            "client_id": CLIENT_ID, **more,
        }  # fmt: skip

    async def _demand(
        self, request: Request, go_on: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        match request.url.path.removeprefix(PREFIX):
            case "/token":
                self.came.append(self._way(request, await request.body()))
                if self.came[-1] not in self.takes:
                    return Response('{"error": "invalid_client"}', status_code=401)
            case "/.well-known/openid-configuration" if self.says is not None:
                answer = await go_on(request)
                document = json.loads(b"".join([part async for part in answer.body_iterator]))  # type: ignore[attr-defined]
                document["token_endpoint_auth_methods_supported"] = self.says
                return Response(json.dumps(document), media_type="application/json")
        return await go_on(request)

    def _way(self, request: Request, body: bytes) -> str | None:
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        named = (form.get("client_id"), form.get("client_secret"))
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme == "Basic":
            client, _, secret = base64.b64decode(given).decode().partition(":")
            fits = (unquote_plus(client), unquote_plus(secret)) == (CLIENT_ID, self.secret)
            # One way at a time (RFC 6749 section 2.3).
            return BASIC if fits and named[1] is None else None
        match named:
            case (str(client), str(secret)) if (client, secret) == (CLIENT_ID, self.secret):
                return POST
            case (str(client), None) if client == CLIENT_ID:
                return NONE
        return None
