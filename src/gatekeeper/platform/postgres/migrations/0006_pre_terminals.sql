-- Terminals, their stages and shares, and the tickets that were used.

CREATE SCHEMA IF NOT EXISTS gatekeeper;

CREATE TABLE gatekeeper.terminal (
    id               text PRIMARY KEY,
    status           text NOT NULL,
    requester        text NOT NULL,
    requester_email  text,
    principal        jsonb NOT NULL,
    runner           text NOT NULL,
    instance         text NOT NULL UNIQUE,
    address          text,
    sandbox          text,
    profile          text NOT NULL,
    command          jsonb NOT NULL,
    shell            boolean NOT NULL,
    prompt           text,
    bundle           jsonb,
    database         jsonb,
    session_id       text,
    columns          integer NOT NULL,
    rows             integer NOT NULL,
    reason           text NOT NULL,
    grant_name       text NOT NULL,
    ttl              interval NOT NULL,
    max_ttl          interval NOT NULL,
    correlation_id   text NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    ready_at         timestamptz,
    expires_at       timestamptz,
    ended_at         timestamptz,
    cleaned_at       timestamptz,
    stages           jsonb NOT NULL DEFAULT '{}',
    ending           text,
    exit_code        integer,
    exit_signal      integer,
    last_screen      text,
    recording_head   text,
    recording_bytes  bigint NOT NULL DEFAULT 0,
    output_bytes     bigint NOT NULL DEFAULT 0,
    ended_receipt    text,
    events_taken     bigint NOT NULL DEFAULT 0,
    error_code       text,
    error_message    text,
    error_retryable  boolean
);

CREATE INDEX terminal_newest ON gatekeeper.terminal (created_at DESC, id DESC);
CREATE INDEX terminal_of_requester ON gatekeeper.terminal (requester, created_at DESC, id DESC);
CREATE INDEX terminal_not_cleaned ON gatekeeper.terminal (runner, status)
    WHERE status NOT IN ('cleaned', 'denied');

CREATE TABLE gatekeeper.terminal_share (
    id            text PRIMARY KEY,
    terminal_id   text NOT NULL REFERENCES gatekeeper.terminal (id),
    secret_sha256 text NOT NULL UNIQUE,
    created_by    text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at    timestamptz NOT NULL
);

-- What the runners said of themselves last: who is here, and in which sandbox things are started.
CREATE TABLE gatekeeper.terminal_runner (
    name     text PRIMARY KEY,
    boot     text NOT NULL,
    sandbox  text NOT NULL,
    capacity integer NOT NULL,
    seen_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Readable in the order of (xid, seq), like gatekeeper.session_change.
CREATE TABLE gatekeeper.terminal_change (
    seq         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid         xid8 NOT NULL DEFAULT pg_current_xact_id(),
    terminal_id text NOT NULL,
    requester   text NOT NULL,
    profile     text NOT NULL,
    status      text NOT NULL,
    at          timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX terminal_change_order ON gatekeeper.terminal_change (xid, seq);

-- Used tickets. Unlogged, so a crash empties it: the row of the epoch is gone with them, the
-- next one is another, and a ticket of the old epoch finds no row and is refused for ever.
CREATE UNLOGGED TABLE gatekeeper.token_jti (
    jti        text PRIMARY KEY,
    epoch      text NOT NULL,
    expires_at timestamptz NOT NULL
);

-- One statement says whether a ticket is good, and uses it up. `outcome` is `ok`, or why not;
-- nothing is used up unless it is `ok`. Two calls with one ticket wait for each other here.
CREATE FUNCTION gatekeeper.claim_ticket(
    p_jti text, p_epoch text, p_terminal text, p_instance text, p_expires_at timestamptz
) RETURNS TABLE (outcome text, address text, status text, expires_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    wanted gatekeeper.terminal%ROWTYPE;
BEGIN
    SELECT * INTO wanted FROM gatekeeper.terminal t WHERE t.id = p_terminal;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'unknown', NULL::text, NULL::text, NULL::timestamptz; RETURN;
    ELSIF wanted.instance <> p_instance THEN
        outcome := 'instance';
    ELSIF p_expires_at <= clock_timestamp() THEN
        outcome := 'expired';
    ELSIF wanted.status = 'pending' THEN
        outcome := 'not_ready';
    ELSIF wanted.status <> 'ready' THEN
        outcome := 'over';
    ELSIF wanted.expires_at <= clock_timestamp() THEN
        outcome := 'over';
    ELSIF NOT EXISTS (
        SELECT FROM gatekeeper.token_jti e WHERE e.jti = 'epoch' AND e.epoch = p_epoch
    ) THEN
        outcome := 'epoch';
    ELSE
        INSERT INTO gatekeeper.token_jti AS j (jti, epoch, expires_at)
        VALUES ('t:' || p_jti, p_epoch, p_expires_at) ON CONFLICT DO NOTHING;
        outcome := CASE WHEN FOUND THEN 'ok' ELSE 'used' END;
    END IF;
    address := wanted.address;
    status := wanted.status;
    expires_at := wanted.expires_at;
    RETURN NEXT;
END $$;

-- What a gateway may know: where a terminal is, whether it still may be, and why not.
CREATE FUNCTION gatekeeper.terminal_places(p_terminals text[])
RETURNS TABLE (
    id text, instance text, address text, status text, ending text, expires_at timestamptz
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.id, t.instance, t.address, t.status, t.ending, t.expires_at
    FROM gatekeeper.terminal t WHERE t.id = ANY (p_terminals)
$$;

REVOKE EXECUTE ON FUNCTION
    gatekeeper.claim_ticket(text, text, text, text, timestamptz),
    gatekeeper.terminal_places(text[])
FROM PUBLIC;

-- Gateways stand where clients reach them: their login can claim, look up and listen, no more.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'gatekeeper_gateway') THEN
        CREATE ROLE gatekeeper_gateway NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL; -- it may be just now
END $$;

GRANT USAGE ON SCHEMA gatekeeper TO gatekeeper_gateway;
GRANT EXECUTE ON FUNCTION
    gatekeeper.claim_ticket(text, text, text, text, timestamptz),
    gatekeeper.terminal_places(text[])
TO gatekeeper_gateway, gatekeeper_app;
REVOKE ALL ON gatekeeper.terminal, gatekeeper.terminal_share, gatekeeper.token_jti FROM PUBLIC;
