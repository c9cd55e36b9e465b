-- Evidence: an outbox written in the transaction of the change, and the chain made of it.

CREATE SCHEMA IF NOT EXISTS gatekeeper;

CREATE TABLE gatekeeper.audit_outbox (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event jsonb NOT NULL
);

CREATE TABLE gatekeeper.audit_event (
    seq        bigint PRIMARY KEY,
    prev_hash  text NOT NULL UNIQUE,
    hash       text NOT NULL UNIQUE,
    canonical  bytea NOT NULL,
    kind       text NOT NULL,
    session_id text,
    at         timestamptz NOT NULL
);

CREATE INDEX audit_event_session ON gatekeeper.audit_event (session_id, seq);

CREATE TABLE gatekeeper.audit_checkpoint (
    size      bigint PRIMARY KEY,
    chain     text NOT NULL,
    head      text NOT NULL,
    at        text NOT NULL,
    key_id    text NOT NULL,
    signature text NOT NULL
);

CREATE FUNCTION gatekeeper.refuse_change() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'evidence is never changed: % on % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = '42501';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON gatekeeper.audit_event
    FOR EACH STATEMENT EXECUTE FUNCTION gatekeeper.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON gatekeeper.audit_checkpoint
    FOR EACH STATEMENT EXECUTE FUNCTION gatekeeper.refuse_change();

REVOKE ALL ON ALL TABLES IN SCHEMA gatekeeper FROM PUBLIC;
