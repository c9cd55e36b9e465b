"""A CI service's OIDC issuer on a real socket, in the shape of GitLab's and GitHub's."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from joserfc import jwt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatekeeper.platform.crypto.keys import TokenKey

PERMIT = "the-runner-may-ask"
PROJECT = {"project_path": "acme/shop", "ref_protected": "true", "ref": "main"}
REPOSITORY = {
    "repository": "acme/shop",
    "ref": "refs/heads/main",
    "event_name": "workflow_dispatch",
}


class CiIssuer:
    """Signs for every job, each with a subject of its own; counts how often it was asked for its keys."""

    def __init__(self, key: TokenKey) -> None:
        self.key = key
        self.url = ""
        self.keys: Any = key.jwks()
        self.asked_for_keys = 0
        self._jobs = count(1)

    def token(self, audience: str, **claims: Any) -> str:
        """Sign a job's token; a claim that is None is left out."""
        now = int(time.time())  # noqa: TID251  # a token's own times
        made = {
            "iss": self.url, "aud": audience, "sub": f"job-{next(self._jobs)}", "iat": now, "exp": now + 600,
            "jti": "token-7",
        } | claims  # fmt: skip
        return jwt.encode(
            {"alg": "RS256", "kid": self.key.key_id},
            {name: value for name, value in made.items() if value is not None},
            self.key.private,
        )

    @contextmanager
    def serving(self) -> Iterator[CiIssuer]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.url = f"http://127.0.0.1:{server.server_port}"
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        url = urlsplit(request.path)
        body: Any = None
        match url.path:
            case "/.well-known/openid-configuration":
                body = {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
            case "/jwks":
                self.asked_for_keys += 1
                body = self.keys
            case "/github" if request.headers["Authorization"] == f"Bearer {PERMIT}":
                (audience,) = parse_qs(url.query)["audience"]
                body = {"value": self.token(audience, **REPOSITORY)}
        data = json.dumps(body).encode()
        request.send_response(404 if body is None else 200)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)
