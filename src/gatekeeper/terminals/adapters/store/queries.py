"""The longer statements over terminals."""

from __future__ import annotations

from typing import Final

ADD: Final = """
INSERT INTO gatekeeper.terminal
    (id, status, requester, requester_email, principal, runner, instance, profile, command,
     shell, prompt, bundle, database, columns, rows, reason, grant_name, ttl, max_ttl,
     correlation_id, created_at, stages)
VALUES
    (%(id)s, %(status)s, %(requester)s, %(requester_email)s, %(principal)s, %(runner)s,
     %(instance)s, %(profile)s, %(command)s, %(shell)s, %(prompt)s, %(bundle)s, %(database)s,
     %(columns)s, %(rows)s, %(reason)s, %(grant)s, %(ttl)s, %(max_ttl)s, %(correlation_id)s,
     %(created_at)s, %(stages)s)
RETURNING *
"""

# A terminal that ends at its time ended *then*, however late that was noticed: the lag is
# counted from here. What its caller wrote to it goes when nothing can need it any more.
MOVE: Final = """
UPDATE gatekeeper.terminal SET
    status = %(status)s,
    ready_at = CASE WHEN %(status)s = 'ready' THEN clock_timestamp() ELSE ready_at END,
    expires_at = coalesce(%(expires_at)s, expires_at),
    ended_at = CASE
        WHEN %(status)s = 'expired' THEN least(expires_at, clock_timestamp())
        WHEN %(status)s IN ('ended', 'revoked', 'failed') THEN clock_timestamp()
        ELSE ended_at END,
    cleaned_at = CASE WHEN %(status)s = 'cleaned' THEN clock_timestamp() END,
    address = coalesce(%(address)s, address),
    sandbox = coalesce(%(sandbox)s, sandbox),
    prompt = CASE WHEN %(status)s <> 'cleaned' THEN prompt END,
    error_code = CASE WHEN %(status)s = 'cleaned' THEN error_code ELSE %(code)s END,
    error_message = CASE WHEN %(status)s = 'cleaned' THEN error_message ELSE %(message)s END,
    error_retryable = CASE WHEN %(status)s = 'cleaned' THEN error_retryable ELSE %(retryable)s END,
    ending = %(ending)s, exit_code = %(exit_code)s, exit_signal = %(exit_signal)s,
    last_screen = %(last_screen)s, recording_head = %(recording_head)s,
    recording_bytes = %(recording_bytes)s, output_bytes = %(output_bytes)s,
    ended_receipt = %(ended_receipt)s
WHERE id = %(id)s
RETURNING *
"""

NOTE_ENDED: Final = """
UPDATE gatekeeper.terminal SET
    ending = %(ending)s, exit_code = %(exit_code)s, exit_signal = %(exit_signal)s,
    last_screen = %(last_screen)s, recording_head = %(recording_head)s,
    recording_bytes = %(recording_bytes)s, output_bytes = %(output_bytes)s,
    ended_receipt = %(ended_receipt)s
WHERE id = %(id)s
RETURNING *
"""

# Only what is in the signed chain counts, not what waits for it. `id` is the order in which every
# control plane locks.
OVERDUE_RECORDINGS: Final = """
SELECT t.*, told->>'head' AS evident_head, (told->>'segment')::int AS evident_segments
FROM gatekeeper.terminal t LEFT JOIN LATERAL (
    SELECT convert_from(canonical, 'UTF8')::jsonb->'data'->'told' AS told
    FROM gatekeeper.audit_event
    WHERE session_id = t.id AND kind = 'terminal.recorded' ORDER BY seq DESC LIMIT 1
) AS last ON true
WHERE t.id = ANY (%(ids)s) AND t.status = 'cleaned' AND t.recording_deleted_at IS NULL
  AND t.ended_at < clock_timestamp() - %(keep)s::interval
ORDER BY t.id FOR UPDATE OF t SKIP LOCKED
"""

NOTE_DELETED: Final = """
UPDATE gatekeeper.terminal SET recording_deleted_at = clock_timestamp(), last_screen = NULL
WHERE id = ANY (%(ids)s)
RETURNING *
"""

CHANGED: Final = """
WITH changed AS (
    INSERT INTO gatekeeper.terminal_change (terminal_id, requester, profile, status)
    VALUES (%(id)s, %(requester)s, %(profile)s, %(status)s)
    RETURNING terminal_id)
SELECT pg_notify(%(channel)s, terminal_id) FROM changed
"""

