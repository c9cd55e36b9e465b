"""Bytes in, messages out. Nothing here does I/O, knows a clock or imports asyncio.

ttyd.py       `tty`, the protocol of ttyd 1.7, for its clients
ticket.py     what a ticket says, and how it travels
http.py       heads of HTTP/1.1, read strictly
handshake.py  the opening handshake of both sides of a gateway
frames.py     where WebSocket frames begin and end
attachment.py what a gateway tells a runner of a client it let in

`gk.term.v1`, the closing codes and the recording's format are in `kernel/terminal`: clients and
auditors need them too.
"""
