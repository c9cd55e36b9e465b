"""How an envelope reaches an agent. What it says is signed, so none of these is trusted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import httpx

from gatekeeper.kernel.errors import ErrorCode, GatekeeperError, Refusal, UnavailableError
from gatekeeper.platform.crypto.envelope import own_message_id
from gatekeeper.platform.http import envelopes
from gatekeeper.wire.jobs import MAX_JOB_BYTES

if TYPE_CHECKING:
    from gatekeeper.databases.adapters.agents.executor import AgentExecutor
    from gatekeeper.databases.adapters.agents.mailbox import Mailbox

MAX_ANSWER_BYTES: Final = 1_048_576
CONNECT_SECONDS: Final = 3.0
ANSWER_SECONDS: Final = 30.0
"""Longer than a revocation takes at a busy target; a late answer is asked for again."""


class InProcess:
    """The agent runs in this process."""

    def __init__(self, executor: AgentExecutor) -> None:
        self._executor = executor

    async def exchange(self, envelope: str) -> str:
        answer = await self._executor.handle(envelope)
        if isinstance(answer, Refusal):
            raise GatekeeperError(answer.code, answer.detail)
        return answer

    async def close(self) -> None:
        await self._executor.close()


class HttpPush:
    """The agent listens; jobs are pushed to it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=32),
            trust_env=False,
        )

    async def exchange(self, envelope: str) -> str:
        try:
            async with (
                asyncio.timeout(CONNECT_SECONDS + ANSWER_SECONDS),  # also of one that drips
                self._client.stream(
                    "POST", f"{self._url}/jobs", content=envelope, headers=envelopes.HEADERS
                ) as response,
            ):
                if response.status_code != httpx.codes.OK:
                    raise _not_ok(response.status_code)
                answer = await envelopes.read_within(response, MAX_ANSWER_BYTES)
        except (httpx.HTTPError, TimeoutError) as error:
            msg = f"the agent did not answer ({type(error).__name__})"
            raise UnavailableError(msg, ErrorCode.AGENT_UNREACHABLE) from error
        if answer is None:
            raise GatekeeperError(ErrorCode.AGENT_REJECTED, "the agent's answer is too large")
        return answer

    async def close(self) -> None:
        await self._client.aclose()


class Fetched:
    """The agent dials out: an envelope waits in the store until it is fetched."""

    def __init__(self, mailbox: Mailbox, agent: str, *, seconds: float = ANSWER_SECONDS) -> None:
        self._mailbox = mailbox
        self._agent = agent
        self._seconds = seconds

    async def exchange(self, envelope: str) -> str:
        if len(envelope) > MAX_JOB_BYTES:
            raise GatekeeperError(ErrorCode.AGENT_REJECTED, "the job is too large to be sent")
        return await self._mailbox.exchange(
            self._agent, own_message_id(envelope), envelope, seconds=self._seconds
        )

    async def close(self) -> None:
        """Nothing is held."""


def _not_ok(status: int) -> GatekeeperError:
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return UnavailableError(f"the agent answered {status}", ErrorCode.AGENT_UNREACHABLE)
    return GatekeeperError(ErrorCode.AGENT_REJECTED, f"the agent refused the job ({status})")
