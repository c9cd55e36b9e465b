"""The routes under signed envelopes: of an agent that listens, and for agents that dial out.

Nobody has a token here: who speaks is known by the signature alone, and the store is not
asked anything before that was checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

from fastapi import APIRouter, Request, Response  # read at run time

from gatekeeper.databases.adapters.agents.mailbox import MOST_POLLS
from gatekeeper.databases.adapters.agents.transports import MAX_ANSWER_BYTES
from gatekeeper.kernel.errors import ErrorCode, Refusal
from gatekeeper.platform.crypto.envelope import read_envelope
from gatekeeper.platform.http import envelopes
from gatekeeper.platform.http.problems import RefusedError, granted
from gatekeeper.wire.jobs import MAX_BATCH_JOBS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from gatekeeper.databases.adapters.agents.executor import AgentExecutor
    from gatekeeper.databases.adapters.agents.mailbox import Mailbox
    from gatekeeper.kernel.clock import Clock
    from gatekeeper.platform.crypto.envelope import Opened, Purpose

POLL_PATH: Final = "/agent/poll"
RESULTS_PATH: Final = "/agent/results"
BODY_LIMITS: Final = {RESULTS_PATH: MAX_ANSWER_BYTES}
"""Of the routes that take more than others."""


def agent_routes(executor: AgentExecutor) -> APIRouter:
    """Make the routes of an agent that is pushed its jobs."""
    router = APIRouter()

    @router.post("/jobs")
    async def run_job(envelope: envelopes.Text) -> Response:
        return envelopes.answered(granted(await executor.handle(envelope)))

    @router.get("/healthz")
    async def alive() -> dict[str, str]:
        return {"status": "ok"}

    return router


class Doorkeeper:
    """Knows an agent by its signature."""

    def __init__(self, *, name: str, keys: Mapping[str, Ed25519PublicKey], clock: Clock) -> None:
        self._name = name
        self._trusted = {agent: (key,) for agent, key in keys.items()}
        self._clock = clock

    def admit(self, envelope: str, purpose: Purpose) -> Opened:
        """Return a message of an agent to this control plane; refuse every other."""
        opened = read_envelope(
            envelope,
            trusted=self._trusted,
            audience=self._name,
            purpose=purpose,
            now=self._clock.now(),
        )
        if isinstance(opened, Refusal):
            _refuse(ErrorCode.AUTHENTICATION_ERROR, opened.detail)
        return opened

    def admit_results(self, text: str) -> Opened:
        """Return the first of many results: each is signed by one agent, about one message."""
        lines = text.split("\n", MAX_BATCH_JOBS)
        if len(lines) > MAX_BATCH_JOBS:
            _refuse(
                ErrorCode.PAYLOAD_TOO_LARGE, f"at most {MAX_BATCH_JOBS} results answer a message"
            )
        first, *others = (self.admit(line, "result") for line in lines)
        if any((o.sender, o.in_reply_to) != (first.sender, first.in_reply_to) for o in others):
            _refuse(ErrorCode.AUTHENTICATION_ERROR, "these results do not belong together")
        return first


def mail_routes(mailbox: Mailbox, doorkeeper: Doorkeeper) -> APIRouter:
    """Make the routes of a control plane whose agents dial out."""
    router = APIRouter(include_in_schema=False)  # spoken by agents, not by clients of the API

    @router.post(POLL_PATH)
    async def poll(request: Request, envelope: envelopes.Text) -> Response:
        """Hand out the oldest message to the agent that signed the poll, or wait for one."""
        opened = doorkeeper.admit(envelope, "poll")
        with mailbox.place(opened.sender) as free:
            if not free:
                detail = f"at most {MOST_POLLS} polls wait at a time"
                raise RefusedError(
                    Refusal(code=ErrorCode.RATE_LIMIT_EXCEEDED, detail=detail, retry_after=1.0)
                )
            # Repeated by somebody who overheard it, at whichever control plane.
            if not await mailbox.first_time(f"{opened.sender}/{opened.message_id}"):
                _refuse(
                    ErrorCode.AUTHENTICATION_ERROR, "the message is refused: it was seen before"
                )
            message = await mailbox.fetch(opened.sender, request.is_disconnected)
        if message is None:
            return Response(status_code=204)
        return envelopes.answered(message)

    @router.post(RESULTS_PATH, status_code=204)
    async def results(text: envelopes.Text) -> None:
        """Take the answer to a message of the agent that signed it; once."""
        first = doorkeeper.admit_results(text)
        if not await mailbox.answer(first.sender, first.in_reply_to or "", text):
            _refuse(ErrorCode.STATE_CONFLICT, "nobody waits for this answer any more")

    return router


def _refuse(code: ErrorCode, detail: str) -> NoReturn:
    raise RefusedError(Refusal(code=code, detail=detail))
