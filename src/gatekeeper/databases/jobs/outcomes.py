"""What a handler says of a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gatekeeper.databases.model import Failure
from gatekeeper.kernel.errors import ErrorCode


@dataclass(frozen=True, slots=True)
class Finished:
    """The job ended, or moved to a later time, in the transaction that carried out its effect."""


@dataclass(frozen=True, slots=True)
class TryAgain:
    """The job is to be run again, after a pause that grows."""

    error: Failure


JobOutcome = Finished | TryAgain

FINISHED: Final = Finished()


def target_removed(name: str, *, retryable: bool) -> Failure:
    return Failure(
        code=ErrorCode.TARGET_MISCONFIGURED,
        message=f"target {name!r} is no longer configured; add it again to prove its logins gone",
        retryable=retryable,
    )
