"""What the handler of a job says of it, in every plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gatekeeper.kernel.errors import Failure


@dataclass(frozen=True, slots=True)
class Finished:
    """The job ended, or moved to a later time, in the transaction that carried out its effect."""


@dataclass(frozen=True, slots=True)
class TryAgain:
    """The job is to be run again, after a pause that grows."""

    error: Failure


JobOutcome = Finished | TryAgain

FINISHED: Final = Finished()
