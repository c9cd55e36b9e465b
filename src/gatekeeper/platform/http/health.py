"""`/healthz` says that the process lives; `/readyz` asks its neighbours; `/metrics` counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from gatekeeper.kernel.errors import GatekeeperError
from gatekeeper.platform.http.problems import problems
from gatekeeper.platform.telemetry.metrics import CONTENT_TYPE
from gatekeeper.wire.sessions import Health

if TYPE_CHECKING:
    from gatekeeper.platform.telemetry.metrics import Metrics

ASK_SECONDS: Final = 3.0

Ask = Callable[[], Awaitable[None]]


def health_routes(
    *, version: str, neighbours: Mapping[str, Ask], metrics: Metrics, refresh: Ask
) -> APIRouter:
    """Make the routes that watchers ask; `refresh` brings gauges up to date before each look."""
    router = APIRouter()

    @router.get("/healthz")
    async def health() -> Health:
        """Say that the process lives."""
        return Health(status="ok", version=version)

    @router.get("/readyz", responses={503: {"model": Health}})
    async def readiness(response: Response) -> Health:
        """Ask every neighbour; 503 when one does not answer."""
        checks = {name: await _answer(ask) for name, ask in neighbours.items()}
        if all(said == "ok" for said in checks.values()):
            return Health(status="ok", version=version, checks=checks)
        response.status_code = 503
        return Health(status="down", version=version, checks=checks)

    @router.get(
        "/metrics", name="metrics", response_class=PlainTextResponse, responses=problems(503)
    )
    async def prometheus() -> Response:
        """Give the metrics, in the text format of Prometheus."""
        await refresh()
        return Response(metrics.exposition(), media_type=CONTENT_TYPE)

    return router


async def _answer(ask: Ask) -> str:
    try:
        async with asyncio.timeout(ASK_SECONDS):
            await ask()
    except GatekeeperError as error:
        return error.code.value
    except TimeoutError:
        return "no answer in time"
    return "ok"
