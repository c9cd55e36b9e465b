-- Jobs: enqueued in the transaction of the change they belong to, run when they are due.

CREATE SCHEMA IF NOT EXISTS gatekeeper;

CREATE TABLE gatekeeper.job (
    id           text PRIMARY KEY,
    lane         text NOT NULL,
    kind         text NOT NULL,
    payload      jsonb NOT NULL,
    state        text NOT NULL DEFAULT 'queued'
                 CHECK (state IN ('queued', 'running', 'done', 'dead')),
    due_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts     integer NOT NULL DEFAULT 0,
    lease_token  bigint,
    lease_until  timestamptz,
    error_code   text,
    error_message text,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at  timestamptz
);

CREATE SEQUENCE gatekeeper.job_lease;
CREATE INDEX job_due ON gatekeeper.job (lane, due_at) WHERE state = 'queued';
CREATE INDEX job_leased ON gatekeeper.job (lease_until) WHERE state = 'running';
CREATE INDEX job_finished ON gatekeeper.job (finished_at) WHERE state IN ('done', 'dead');
