-- Sessions, their idempotency keys, the stream of their changes, and rate limits.

CREATE SCHEMA IF NOT EXISTS gatekeeper;

CREATE TABLE gatekeeper.session (
    id               text PRIMARY KEY,
    status           text NOT NULL,
    requester        text NOT NULL,
    requester_email  text,
    target           text NOT NULL,
    role             text NOT NULL,
    reason           text NOT NULL,
    grant_name       text NOT NULL,
    username         text NOT NULL UNIQUE,
    ttl              interval NOT NULL,
    max_ttl          interval NOT NULL,
    verifier         text,
    sealed_password  text,
    correlation_id   text NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    ready_at         timestamptz,
    expires_at       timestamptz,
    ended_at         timestamptz,
    cleaned_at       timestamptz,
    error_code       text,
    error_message    text,
    error_retryable  boolean
);

CREATE INDEX session_newest ON gatekeeper.session (created_at DESC, id DESC);
CREATE INDEX session_of_requester ON gatekeeper.session (requester, created_at DESC, id DESC);
CREATE INDEX session_not_cleaned ON gatekeeper.session (target, status)
    WHERE status NOT IN ('cleaned', 'denied');

CREATE TABLE gatekeeper.idempotency_key (
    requester   text NOT NULL,
    key         text NOT NULL,
    body_sha256 text NOT NULL,
    session_id  text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (requester, key)
);

-- Rows become readable in the order of (xid, seq): a reader stops before the
-- oldest transaction still running, so no later commit can appear behind it.
CREATE TABLE gatekeeper.session_change (
    seq        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid        xid8 NOT NULL DEFAULT pg_current_xact_id(),
    session_id text NOT NULL,
    requester  text NOT NULL,
    target     text NOT NULL,
    role       text NOT NULL,
    status     text NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX session_change_order ON gatekeeper.session_change (xid, seq);

-- Lost in a crash, and then everyone starts with a full bucket: it bounds load, not access.
CREATE UNLOGGED TABLE gatekeeper.rate_bucket (
    requester  text PRIMARY KEY,
    tokens     double precision NOT NULL,
    updated_at timestamptz NOT NULL
);
