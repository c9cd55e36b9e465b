"""Jobs in PostgreSQL: enqueued in the caller's transaction, exact to their due time.

jobs.py      what a job is, and the statements over the table
worker.py    takes due jobs and runs them, lane by lane
backoff.py   when a failed job runs again (pure)
"""

from gatekeeper.platform.queue.jobs import (
    ClaimedJob,
    Depth,
    NewJob,
    complete,
    depths,
    enqueue,
    postpone,
    purge,
    reschedule,
)
from gatekeeper.platform.queue.worker import Done, Outcome, Retry, Worker

__all__ = [
    "ClaimedJob",
    "Depth",
    "Done",
    "NewJob",
    "Outcome",
    "Retry",
    "Worker",
    "complete",
    "depths",
    "enqueue",
    "postpone",
    "purge",
    "reschedule",
]
