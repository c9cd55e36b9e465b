"""The application factory: correlation ids, size limits, and problems for everything that fails."""

from __future__ import annotations

import logging
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from gatekeeper.kernel import ids
from gatekeeper.kernel.errors import ErrorCode, GatekeeperError, Refusal
from gatekeeper.platform.http import context
from gatekeeper.platform.http.openapi import description_of, operation_id
from gatekeeper.platform.http.problems import (
    EVERYWHERE,
    RefusedError,
    error_response,
    problems,
    refusal_response,
)
from gatekeeper.platform.telemetry import traces

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from typing import Any

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from gatekeeper.kernel.random import Random

    Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


log = structlog.get_logger("gatekeeper.http")

MAX_BODY_BYTES: Final = 65_536

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")

WATCHED: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""What watchers ask every few seconds is logged at DEBUG."""

_BY_STATUS: Final = {
    404: ErrorCode.NOT_FOUND,
    405: ErrorCode.METHOD_NOT_ALLOWED,
    413: ErrorCode.PAYLOAD_TOO_LARGE,
}


def make_app(
    *,
    title: str,
    version: str,
    random: Random,
    lifespan: Lifespan,
    body_limits: Mapping[str, int] = MappingProxyType({}),
) -> FastAPI:
    """Make an application that answers every failure with a problem document.

    `body_limits` has the paths that take more bytes than others.
    """
    app = FastAPI(
        title=title,
        version=version,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=operation_id,
        responses=problems(*EVERYWHERE),
    )
    app.openapi = description_of(app)  # type: ignore[method-assign]  # as FastAPI documents
    app.add_exception_handler(RefusedError, _on_refused)
    app.add_exception_handler(GatekeeperError, _on_gatekeeper_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_middleware(BodyLimit, most=MAX_BODY_BYTES, of_path=body_limits)
    app.add_middleware(Correlation, random=random)
    return app


class Correlation:
    """Gives each request a correlation id, and a problem to each one that crashed.

    A caller's own id is kept when it has our shape, so one id runs from a command
    to the database; anything else is replaced.
    """

    def __init__(self, app: ASGIApp, random: Random) -> None:
        self._app = app
        self._random = random

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        correlation = self._correlation_id(scope)
        context.correlation_id.set(correlation)
        status, began = 0, time.monotonic()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (context.HEADER.lower().encode(), correlation.encode()),
                ]
            await send(message)

        with (
            structlog.contextvars.bound_contextvars(correlationId=correlation),
            traces.span(
                scope["method"],
                kind="server",
                parents=(_header(scope, traces.HEADER),),
                correlation_id=correlation,
            ),
        ):
            try:
                await self._app(scope, receive, send_with_id)
            except Exception as error:
                log.exception("request failed", path=scope["path"], error=type(error).__name__)
                if status:
                    raise
                response = refusal_response(
                    Refusal(
                        code=ErrorCode.INTERNAL_ERROR,
                        detail="something failed on our side; it is logged under this id",
                    )
                )
                await response(scope, receive, send_with_id)
            finally:
                _log_request(scope, status, time.monotonic() - began)

    def _correlation_id(self, scope: Scope) -> str:
        text = _header(scope, context.HEADER)
        if ids.is_correlation_id(text):
            return text
        return ids.correlation_id(self._random.bytes(ids.RANDOM_BYTES))


def _header(scope: Scope, name: str) -> str:
    """Return a header that was sent once, else nothing."""
    wanted = name.lower().encode()
    given = [value for name, value in scope["headers"] if name == wanted]
    return given[0].decode("latin-1") if len(given) == 1 else ""


def _log_request(scope: Scope, status: int, seconds: float) -> None:
    """Log a request by its route, never by its path or query: these are the caller's words."""
    route = getattr(scope.get("route"), "path", "no route")
    traces.rename(f"{scope['method']} {route}")
    log.log(
        logging.DEBUG if route in WATCHED else logging.INFO,
        "request",
        method=scope["method"],
        route=route,
        status=status,
        ms=round(seconds * 1000, 1),
    )


class BodyLimit:
    """Refuses a body over the limit, whether its length was announced or not."""

    def __init__(self, app: ASGIApp, most: int, of_path: Mapping[str, int]) -> None:
        self._app = app
        self._most = most
        self._of_path = of_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = self._of_path.get(scope["path"], self._most)
        body = await _read(receive, most)
        if body is None:
            refusal = Refusal(
                code=ErrorCode.PAYLOAD_TOO_LARGE,
                detail=f"a request body may have at most {most} bytes",
            )
            await refusal_response(refusal)(scope, receive, send)
            return
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)


async def _read(receive: Receive, most: int) -> bytes | None:
    """Return the whole body, or None when it is over the limit."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > most:
            return None
    return bytes(body)


async def _on_refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)  # noqa: S101  # registered for this class alone
    return refusal_response(error.refusal)


async def _on_gatekeeper_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, GatekeeperError)  # noqa: S101  # registered for this class alone
    log.warning("request failed", code=error.code, detail=error.detail)
    return error_response(error)


async def _on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for this class alone
    reasons = tuple(_reason(found) for found in error.errors())
    return refusal_response(
        Refusal(code=ErrorCode.VALIDATION_ERROR, detail="the request is not valid", reasons=reasons)
    )


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for this class alone
    if error.status_code == 400:  # noqa: PLR2004  # a body that is no JSON
        return refusal_response(
            Refusal(code=ErrorCode.VALIDATION_ERROR, detail="the body could not be read as JSON")
        )
    code = _BY_STATUS.get(error.status_code, ErrorCode.INTERNAL_ERROR)
    response = refusal_response(Refusal(code=code, detail=str(error.detail)))
    if code is ErrorCode.METHOD_NOT_ALLOWED:
        response.headers["Allow"] = ", ".join(_allowed(request))
    return response


def _allowed(request: Request) -> list[str]:
    """Name every method of the address (RFC 9110, 15.5.6); a route knows only its own."""
    return [
        method
        for method in METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]


def _reason(found: dict[str, Any]) -> str:
    """Name the field and what was expected; never repeat the value that was sent."""
    where = _location(found["loc"])
    return f"{where}: {found['msg']}"


def _location(parts: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in parts)
