"""Bytes in, messages out. Nothing here does I/O, knows a clock or imports asyncio.

http.py        heads of HTTP/1.1, read strictly
handshake.py   the opening handshake of both sides of a gateway
frames.py      where WebSocket frames begin and end
ticket.py      what a ticket says, and how it travels
attachment.py  what a gateway tells a runner of a client it let in
ttyd.py        `tty`, the protocol of ttyd 1.7, for its clients
sharing.py     one terminal, many viewers: who types, who has seen what
asciicast.py   how a recording is written        redaction.py   what is not to be kept
postgresql.py  the start of a PostgreSQL connection, for a terminal's way to its database

`gk.term.v1`, the closing codes and the recording's format are in `kernel/terminal`: clients and
auditors need them too.
"""
