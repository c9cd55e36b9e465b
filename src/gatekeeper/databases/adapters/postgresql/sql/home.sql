-- Once a target, in its home database: the registry of logins and the helpers over it.
-- Every helper is SECURITY DEFINER with a fixed search_path, owned by a role that cannot
-- log in, and executable by gk_agent alone. Locks are row locks in gk.login, a table that
-- nobody else can touch: an advisory lock could be squatted by any login.

CREATE SCHEMA IF NOT EXISTS gk;
ALTER SCHEMA gk OWNER TO gk_registry;
REVOKE ALL ON SCHEMA gk FROM PUBLIC;
GRANT USAGE ON SCHEMA gk TO gk_agent;

CREATE TABLE IF NOT EXISTS gk.pack (
    name             text PRIMARY KEY,
    version          text NOT NULL,
    max_ttl          interval NOT NULL,
    connection_limit integer NOT NULL,
    settings         text[] NOT NULL
);
CREATE TABLE IF NOT EXISTS gk.login (
    name       text PRIMARY KEY,
    role_oid   oid,
    shard      integer NOT NULL,
    pack       text NOT NULL,
    verifier   bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    ended_at   timestamptz
);
CREATE INDEX IF NOT EXISTS login_ended ON gk.login (ended_at) WHERE ended_at IS NOT NULL;
ALTER TABLE gk.pack OWNER TO gk_registry;
ALTER TABLE gk.login OWNER TO gk_registry;
REVOKE ALL ON gk.pack, gk.login FROM PUBLIC;

