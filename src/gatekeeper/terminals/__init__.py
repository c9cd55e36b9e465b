"""Plane 3: a command in a sandbox of its own, seen in the browser, gone at its deadline.

model.py      the values: what is asked for, what runs, how it ended
errors.py     what can go wrong, and refusals    settings.py   limits, and what each process is told
protocol/     bytes in, messages out: HTTP heads, WebSocket frames, tickets, ttyd
evidence.py   the events of the audit log
ports/        what the use-cases need: a store, a launcher, tickets, logins, recordings

service/      the use-cases behind `/terminals`: what callers ask
jobs/         launching, and ending until it is proven: what is due
reporting.py  what runners tell
losing.py     giving up what a runner lost
moving.py     the steps that these share

adapters/     the store, and the launchers
web/          the routes and the page
runner/       the process that holds the terminals of one machine: sandbox, PTY, recording
gateway/      the process between browsers and runners; it splices bytes

The data path is browser, gateway, runner: it never crosses a control plane.
"""
