-- That somebody listens to a runner, noted at each look: so a runner's silence can be told from
-- the absence of whoever would have heard it.

CREATE TABLE gatekeeper.terminal_runner_watch (
    runner          text PRIMARY KEY,
    looked_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    listening_since timestamptz NOT NULL DEFAULT clock_timestamp()
);

REVOKE ALL ON gatekeeper.terminal_runner_watch FROM PUBLIC;
