"""Terminals in PostgreSQL, the control plane's own database.

terminals.py   the `TerminalStore` port     unit.py   the `TerminalUnit` port: one transaction
rows.py        rows to values: what knows the columns
queries.py     the statements
"""

from gatekeeper.terminals.adapters.store.terminals import PostgresTerminalStore
from gatekeeper.terminals.adapters.store.unit import CHANNEL, END, LAUNCH, LISTEN, TRACE, Claim

__all__ = ["CHANNEL", "END", "LAUNCH", "LISTEN", "TRACE", "Claim", "PostgresTerminalStore"]
