"""The runner: the process that holds the terminals of one machine, or of one pod.

web.py          the ASGI application: orders, clients of gateways, whether it lives
orders.py       signed orders in, signed results out
host.py         all terminals: what is done of an order
session.py      one terminal, from its launch to the proof that nothing of it is left
equipment.py    what it is made with                parts.py       what the wiring gives it
stream.py       its bytes: between PTY, viewers, screen and recording
pty.py          the PTY on an event loop            recording.py   the files, and their chain
programs.py     the screen as text, waiting for a text
viewers.py      a client, whatever it speaks        sockets.py     its WebSocket
term_client.py  one that speaks `gk.term.v1`        tty_client.py  one that speaks `tty`
door.py         the way to its database: two files and a socket
relay.py        from that socket to one login, and to nothing else
ledger.py       what happened to it, until it is told
reports.py      telling the control plane           counting.py    what is counted
metrics.py      the same, for Prometheus            attesting.py   signing what is evidence

sandbox/   where the command runs        screen/   what it shows        bundles/   what it runs
"""
