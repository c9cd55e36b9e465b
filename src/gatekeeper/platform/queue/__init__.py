"""Jobs in PostgreSQL: enqueued in the caller's transaction, exact to their due time.

model.py     what a job is, and how an attempt can end (pure)
jobs.py      the statements over the table, in the caller's transaction
worker.py    takes due jobs, lane by lane, and keeps their leases
attempts.py  runs them, and stores how each ended

What is promised: a job that was committed runs, not before it is due, at least once;
what its handler wrote in the transaction of `complete` is written exactly once.
Why not a library: docs/adr/0005-queue.md.
"""

from gatekeeper.kernel.backoff import Backoff
from gatekeeper.platform.queue.jobs import (
    complete,
    depths,
    enqueue,
    enqueue_or_move,
    postpone,
    purge,
)
from gatekeeper.platform.queue.model import (
    ClaimedJob,
    Dead,
    DeadJob,
    Depth,
    Done,
    Handler,
    LeaseLostError,
    NewJob,
    Outcome,
    Retry,
    Settled,
    outcome_of,
)
from gatekeeper.platform.queue.worker import Worker

__all__ = [
    "Backoff",
    "ClaimedJob",
    "Dead",
    "DeadJob",
    "Depth",
    "Done",
    "Handler",
    "LeaseLostError",
    "NewJob",
    "Outcome",
    "Retry",
    "Settled",
    "Worker",
    "complete",
    "depths",
    "enqueue",
    "enqueue_or_move",
    "outcome_of",
    "postpone",
    "purge",
]
