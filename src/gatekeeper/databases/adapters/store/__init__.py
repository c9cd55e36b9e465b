"""Sessions in PostgreSQL, the control plane's own database.

sessions.py   the `SessionStore` port     unit.py   the `SessionUnit` port: one transaction
rows.py       rows to values; the one place that knows the columns
"""

from gatekeeper.databases.adapters.store.sessions import PostgresSessionStore
from gatekeeper.databases.adapters.store.unit import CHANNEL, CLEANUP, END, ISSUE, TRACE, Claim

__all__ = ["CHANNEL", "CLEANUP", "END", "ISSUE", "TRACE", "Claim", "PostgresSessionStore"]
