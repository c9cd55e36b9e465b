-- Run once for each database, schema and owner, which are put in as identifiers.
GRANT CONNECT ON DATABASE {database} TO app_read;
GRANT USAGE ON SCHEMA {schema} TO app_read;
GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO app_read;
GRANT SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO app_read;
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT SELECT ON TABLES TO app_read;
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT SELECT ON SEQUENCES TO app_read;
