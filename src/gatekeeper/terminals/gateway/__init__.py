"""The process between clients and runners: it lets clients in, and splices bytes.

tickets.py     whether a ticket is believed        claims.py      using it up, by one statement
directory.py   where a terminal is                 upstream.py    a connection to its runner
admission.py   all of these, in their order        connection.py  a client until it is let in
splice.py      a client and its runner, joined     sides.py       what their transports tell
sessions.py    all that are joined; their clock
watching.py    ends that the store tells of        counting.py    metrics
server.py      one process: listen, serve, drain   worker.py      the same, until a signal
workers.py     several of them on one port

What is held of a joined pair is the budget: two transports, two protocols, two trackers and a
session; no task, no buffer, and nothing of the handshake.
"""
