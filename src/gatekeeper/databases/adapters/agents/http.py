"""The agent's two routes: signed jobs in, and whether it lives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response  # read at run time

from gatekeeper.databases.adapters.agents.transports import ENVELOPE_MEDIA_TYPE
from gatekeeper.kernel.errors import ErrorCode, Refusal
from gatekeeper.platform.http.problems import RefusedError
from gatekeeper.wire.jobs import MAX_JOB_BYTES

if TYPE_CHECKING:
    from gatekeeper.databases.adapters.agents.executor import AgentExecutor


def agent_routes(executor: AgentExecutor) -> APIRouter:
    """Make the routes of an agent that is pushed its jobs."""
    router = APIRouter()

    @router.post("/jobs")
    async def run_job(request: Request) -> Response:
        body = await request.body()
        if len(body) > MAX_JOB_BYTES or not body.isascii():
            raise RefusedError(Refusal(code=ErrorCode.AGENT_REJECTED, detail="this is no job"))
        answer = await executor.handle(body.decode("ascii"))
        if isinstance(answer, Refusal):
            raise RefusedError(answer)
        return Response(answer, media_type=ENVELOPE_MEDIA_TYPE)

    @router.get("/healthz")
    async def alive() -> dict[str, str]:
        return {"status": "ok"}

    return router
