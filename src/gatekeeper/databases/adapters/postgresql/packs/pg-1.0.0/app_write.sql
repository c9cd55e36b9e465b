-- Run once for each database, schema and owner, which are put in as identifiers.
GRANT CONNECT ON DATABASE {database} TO app_write;
GRANT USAGE ON SCHEMA {schema} TO app_write;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO app_write;
GRANT SELECT, USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO app_write;
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO app_write;
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT SELECT, USAGE ON SEQUENCES TO app_write;
