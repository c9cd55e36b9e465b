"""`gk policy`: the API's command, and those that work on files."""

from gatekeeper.entrypoints.cli.policy import app
from gatekeeper.entrypoints.operate.policy import run_tests, validate

app.command()(validate)
app.command("test")(run_tests)

__all__ = ["app"]
