-- Agents that may only dial out: what they are asked, until they answer, and the polls they sent.

CREATE SCHEMA IF NOT EXISTS gatekeeper;

-- Lost in a crash, and then so are the exchanges that wait here: their jobs are tried again.
CREATE UNLOGGED TABLE gatekeeper.agent_mail (
    message_id  text PRIMARY KEY CHECK (length(message_id) BETWEEN 1 AND 128),
    agent       text NOT NULL,
    envelope    text NOT NULL CHECK (length(envelope) <= 65536),
    posted_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at  timestamptz NOT NULL,
    lease_until timestamptz, -- null: not fetched yet
    answer      text CHECK (length(answer) <= 1048576)
);

CREATE INDEX agent_mail_waiting ON gatekeeper.agent_mail (agent, posted_at) WHERE answer IS NULL;
CREATE INDEX agent_mail_expired ON gatekeeper.agent_mail (expires_at);

-- Not lost in a crash: a poll that was seen before is refused, by whichever process.
CREATE TABLE gatekeeper.agent_poll (
    message_id text PRIMARY KEY CHECK (length(message_id) BETWEEN 1 AND 260),
    seen_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX agent_poll_seen ON gatekeeper.agent_poll (seen_at);

REVOKE ALL ON gatekeeper.agent_mail, gatekeeper.agent_poll FROM PUBLIC;
