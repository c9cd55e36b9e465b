"""Bytes in, messages out. Nothing here does I/O, knows a clock or imports asyncio.

closing.py    why a socket was closed: the codes
term.py       `gk.term.v1`, between a client and a runner
ttyd.py       `tty`, the protocol of ttyd 1.7, for its clients
ticket.py     what a ticket says, and how it travels
attachment.py what a gateway tells a runner of a client it let in
"""
