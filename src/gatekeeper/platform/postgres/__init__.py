"""PostgreSQL: the embedded server, the connection pool, the migrations.

Admission: what speaks psycopg for everyone. Queries of a plane live in that
plane's `adapters/`; tables are made only by the files in `migrations/`.
"""
