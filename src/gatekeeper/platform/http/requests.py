"""What requests say alike in every plane: keys, waits, pages, and whether two are the same."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from fastapi import Header, Query

from gatekeeper.kernel.errors import InputError
from gatekeeper.wire.sessions import MAX_IDEMPOTENCY_KEY_CHARS, MAX_WAIT_SECONDS

if TYPE_CHECKING:
    import re

    from pydantic import BaseModel

WaitQuery = Annotated[int, Query(ge=0, le=MAX_WAIT_SECONDS, description="Seconds.")]
KeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=MAX_IDEMPOTENCY_KEY_CHARS,
        pattern=r"^[\x21-\x7e]+$",
    ),
]
EventIdHeader = Annotated[str | None, Header(max_length=64)]


def page_cursor(created_at: datetime, name: str) -> str:
    """Say where the next page starts; opaque to callers."""
    text = json.dumps([created_at.isoformat(), name])
    return base64.urlsafe_b64encode(text.encode()).decode()


def read_page_cursor(text: str, ids: re.Pattern[str]) -> tuple[datetime, str]:
    """Read what `page_cursor` wrote. Raises `InputError` for anything else."""
    try:
        created_at, name = json.loads(base64.urlsafe_b64decode(text))
        at = datetime.fromisoformat(created_at)
        if at.tzinfo is None or ids.fullmatch(name) is None:
            raise ValueError  # noqa: TRY301  # one answer for every way to be wrong
    except (ValueError, TypeError) as error:
        msg = "cursor: expected the `next` value of an earlier page"
        raise InputError(msg) from error
    return at, name


def fingerprint(body: BaseModel) -> str:
    """Two bodies that mean the same have the same fingerprint."""
    text = json.dumps(body.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
