"""The one fake of the `Backends` port: answers what a test scripted, and records every call."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gatekeeper.forwardauth.model import BackendPage, BackendResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatekeeper.forwardauth.model import BackendRequest


def answered(
    body: Any = None,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    text: str | None = None,
    url: str = "",
) -> BackendResponse:
    """Make the answer of one page; `text` is the body as sent, when it is no JSON."""
    told = {"content-type": "application/json"} if text is None else {}
    page = BackendPage(
        url=url,
        status=status,
        headers=told | dict(headers or {}),
        body=body,
        body_text=json.dumps(body) if text is None else text,
    )
    return BackendResponse(
        status=page.status,
        headers=page.headers,
        body=page.body,
        body_text=page.body_text,
        pages=(page,),
    )


@dataclass
class FakeBackends:
    """Backends by URL, without what follows a `?`. `error` says what is said of any other.

    A list of answers is given one after the other, the last one again and again.
    """

    answers: dict[str, BackendResponse | list[BackendResponse]] = field(default_factory=dict)
    error: str = "it cannot be connected to"
    calls: list[BackendRequest] = field(default_factory=list)

    async def call(self, request: BackendRequest) -> BackendResponse:
        self.calls.append(request)
        found = self.answers.get(request.url.partition("?")[0])
        if isinstance(found, list):
            return found.pop(0) if len(found) > 1 else found[0]
        return found or BackendResponse(error=self.error)
