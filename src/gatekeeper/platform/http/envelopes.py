"""Signed messages over HTTP: how they are sent and taken. What they say is not looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Depends, Request, Response

if TYPE_CHECKING:
    import httpx

MEDIA_TYPE: Final = "application/jose"
HEADERS: Final = {"Content-Type": MEDIA_TYPE, "Accept-Encoding": "identity"}
"""Of a request: its answer is read as it comes, never unpacked."""


async def _text(request: Request) -> str:
    """Return the body as it came; what is no ASCII is refused with the envelope."""
    return (await request.body()).decode("latin-1")


Text = Annotated[str, Depends(_text)]
"""The body of a request, for a route that takes envelopes."""


def answered(envelopes: str) -> Response:
    return Response(envelopes, media_type=MEDIA_TYPE)


async def read_within(response: httpx.Response, most: int) -> str | None:
    """Read an answer as it comes, never unpacked; None as soon as it is larger than that."""
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > most:
            return None
    return body.decode("latin-1")  # what is no ASCII is refused with the envelope
