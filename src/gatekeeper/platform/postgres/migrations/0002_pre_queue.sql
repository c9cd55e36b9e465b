-- Jobs: enqueued in the transaction of the change they belong to, run when they are due.

CREATE SCHEMA IF NOT EXISTS gatekeeper;

CREATE TABLE gatekeeper.job (
    id            text PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 200),
    lane          text NOT NULL,
    kind          text NOT NULL,
    target        text NOT NULL DEFAULT '', -- '' belongs to no target, and shares nothing
    payload       jsonb NOT NULL,
    state         text NOT NULL DEFAULT 'queued'
                  CHECK (state IN ('queued', 'running', 'done', 'dead')),
    due_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts      integer NOT NULL DEFAULT 0,
    max_attempts  integer CHECK (max_attempts > 0), -- null: tried for ever
    lease_token   bigint,
    lease_until   timestamptz,
    error_code    text,
    error_message text,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at    timestamptz,
    finished_at   timestamptz,
    CHECK ((state = 'running') = (lease_token IS NOT NULL)),
    CHECK ((state = 'running') = (lease_until IS NOT NULL)),
    CHECK ((state IN ('done', 'dead')) = (finished_at IS NOT NULL))
) WITH (
    -- Every row changes a few times in seconds: dead versions at the head of an index are
    -- what makes a queue slow.
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 500,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0
);

-- A lease is named by a number that only grows: the holder of an older one is not heard.
CREATE SEQUENCE gatekeeper.job_lease;

CREATE INDEX job_due ON gatekeeper.job (lane, target, due_at) WHERE state = 'queued';
CREATE INDEX job_running ON gatekeeper.job (lease_token) WHERE state = 'running';
CREATE INDEX job_done ON gatekeeper.job (finished_at) WHERE state = 'done';
