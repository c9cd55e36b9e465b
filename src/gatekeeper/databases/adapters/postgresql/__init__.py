"""The PostgreSQL adapter (14 to 18), without superuser after set-up.

sql/           roles, tables and helpers, as they are installed at a target
packs/         role packs: what an ephemeral login may do
bootstrap.py   installs both; twice is a no-op; a dry run names every object
provider.py    the `DatabaseProvider` port
helpers.py     calls of the helpers, over a pool
revocation.py  the end of logins, step by step, proven
doctor.py      looks at a target
checks.py      what it says of what it saw, with the statement that mends each failure
translate.py   driver errors to ours
"""
