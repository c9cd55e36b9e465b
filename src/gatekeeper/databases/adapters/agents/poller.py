"""An agent that only dials out: it asks for its jobs, and brings back what came of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import httpx
import structlog

from gatekeeper.databases.adapters.agents.http import POLL_PATH, RESULTS_PATH
from gatekeeper.databases.adapters.agents.mailbox import POLL_SECONDS
from gatekeeper.databases.adapters.agents.transports import (
    ANSWER_SECONDS,
    CONNECT_SECONDS,
)
from gatekeeper.kernel.errors import Refusal
from gatekeeper.platform.crypto.party import Party
from gatekeeper.platform.http import envelopes
from gatekeeper.wire.jobs import MAX_JOB_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from gatekeeper.kernel.clock import Clock
    from gatekeeper.kernel.random import Random
    from gatekeeper.platform.queue import Backoff

log = structlog.get_logger("gatekeeper.agent")

MAX_MESSAGES: Final = 64
"""Messages worked on at a time: slow revocations leave places to those that make logins."""
POLL_TIMEOUT_SECONDS: Final = POLL_SECONDS + 10.0


class Poller:
    """Polls one control plane, or any number of them behind one address."""

    def __init__(
        self,
        *,
        url: str,
        name: str,
        key: Ed25519PrivateKey,
        control_plane: str,
        handle: Callable[[str], Awaitable[str | Refusal]],
        backoff: Backoff,
        clock: Clock,
        random: Random,
    ) -> None:
        self._url = url.rstrip("/")
        self._control_plane = control_plane
        self._party = Party(name=name, key=key, trusted={}, clock=clock, random=random)
        self._handle = handle
        self._backoff = backoff
        self._random = random
        self._places = asyncio.Semaphore(MAX_MESSAGES)
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(CONNECT_SECONDS, read=POLL_TIMEOUT_SECONDS),
            limits=httpx.Limits(max_connections=MAX_MESSAGES + 1),
            trust_env=False,
        )

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until told to stop; what was begun is finished, and answered."""
        async with self._client, asyncio.TaskGroup() as work:
            polls = work.create_task(self._polls(work), name="polls")
            await stopping.wait()
            polls.cancel()

    async def _polls(self, work: asyncio.TaskGroup) -> None:
        failures = 0
        while True:
            await self._places.acquire()
            try:
                envelope = await self._poll()
            except httpx.HTTPError as error:
                self._places.release()
                failures += 1
                log.warning("the control plane cannot be polled", error=_words(error))
                await asyncio.sleep(self._backoff.pause(failures, self._random))
                continue
            failures = 0
            if envelope is None:
                self._places.release()
            else:
                work.create_task(self._carry_out(envelope))

    async def _poll(self) -> str | None:
        """Ask for one message; None when there was none for as long as polls wait."""
        async with self._client.stream(
            "POST", f"{self._url}{POLL_PATH}", content=self._asking(), headers=envelopes.HEADERS
        ) as response:
            response.raise_for_status()
            if response.status_code != httpx.codes.OK:
                return None
            message = await envelopes.read_within(response, MAX_JOB_BYTES)
        if message is None:
            msg = "larger than any job"
            raise httpx.DecodingError(msg)
        return message

    def _asking(self) -> str:
        return self._party.ask(b"", reader=self._control_plane, purpose="poll").envelope

    async def _carry_out(self, envelope: str) -> None:
        try:
            answer = await self._handle(envelope)
            if not isinstance(answer, Refusal):  # a refusal is logged, and nobody's to hear
                await self._bring(answer)
        except Exception:
            log.exception("a message was not carried out; it will be handed out again")
        finally:
            self._places.release()

    async def _bring(self, answer: str) -> None:
        """Bring an answer, for as long as somebody waits for it."""
        loop = asyncio.get_running_loop()
        deadline, failures = loop.time() + ANSWER_SECONDS, 0
        while True:
            try:
                async with self._client.stream(
                    "POST", f"{self._url}{RESULTS_PATH}", content=answer, headers=envelopes.HEADERS
                ) as response:
                    status = response.status_code
            except httpx.HTTPError as error:
                why = _words(error)
            else:
                if status < httpx.codes.INTERNAL_SERVER_ERROR:
                    _note(status)
                    return
                why = str(status)
            failures += 1
            pause = self._backoff.pause(failures, self._random)
            if loop.time() + pause > deadline:
                log.warning("an answer could not be brought", error=why)
                return
            await asyncio.sleep(pause)


def _note(status: int) -> None:
    """A late answer is no harm: the job is asked for again, and meets what it did before."""
    if status >= httpx.codes.BAD_REQUEST:
        log.warning("an answer was not taken", status=status)


def _words(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"answered {error.response.status_code}"
    return type(error).__name__
