"""The decision service, played: what a proxy asks is kept, byte by byte."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from proxies.loopback import Loopback, Received, receive


@dataclass(frozen=True, slots=True)
class Say:
    """An answer, as the bytes that are sent; without any, the question is never answered."""

    data: bytes
    close: bool = False
    """Close the connection after it."""


SILENCE = Say(b"")


def say(
    status: int = 200, *headers: tuple[str, str], body: bytes = b"", close: bool = False
) -> Say:
    lines = [f"HTTP/1.1 {status} Said"]
    lines += [f"{name}: {value}" for name, value in headers]
    lines += [f"content-length: {len(body)}", "", ""]
    return Say("\r\n".join(lines).encode("latin-1") + body, close)


class Decisions(Loopback):
    """Answers each question with `answer`, and keeps it in `asked`."""

    def __init__(self, answer: Callable[[Received], Say], *, port: int = 0) -> None:
        super().__init__(port)
        self.answer = answer
        self.asked: list[Received] = []

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        while True:
            question = await receive(reader, connection)
            self.asked.append(question)
            answer = self.answer(question)
            if answer is SILENCE:
                await reader.read()  # until the proxy gives up
                return
            # RFC 9110 section 9.3.2: an answer to HEAD has no body.
            head, end, body = answer.data.partition(b"\r\n\r\n")
            writer.write(head + end + (b"" if question.method == "HEAD" else body))
            await writer.drain()
            if answer.close:
                return
