-- The role that control planes work as: it owns nothing, and the evidence it can only add to.
-- Where the owner of these tables may not make roles, an administrator makes it beforehand:
--   CREATE ROLE gatekeeper_app NOLOGIN

DO $$
BEGIN
    -- Roles are shared by a whole server: another store may have been here before.
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'gatekeeper_app') THEN
        CREATE ROLE gatekeeper_app NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL; -- and may be just now
END $$;

GRANT USAGE ON SCHEMA gatekeeper TO gatekeeper_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA gatekeeper TO gatekeeper_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA gatekeeper TO gatekeeper_app;
-- What later migrations make is for the application too, unless they say otherwise.
ALTER DEFAULT PRIVILEGES IN SCHEMA gatekeeper
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO gatekeeper_app;
ALTER DEFAULT PRIVILEGES IN SCHEMA gatekeeper GRANT USAGE ON SEQUENCES TO gatekeeper_app;

-- Evidence: written once, and then read. The sequencer takes events out of the outbox.
REVOKE UPDATE, DELETE ON gatekeeper.audit_event, gatekeeper.audit_checkpoint FROM gatekeeper_app;
REVOKE UPDATE ON gatekeeper.audit_outbox FROM gatekeeper_app;
-- What was applied is the owner's to say.
REVOKE INSERT, UPDATE, DELETE ON gatekeeper.migration FROM gatekeeper_app;
REVOKE EXECUTE ON FUNCTION gatekeeper.refuse_change() FROM PUBLIC;

ALTER TABLE gatekeeper.audit_outbox
    ADD COLUMN recorded_at timestamptz NOT NULL DEFAULT clock_timestamp();