COUNT_RUNNING: Final = """
SELECT count(*) AS running FROM gatekeeper.terminal
WHERE runner = %(runner)s AND status NOT IN ('cleaned', 'denied') AND stages ? 'scheduled'
"""

COUNT_WAITING: Final = """
SELECT count(*) AS waiting FROM gatekeeper.terminal
WHERE runner = %(runner)s AND status = 'pending' AND NOT stages ? 'scheduled'
"""

# One requester's n-th waiting terminal stands behind everybody's (n-1)-th; among the n-th ones
# whoever had no turn for the longest time is first, so that those who ask much take turns.
_QUEUED: Final = """
WITH waiting AS (
    SELECT t.*, row_number() OVER (PARTITION BY runner, requester ORDER BY created_at, id) AS nth
    FROM gatekeeper.terminal t WHERE status = 'pending' AND NOT stages ? 'scheduled'
), ranked AS (
    SELECT w.*, (
        SELECT (had.stages->>'scheduled')::timestamptz FROM gatekeeper.terminal had
        WHERE had.requester = w.requester AND had.stages ? 'scheduled'
        ORDER BY had.created_at DESC, had.id DESC LIMIT 1) AS last_turn
    FROM waiting w
), queued AS (
    SELECT r.*, row_number() OVER (
        PARTITION BY runner ORDER BY nth, last_turn NULLS FIRST, created_at, id) - 1 AS place
    FROM ranked r
)
SELECT * FROM queued
"""

QUEUE_PLACE: Final = _QUEUED + "WHERE id = %(id)s"

NEXT_WAITING: Final = _QUEUED + "WHERE runner = %(runner)s ORDER BY place LIMIT %(most)s"

NOTE_RUNNER: Final = """
INSERT INTO gatekeeper.terminal_runner AS r (name, boot, sandbox, capacity)
VALUES (%(name)s, %(boot)s, %(sandbox)s, %(capacity)s)
ON CONFLICT (name) DO UPDATE SET
    boot = excluded.boot, sandbox = excluded.sandbox, capacity = excluded.capacity,
    seen_at = clock_timestamp()
"""

# Looks that are further apart than `absence` had nobody between them: the runner may have spoken
# to nobody. `greatest` passes over the NULL of one that never reported.
LISTEN_FOR: Final = """
INSERT INTO gatekeeper.terminal_runner_watch AS watch (runner) VALUES (%(runner)s)
ON CONFLICT (runner) DO UPDATE SET
    listening_since = CASE
        WHEN watch.looked_at < clock_timestamp() - %(absence)s::interval THEN clock_timestamp()
        ELSE watch.listening_since END,
    looked_at = clock_timestamp()
RETURNING clock_timestamp() - greatest(watch.listening_since, (
    SELECT seen_at FROM gatekeeper.terminal_runner WHERE name = %(runner)s)) AS silence
"""

FORGET_RUNNER: Final = """
WITH watch AS (DELETE FROM gatekeeper.terminal_runner_watch WHERE runner = %(runner)s)
DELETE FROM gatekeeper.terminal_runner WHERE name = %(runner)s
"""

# There is one row for the epoch; a crash takes it away together with the used tickets.
EPOCH: Final = """
SELECT epoch FROM gatekeeper.token_jti WHERE jti = 'epoch'
"""

BEGIN_EPOCH: Final = """
INSERT INTO gatekeeper.token_jti (jti, epoch, expires_at)
VALUES ('epoch', gen_random_uuid()::text, 'infinity') ON CONFLICT DO NOTHING
"""

# A gateway's clock may be behind: what it still takes for fresh is remembered.
FORGET_USED: Final = """
DELETE FROM gatekeeper.token_jti
WHERE jti <> 'epoch' AND expires_at < clock_timestamp() - interval '5 minutes'
"""

FIND: Final = """
SELECT * FROM gatekeeper.terminal
WHERE (%(requester)s::text IS NULL OR requester = %(requester)s)
  AND (%(statuses)s::text[] = '{}' OR status = ANY(%(statuses)s))
  AND (%(before_at)s::timestamptz IS NULL
       OR (created_at, id) < (%(before_at)s, %(before_id)s::text))
ORDER BY created_at DESC, id DESC
LIMIT %(limit)s
"""

CHANGES: Final = """
SELECT * FROM gatekeeper.terminal_change
WHERE (xid, seq) > (%(xid)s::text::xid8, %(seq)s) AND xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY xid, seq LIMIT %(limit)s
"""

PRESENT: Final = """
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1 AS xid
"""
