"""A real PostgreSQL of our own: found, made, started and stopped without `pg_ctl`.

`find_binaries` looks for a PostgreSQL on this machine; `EmbeddedServer` runs it on
one data folder as our own child. Why it is made this way: docs/adr/0001-embedded-postgres.md.

Next to the data folder `X` (which must have a parent folder of ours) stand

    postgres-X.password   the superuser's random password, mode 0600
    postgres-X.log        what the server says; never a statement or a value
    postgres-X.lock       held while an `EmbeddedServer` uses `X`
    postgres-X.initdb-*/  a data folder being made; renamed to `X` once whole

It listens on 127.0.0.1 alone, asks SCRAM-SHA-256 of everyone, and dies with us: the
kernel stops it when the *thread* that called `start` ends (prctl(2), PR_SET_PDEATHSIG),
so start it from a thread that lives as long as the server shall.

binaries.py   which PostgreSQL     folder.py      its data, and our files beside it
server.py     start and stop       processes.py   its programs as our children
"""

from gatekeeper.platform.postgres.embedded.binaries import Binaries, find_binaries
from gatekeeper.platform.postgres.embedded.server import EmbeddedServer

__all__ = ["Binaries", "EmbeddedServer", "find_binaries"]
