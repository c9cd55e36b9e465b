-- Once a server: the roles. None of them can log in but gk_agent, which owns nothing.
-- __SHARDS__ owners share the work, because from PostgreSQL 16 on a creator slows with
-- the number of its own live roles.

DO $$ BEGIN CREATE ROLE gk_registry NOLOGIN; EXCEPTION WHEN duplicate_object THEN END $$;
DO $$ BEGIN CREATE ROLE gk_graveyard NOLOGIN; EXCEPTION WHEN duplicate_object THEN END $$;
DO $$ BEGIN CREATE ROLE gk_agent LOGIN; EXCEPTION WHEN duplicate_object THEN END $$;
ALTER ROLE gk_agent LOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS;
ALTER ROLE gk_registry NOLOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS;
ALTER ROLE gk_graveyard NOLOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS;
GRANT pg_signal_backend, pg_read_all_stats TO gk_registry;

DO $$ BEGIN
    FOR shard IN 0 .. __SHARDS__ - 1 LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', 'gk_owner_' || lpad(shard::text, 2, '0'));
        EXCEPTION WHEN duplicate_object THEN
        END;
        EXECUTE format('ALTER ROLE %I NOLOGIN NOSUPERUSER CREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS',
            'gk_owner_' || lpad(shard::text, 2, '0'));
        EXECUTE format('GRANT gk_graveyard TO %I', 'gk_owner_' || lpad(shard::text, 2, '0'));
    END LOOP;
END $$;
