-- Once an owner, in every database: what happens to objects that an ended login owns.
-- DROP OWNED and REASSIGN OWNED act on the current database alone, and need membership
-- in the login, which its creator gives itself here and which goes with the login.
-- Anybody may make large objects, any number of them, and each takes a lock until the commit:
-- all in one transaction they would fill the lock table, which is everybody's. So they are
-- handled a portion a call, and the caller calls again while anything is answered. Some of what
-- is owned is named, and the rest counted: it all goes into one answer.

CREATE SCHEMA IF NOT EXISTS gk;
ALTER SCHEMA gk OWNER TO gk_registry;
REVOKE ALL ON SCHEMA gk FROM PUBLIC;
GRANT USAGE ON SCHEMA gk TO gk_agent, gk_owner___SHARD__;

CREATE OR REPLACE FUNCTION gk.release_owned___SHARD__(p_name text, p_policy text) RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
__SELF_GRANT__ AS $$
DECLARE
    v_oid    oid;
    v_owned  text[];
    v_number bigint;
    v_large  oid;
BEGIN
    IF p_name !~ '^gk_[a-z2-7]{20}$' OR p_policy NOT IN ('quarantine', 'reassign', 'drop') THEN
        RAISE EXCEPTION 'not a login of ours, or no policy' USING ERRCODE = 'GK001';
    END IF;
    SELECT oid INTO v_oid FROM pg_roles WHERE rolname = p_name AND NOT rolcanlogin;
    IF v_oid IS NULL THEN
        RETURN '{}';
    END IF;
    WITH owned AS MATERIALIZED (SELECT classid, objid FROM pg_shdepend
        WHERE refclassid = 'pg_authid'::regclass AND refobjid = v_oid AND deptype = 'o'
        AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database()))
    SELECT count(*), ARRAY(SELECT left(pg_describe_object(classid, objid, 0), 200)
            FROM (SELECT * FROM owned ORDER BY classid, objid LIMIT 20) AS named)
        INTO v_number, v_owned FROM owned;
    IF v_number > 20 THEN
        v_owned := v_owned || format('%s more', v_number - 20);
    END IF;
    IF p_policy = 'quarantine' AND v_owned <> '{}' THEN
        RETURN v_owned;
    END IF;
    EXECUTE format('GRANT %I TO gk_owner___SHARD__ __MEMBERSHIP__', p_name);
    IF v_number > 1000 THEN
        FOR v_large IN SELECT objid FROM pg_shdepend
            WHERE refclassid = 'pg_authid'::regclass AND refobjid = v_oid AND deptype = 'o'
            AND classid = 'pg_largeobject'::regclass
            AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
            LIMIT 1000 LOOP
            IF p_policy = 'reassign' THEN
                EXECUTE format('ALTER LARGE OBJECT %s OWNER TO gk_graveyard', v_large);
            ELSE
                PERFORM lo_unlink(v_large);
            END IF;
        END LOOP;
        IF FOUND THEN
            RETURN v_owned;
        END IF;
    END IF;
    IF p_policy = 'reassign' THEN
        EXECUTE format('REASSIGN OWNED BY %I TO gk_graveyard', p_name);
    END IF;
    EXECUTE format('DROP OWNED BY %I', p_name);
    RETURN v_owned;
END $$;

ALTER FUNCTION gk.release_owned___SHARD__(text, text) OWNER TO gk_owner___SHARD__;
REVOKE ALL ON FUNCTION gk.release_owned___SHARD__(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION gk.release_owned___SHARD__(text, text) TO gk_agent;
DO $$ BEGIN
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO gk_agent', current_database());
END $$;
