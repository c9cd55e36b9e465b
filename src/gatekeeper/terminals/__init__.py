"""Plane 3: a command in a sandbox of its own, seen in the browser, gone at its deadline.

model.py      the values: what is asked for, what runs, how it ended
protocol/     bytes in, messages out: HTTP heads, WebSocket frames, tickets, gk.term.v1, ttyd
ports.py      what the use-cases need: a store, a launcher, tickets, logins, recordings
service.py    the use-cases behind `/terminals`
jobs/         launching, and ending until it is proven

adapters/     the store, and the launchers
web/          the routes and the page
runner/       the process that holds the terminals of one machine: sandbox, PTY, recording
gateway/      the process between browsers and runners; it splices bytes

The data path is browser, gateway, runner: it never crosses a control plane.
"""