CREATE OR REPLACE FUNCTION gk.check_name(p_name text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_name IS NULL OR p_name !~ '^gk_[a-z2-7]{20}$' THEN
        RAISE EXCEPTION 'the name is not one of an ephemeral login' USING ERRCODE = 'GK001';
    END IF;
END $$;

CREATE OR REPLACE FUNCTION gk.check_names(p_names text[]) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_name text;
BEGIN
    FOREACH v_name IN ARRAY p_names LOOP
        PERFORM gk.check_name(v_name);
    END LOOP;
END $$;

-- Whoever looks at pg_stat_activity, or logs application_name, sees which session (and how many
-- more) the agent works for; it ends with the transaction.
CREATE OR REPLACE FUNCTION gk.say_for_whom(p_names text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('application_name', 'gk/ses_' || substr(p_names[1], 4)
        || CASE WHEN cardinality(p_names) > 1 THEN ' +' || cardinality(p_names) - 1 ELSE '' END, true);
END $$;

-- Of many at once, each may wait for a lock as long as a batch can bear.
CREATE OR REPLACE FUNCTION gk.wait_briefly(p_names text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF cardinality(p_names) > 1 THEN
        PERFORM set_config('lock_timeout', '30ms', true);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION gk.create_login(p_name text, p_verifier text, p_pack text, p_ttl interval)
RETURNS TABLE (expires_at timestamptz, target_now timestamptz, already_existed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    v_pack  gk.pack;
    v_login gk.login;
    v_digest bytea;
    v_now   timestamptz := clock_timestamp();
    v_ends  timestamptz := v_now + p_ttl;
    v_shard integer;
BEGIN
    PERFORM gk.check_name(p_name), gk.say_for_whom(ARRAY[p_name]);
    IF p_verifier IS NULL OR p_verifier !~
        '^SCRAM-SHA-256\$[1-9][0-9]{0,4}:[A-Za-z0-9+/]{22}==\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=$'
    THEN
        RAISE EXCEPTION 'only a SCRAM-SHA-256 verifier is taken' USING ERRCODE = 'GK001';
    END IF;
    SELECT * INTO v_pack FROM gk.pack WHERE name = p_pack;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the role pack is not installed here' USING ERRCODE = 'GK001';
    END IF;
    -- Times are compared, not intervals: for those a month has 30 days, and '1200 months
    -- -36000 days 1 second' is a second, which added to a time is a year and a half.
    IF p_ttl IS NULL OR v_ends <= v_now OR v_ends > v_now + v_pack.max_ttl THEN
        RAISE EXCEPTION 'the TTL is outside what the role pack allows' USING ERRCODE = 'GK001';
    END IF;
    v_digest := sha256(convert_to(p_verifier, 'UTF8'));
    v_shard := abs(hashtext(p_name)::bigint) % __SHARDS__;
    INSERT INTO gk.login (name, shard, pack, verifier, expires_at)
        VALUES (p_name, v_shard, p_pack, v_digest, v_ends) ON CONFLICT (name) DO NOTHING;
    IF NOT FOUND THEN
        SELECT * INTO v_login FROM gk.login WHERE name = p_name FOR UPDATE;
        IF v_login.ended_at IS NOT NULL THEN
            RAISE EXCEPTION 'the login was ended before' USING ERRCODE = 'GK002';
        END IF;
        IF v_login.verifier <> v_digest OR v_login.pack <> p_pack THEN
            RAISE EXCEPTION 'the login exists with another verifier or pack' USING ERRCODE = 'GK001';
        END IF;
        RETURN QUERY SELECT v_login.expires_at, clock_timestamp(), true;
        RETURN;
    END IF;
    EXECUTE format('SELECT gk.make_role_%s($1, $2, $3, $4, $5, $6)', lpad(v_shard::text, 2, '0'))
        USING p_name, p_verifier, p_pack, v_ends, v_pack.connection_limit, v_pack.settings;
    UPDATE gk.login SET role_oid = (SELECT oid FROM pg_roles WHERE rolname = p_name)
        WHERE name = p_name;
    RETURN QUERY SELECT v_ends, clock_timestamp(), false;
END $$;

CREATE OR REPLACE FUNCTION gk.mark_ended(p_name text)
RETURNS TABLE (existed boolean, shard integer)
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO gk.login AS l (name, role_oid, shard, pack, verifier, expires_at, ended_at)
        VALUES (p_name, (SELECT oid FROM pg_roles WHERE rolname = p_name), 0, '', '',
            clock_timestamp(), clock_timestamp())
        ON CONFLICT (name) DO UPDATE SET
            ended_at = coalesce(l.ended_at, excluded.ended_at),
            role_oid = coalesce(l.role_oid, excluded.role_oid)
        RETURNING l.role_oid IS NOT NULL, l.shard
$$;

-- Off, and remembered as ended even when they were never made: a late create is refused.
-- One login that somebody holds must not hold up the others: it comes back with its
-- SQLSTATE, and alone it may wait longer. That it ended is kept also where its role could
-- not be changed yet, so that its backends can be told to go.
CREATE OR REPLACE FUNCTION gk.disable_logins(p_names text[])
RETURNS TABLE (username text, existed boolean, failed text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    v_shard integer;
BEGIN
    PERFORM gk.check_names(p_names), gk.say_for_whom(p_names), gk.wait_briefly(p_names);
    FOR username IN SELECT name FROM unnest(p_names) AS n (name) ORDER BY name LOOP
        existed := false;
        failed := NULL;
        BEGIN
            SELECT * INTO existed, v_shard FROM gk.mark_ended(username);
            IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = username) THEN
                BEGIN
                    EXECUTE format('SELECT gk.disable_role_%s($1)', lpad(v_shard::text, 2, '0'))
                        USING username;
                EXCEPTION WHEN OTHERS THEN
                    failed := SQLSTATE;
                END;
            END IF;
        EXCEPTION WHEN OTHERS THEN
            failed := SQLSTATE;
        END;
        RETURN NEXT;
    END LOOP;
END $$;

-- Tell every backend of ended logins to go; count those that this look still saw.
CREATE OR REPLACE FUNCTION gk.end_backends(p_names text[])
RETURNS TABLE (username text, backends integer, target_now timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM gk.check_names(p_names);
    RETURN QUERY
        WITH ended AS MATERIALIZED (SELECT name, role_oid FROM gk.login
            WHERE name = ANY (p_names) AND ended_at IS NOT NULL),
        told AS MATERIALIZED (
            SELECT name, pg_terminate_backend(pid) FROM pg_stat_activity
            JOIN ended ON role_oid = usesysid)
        SELECT ended.name, count(told.name)::integer, clock_timestamp()
        FROM ended LEFT JOIN told ON told.name = ended.name GROUP BY ended.name;
END $$;

-- Log-ins of anybody that are not in yet: they hold a transaction, and have no user or database
-- to show. `waits`: for a lock, which nobody does who has still to prove who he is.
CREATE OR REPLACE FUNCTION gk.log_ins_under_way() RETURNS TABLE (who text, waits boolean)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT l.virtualtransaction, bool_or(NOT l.granted)
    FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.pid IS NOT NULL AND a.datid IS NULL AND a.usesysid IS NULL
    GROUP BY l.virtualtransaction HAVING bool_or(l.locktype = 'virtualxid')
$$;

-- Drop ended logins that have no backend and own nothing; say what still stands of the
-- others, which keep no membership either.
CREATE OR REPLACE FUNCTION gk.drop_logins(p_names text[]) RETURNS TABLE (username text, remains text[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    v_left record;
    v_step text;
BEGIN
    PERFORM gk.say_for_whom(p_names), gk.wait_briefly(p_names);
    FOR v_left IN SELECT r.*, l.shard FROM gk.remains(p_names) r JOIN gk.login l ON l.name = r.username
        WHERE l.ended_at IS NOT NULL ORDER BY r.username LOOP
        IF 'role' = ANY (v_left.remains) THEN
            v_step := CASE WHEN v_left.remains = ARRAY['role'] THEN 'drop' ELSE 'disarm' END;
            BEGIN
                EXECUTE format('SELECT gk.%s_role_%s($1)', v_step, lpad(v_left.shard::text, 2, '0'))
                    USING v_left.username;
                IF v_step = 'drop' THEN
                    v_left.remains := array_remove(v_left.remains, 'role');
                END IF;
            EXCEPTION WHEN OTHERS THEN
                v_left.remains := v_left.remains || ('SQLSTATE ' || SQLSTATE);
            END;
        END IF;
        RETURN QUERY SELECT v_left.username, v_left.remains;
    END LOOP;
END $$;

-- What of each login is still there, read from the catalogue: nothing means gone. A
-- prepared transaction outlives its backend and keeps its locks: only a superuser can end it.
-- Some are named, and not all: the names are its holder's words.
CREATE OR REPLACE FUNCTION gk.remains(p_names text[]) RETURNS TABLE (username text, remains text[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM gk.check_names(p_names);
    RETURN QUERY
        WITH logins AS MATERIALIZED (
            SELECT n.name, r.oid IS NOT NULL AS present, coalesce(r.oid, l.role_oid) AS role
            FROM unnest(p_names) AS n (name)
            LEFT JOIN gk.login l ON l.name = n.name LEFT JOIN pg_roles r ON r.rolname = n.name),
        active AS MATERIALIZED (SELECT DISTINCT usesysid FROM pg_stat_activity)
        SELECT name,
            CASE WHEN present THEN ARRAY['role'] ELSE '{}' END
            || CASE WHEN role IN (SELECT usesysid FROM active) THEN ARRAY['backends'] ELSE '{}' END
            || ARRAY(SELECT DISTINCT 'objects in ' || coalesce(quote_ident(d.datname), 'the server')
                FROM pg_shdepend s LEFT JOIN pg_database d ON d.oid = s.dbid
                WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = role)
            || ARRAY(SELECT format('prepared transaction %L in %I', p.gid, p.database)
                FROM pg_prepared_xacts p WHERE p.owner = logins.name ORDER BY p.prepared LIMIT 5)
        FROM logins;
END $$;

CREATE OR REPLACE FUNCTION gk.databases_of(p_name text) RETURNS SETOF text
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT DISTINCT d.datname::text FROM gk.login l
    JOIN pg_shdepend s ON s.refclassid = 'pg_authid'::regclass AND s.refobjid = l.role_oid
    JOIN pg_database d ON d.oid = s.dbid
    WHERE l.name = p_name AND l.ended_at IS NOT NULL
$$;

CREATE OR REPLACE FUNCTION gk.pack_names() RETURNS text[]
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(array_agg(name), '{}') FROM gk.pack
$$;

CREATE OR REPLACE FUNCTION gk.shard_of(p_name text) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT shard FROM gk.login WHERE name = p_name
$$;

CREATE OR REPLACE FUNCTION gk.extend_login(p_name text, p_ttl interval)
RETURNS TABLE (expires_at timestamptz, target_now timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    v_login gk.login;
    v_now   timestamptz := clock_timestamp();
    v_ends  timestamptz := v_now + p_ttl;
BEGIN
    PERFORM gk.check_name(p_name), gk.say_for_whom(ARRAY[p_name]);
    SELECT * INTO v_login FROM gk.login WHERE name = p_name AND ended_at IS NULL FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no such login, or it was ended' USING ERRCODE = 'GK002';
    END IF;
    IF p_ttl IS NULL OR v_ends <= v_now
        OR v_ends > v_now + (SELECT max_ttl FROM gk.pack WHERE name = v_login.pack) THEN
        RAISE EXCEPTION 'the TTL is outside what the role pack allows' USING ERRCODE = 'GK001';
    END IF;
    EXECUTE format('SELECT gk.extend_role_%s($1, $2)', lpad(v_login.shard::text, 2, '0'))
        USING p_name, v_ends;
    UPDATE gk.login l SET expires_at = v_ends WHERE l.name = p_name;
    RETURN QUERY SELECT v_ends, clock_timestamp();
END $$;

-- Every role with a name of ours, and what about it is not as it was made.
CREATE OR REPLACE FUNCTION gk.list_logins()
RETURNS TABLE (username text, can_login boolean, expires_at timestamptz, backends integer,
               packs text[], drift text[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
    WITH roles AS (SELECT * FROM pg_roles WHERE rolname ~ '^gk_[a-z2-7]{20}$'),
    memberships AS (
        SELECT m.member, array_agg(r.rolname::text ORDER BY r.rolname) AS names
        FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid
        WHERE m.member IN (SELECT oid FROM roles) GROUP BY m.member),
    active AS (
        SELECT usesysid, count(*)::integer AS open FROM pg_stat_activity
        WHERE usesysid IN (SELECT oid FROM roles) GROUP BY usesysid)
    SELECT r.rolname::text, r.rolcanlogin,
        CASE WHEN isfinite(r.rolvaliduntil) THEN r.rolvaliduntil END, coalesce(a.open, 0),
        coalesce(m.names, '{}'),
        array_remove(ARRAY[
            CASE WHEN l.name IS NULL THEN 'it was not made by these helpers' END,
            CASE WHEN l.name IS NOT NULL AND l.ended_at IS NULL
                AND r.rolvaliduntil IS DISTINCT FROM l.expires_at THEN 'its end was moved' END,
            CASE WHEN r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication
                OR r.rolbypassrls THEN 'it was given attributes' END,
            CASE WHEN l.ended_at IS NULL AND coalesce(m.names, '{}') <> ARRAY[l.pack]
                THEN 'its memberships were changed' END,
            CASE WHEN l.ended_at IS NULL AND NOT gk.password_is(r.oid, l.verifier)
                THEN 'its password was changed' END], NULL)
    FROM roles r
    LEFT JOIN gk.login l ON l.name = r.rolname
    LEFT JOIN memberships m ON m.member = r.oid
    LEFT JOIN active a ON a.usesysid = r.oid;
END $$;

-- True also where the set-up could not grant a look at the stored verifier (managed
-- servers): `doctor` says so.
CREATE OR REPLACE FUNCTION gk.password_is(p_role oid, p_digest bytea) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN EXISTS (SELECT 1 FROM pg_authid WHERE oid = p_role
        AND sha256(convert_to(rolpassword, 'UTF8')) = p_digest);
EXCEPTION WHEN insufficient_privilege THEN
    RETURN true;
END $$;

-- Logins that still stand though their time was over, or they were ended, a while ago.
CREATE OR REPLACE FUNCTION gk.overdue_logins(p_grace interval) RETURNS SETOF text
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT l.name FROM gk.login l JOIN pg_roles r ON r.rolname = l.name
    WHERE least(l.ended_at, l.expires_at) < clock_timestamp() - p_grace
$$;

-- Never what ended within a day: until then somebody may still bring a job that makes it anew.
CREATE OR REPLACE FUNCTION gk.forget_ended(p_older interval) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH gone AS (DELETE FROM gk.login
        WHERE ended_at < least(clock_timestamp() - p_older, clock_timestamp() - interval '1 day')
        AND NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = name) RETURNING 1)
    SELECT count(*)::integer FROM gone
$$;

DO $$ DECLARE helper regprocedure; BEGIN
    FOR helper IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'gk'::regnamespace
        AND p.proname !~ '_[0-9]{2}$' LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO gk_registry', helper);
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', helper);
    END LOOP;
END $$;
GRANT EXECUTE ON FUNCTION gk.create_login(text, text, text, interval), gk.disable_logins(text[]),
    gk.end_backends(text[]), gk.log_ins_under_way(), gk.drop_logins(text[]), gk.remains(text[]),
    gk.databases_of(text), gk.shard_of(text), gk.pack_names(), gk.extend_login(text, interval),
    gk.list_logins(), gk.overdue_logins(interval), gk.forget_ended(interval) TO gk_agent;
DO $$ BEGIN
    GRANT SELECT (oid, rolname, rolpassword) ON pg_authid TO gk_registry;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'changed passwords cannot be seen on this server';
END $$;
