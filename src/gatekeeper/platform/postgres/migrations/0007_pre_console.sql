-- Who is signed in to the pages: each browser's session, named by the hash of its cookie.

CREATE SCHEMA IF NOT EXISTS gatekeeper;

CREATE TABLE gatekeeper.console_session (
    cookie_sha256 text PRIMARY KEY CHECK (length(cookie_sha256) = 64),
    principal     jsonb NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at    timestamptz NOT NULL
);

CREATE INDEX console_session_expires ON gatekeeper.console_session (expires_at);

REVOKE ALL ON gatekeeper.console_session FROM PUBLIC;
