"""`gk target`: the API's commands, and `bootstrap`, which runs where the admin's DSN is."""

from gatekeeper.entrypoints.cli.target import app
from gatekeeper.entrypoints.operate.target import bootstrap

app.command()(bootstrap)

__all__ = ["app"]
