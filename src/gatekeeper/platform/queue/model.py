"""What a job is, and how an attempt can end. All times are the database's clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gatekeeper.kernel.errors import ErrorCode, GatekeeperError
from gatekeeper.kernel.jobs import TryAgain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from gatekeeper.kernel.jobs import JobOutcome

MAX_MESSAGE_CHARS: Final = 500
"""What is kept of an error's text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job to be made.

    `id` is its idempotency key (at most 200 characters); without `due_at` it is due now;
    without `max_attempts` it is tried for ever. Jobs of one `target` share a lane fairly
    with those of others, so a target that hangs does not hold them up.
    """

    id: str
    lane: str
    kind: str
    payload: Mapping[str, Any]
    target: str | None = None
    due_at: datetime | None = None
    max_attempts: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedJob:
    """A job that this worker holds. `attempts` counts this one: it is 1 or more."""

    id: str
    lane: str
    kind: str
    payload: Mapping[str, Any]
    target: str | None
    attempts: int
    lease_token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadJob:
    """A job that was given up: somebody has to look at it."""

    id: str
    lane: str
    kind: str
    target: str | None
    attempts: int
    error_code: str
    error_message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """How many jobs of a lane there are by state, how many of the queued or running ones
    are due, and the age of the oldest of those in seconds. Finished ones are not counted.
    """

    lane: str
    queued: int
    running: int
    dead: int
    due: int
    oldest: float


@dataclass(frozen=True, slots=True)
class Done:
    """It is done; the worker ends the job, unless the handler already did."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The handler ended or postponed the job itself, in the transaction of its effect."""


@dataclass(frozen=True, slots=True)
class Retry:
    """It failed, and is tried again after a pause. `message` is ours, never a payload."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Dead:
    """It failed, and trying again cannot help."""

    code: str
    message: str


Outcome = Done | Settled | Retry | Dead
Handler = Callable[[Sequence[ClaimedJob]], Awaitable[Sequence[Outcome]]]
"""Runs some jobs of one kind and target; its answer has an outcome for each, in order."""


def outcome_of(said: JobOutcome) -> Outcome:
    """Return what it means to the queue, that a plane says this of a job."""
    if isinstance(said, TryAgain):
        return Retry(said.error.code, said.error.message)
    return Settled()


class LeaseLostError(GatekeeperError):
    """Another worker may hold the job by now: what this one did must not be committed."""

    def __init__(self, job: str) -> None:
        super().__init__(ErrorCode.STATE_CONFLICT, f"the lease of job {job} was lost")
