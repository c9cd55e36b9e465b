"""How one process is asked about itself.

A question is a mapping with `ask`, and so is its answer. Within one process it is called; other
processes are asked over a socket in a folder that is theirs alone, a line of JSON each way.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import structlog

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

log = structlog.get_logger("gatekeeper.processes")

MAX_QUESTION_BYTES: Final = 1_048_576
ASK_SECONDS: Final = 3.0

Words = Mapping[str, Any]
"""A question or an answer, as JSON has it."""
Ask = Callable[[Words], Awaitable[Words]]
"""Asks one process. Raises `OSError`, `TimeoutError` or `ValueError` when it does not answer."""


def family(metric: Metric) -> dict[str, Any]:
    """Write one metric, for `Gathering` to add up."""
    samples = [[one.name, one.labels, one.value] for one in metric.samples]
    return {
        "name": metric.name,
        "help": metric.documentation,
        "type": metric.type,
        "samples": samples,
    }


async def answer_on(listening: socket.socket, worker: Ask) -> None:
    """Answer questions that come over a socket, until cancelled."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            if line:
                writer.write(json.dumps(await worker(json.loads(line))).encode())
                await writer.drain()
        except Exception as error:  # noqa: BLE001  # whoever asked is told nothing
            log.error("a question failed", error=type(error).__name__)  # noqa: TRY400
        finally:
            writer.close()

    server = await asyncio.start_unix_server(answer, sock=listening, limit=MAX_QUESTION_BYTES)
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        server.close()


def over(path: Path, slow: Mapping[str, float] = MappingProxyType({})) -> Ask:
    """Return what asks the worker behind a socket; `slow` says which questions take longer."""

    async def ask(question: Words) -> Words:
        seconds = slow.get(question["ask"], ASK_SECONDS)
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(json.dumps(question).encode() + b"\n")
                await writer.drain()
                told: Words = json.loads(await reader.read())
                return told
            finally:
                writer.close()

    return ask
