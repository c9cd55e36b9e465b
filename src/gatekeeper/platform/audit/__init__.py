"""The evidence in PostgreSQL.

outbox.py      events, written in the transaction of the change they tell of
sequencer.py   the one writer of the chain, and its signed checkpoints
reader.py      pages of the chain, and its export
routes.py      both over HTTP
"""
