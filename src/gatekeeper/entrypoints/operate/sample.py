"""What the stack on one machine is told: its people, its policy, and what may be run."""

from __future__ import annotations

from typing import Any, Final

TARGET: Final = "pg-local"
SAMPLE_DATABASE: Final = "shop"
RUNNER: Final = "local"

DEVELOPMENT_USERS: Final = (
    {"name": "dana", "email": "dana@example.com", "groups": ["engineering"]},
    {"name": "olga", "email": "olga@example.com", "groups": ["engineering", "operators"]},
)

POLICY: Final = """\
# Who may have what, where, and for how long. Changes are picked up as you save them.
apiVersion: gatekeeper/v1
kind: Policy
grants:
  - name: engineers-read-and-write-locally
    who: { groups: [engineering] }
    plane: databases
    targets: ["pg-local"]
    roles: [app_read, app_write]
    maxTtl: 1h
  - name: operators-administer-locally
    who: { groups: [operators] }
    plane: databases
    targets: ["pg-local"]
    roles: [app_admin]
    maxTtl: 30m
  # A terminal's target is the runner, its role the profile.
  - name: engineers-use-terminals-locally
    who: { groups: [engineering] }
    plane: terminals
    targets: ["local"]
    roles: [shell, command, bundle]
    maxTtl: 1h
limits: { sessionsPerPrincipal: 50, requestsPerMinute: 600 }
"""

PROFILES: Final[tuple[dict[str, Any], ...]] = (
    {"name": "shell", "any_command": True},
    {"name": "command", "command": ["/bin/true"], "any_command": True, "idle_seconds": 600},
    {"name": "bundle", "command": ["/bin/true"], "any_command": True, "bundles": True},
)
"""A shell; one command, which may be quiet for ten minutes; a bundle and what runs in it."""

BUNDLES: Final[dict[str, Any]] = {
    "allowed_hosts": ["127.0.0.1", "localhost"],
    "allow_http_on_loopback": True,
}
"""From this machine alone, to try bundles out: examples/sample-cli."""
