-- Once an owner, in the home database: what only a role with CREATEROLE can do.
-- gk_registry alone may call these; the checks were made in the helpers above them.

CREATE OR REPLACE FUNCTION gk.make_role___SHARD__(p_name text, p_verifier text, p_pack text,
    p_ends timestamptz, p_connections integer, p_settings text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp __SELF_GRANT__ AS $$
DECLARE
    v_setting text;
BEGIN
    EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION'
        ' NOBYPASSRLS CONNECTION LIMIT %s PASSWORD %L VALID UNTIL %L',
        p_name, p_connections, p_verifier, p_ends);
    EXECUTE format('GRANT %I TO %I __MEMBERSHIP__', p_pack, p_name);
    FOREACH v_setting IN ARRAY p_settings LOOP
        -- A list is a list of literals: as one literal, 'a, b' would be one schema's name.
        EXECUTE format('ALTER ROLE %I SET %I = %s', p_name, split_part(v_setting, '=', 1),
            (SELECT string_agg(quote_literal(btrim(v)), ', ' ORDER BY n) FROM unnest(string_to_array(
                substr(v_setting, strpos(v_setting, '=') + 1), ',')) WITH ORDINALITY AS p (v, n)));
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION gk.disable_role___SHARD__(p_name text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp __SELF_GRANT__ AS $$
BEGIN
    EXECUTE format('ALTER ROLE %I NOLOGIN PASSWORD NULL VALID UNTIL ''-infinity''', p_name);
END $$;

-- Apart from switching off: a REVOKE locks the pack against every issue until the commit.
CREATE OR REPLACE FUNCTION gk.disarm_role___SHARD__(p_name text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp __SELF_GRANT__ AS $$
DECLARE
    v_pack text;
BEGIN
    FOR v_pack IN SELECT r.rolname FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid
        WHERE m.member = (SELECT oid FROM pg_roles WHERE rolname = p_name)
        AND m.grantor = (SELECT oid FROM pg_roles WHERE rolname = current_user) LOOP
        EXECUTE format('REVOKE %I FROM %I', v_pack, p_name);
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION gk.extend_role___SHARD__(p_name text, p_ends timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp __SELF_GRANT__ AS $$
BEGIN
    EXECUTE format('ALTER ROLE %I VALID UNTIL %L', p_name, p_ends);
END $$;

CREATE OR REPLACE FUNCTION gk.drop_role___SHARD__(p_name text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp __SELF_GRANT__ AS $$
BEGIN
    EXECUTE format('DROP ROLE IF EXISTS %I', p_name);
END $$;

DO $$ DECLARE helper text; BEGIN
    FOREACH helper IN ARRAY ARRAY[
        'make_role___SHARD__(text, text, text, timestamptz, integer, text[])',
        'disable_role___SHARD__(text)', 'disarm_role___SHARD__(text)',
        'extend_role___SHARD__(text, timestamptz)', 'drop_role___SHARD__(text)'] LOOP
        EXECUTE format('ALTER FUNCTION gk.%s OWNER TO gk_owner___SHARD__', helper);
        EXECUTE format('REVOKE ALL ON FUNCTION gk.%s FROM PUBLIC', helper);
        EXECUTE format('GRANT EXECUTE ON FUNCTION gk.%s TO gk_registry', helper);
    END LOOP;
END $$;
GRANT USAGE ON SCHEMA gk TO gk_owner___SHARD__;
