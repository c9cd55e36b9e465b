"""The composition root: settings in, wired application out. Nothing else picks adapters.

settings.py        what the processes are told      keys.py      key files of a local stack
control_plane.py   the control plane, wired         agent.py     an agent, wired
agents.py          the agents as it reaches them    target.py    setting up and checking a target
surroundings.py    what it has for every plane      store.py     setting up the store
databases.py       what it has of databases         aliases.py   settings' names of the first design
console.py         its pages, and who is signed in
identity.py        who may call it, wired
housekeeping.py    what it counts and tells
forwardauth/       forward auth, wired
terminals/         terminals, wired

Each name is imported when it is first used: a process of one plane loads nothing of another.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from gatekeeper.bootstrap.agent import agent_app, poll_for_jobs
    from gatekeeper.bootstrap.control_plane import control_plane_app
    from gatekeeper.bootstrap.forwardauth.configuration import check_configuration
    from gatekeeper.bootstrap.forwardauth.rehearsal import explain_request, run_tables
    from gatekeeper.bootstrap.forwardauth.serving import serve_forwardauth
    from gatekeeper.bootstrap.keys import Keys, make_keys
    from gatekeeper.bootstrap.settings import AgentSettings, ControlPlaneSettings, load_settings
    from gatekeeper.bootstrap.store import migrate_store, prepare_store
    from gatekeeper.bootstrap.target import (
        DEFAULT_SHARDS,
        MAX_SHARDS,
        Setup,
        Step,
        agent_can_log_in,
        bootstrap_target,
        new_agent_dsn,
        prepare_sample_target,
    )
    from gatekeeper.bootstrap.terminals.gateway import serve_gateway
    from gatekeeper.bootstrap.terminals.gateway_login import prepare_gateway_login
    from gatekeeper.bootstrap.terminals.runner import run_runner
    from gatekeeper.bootstrap.terminals.sandboxes import report_sandboxes
    from gatekeeper.bootstrap.terminals.ticket_keys import rotate_ticket_keys
    from gatekeeper.terminals.settings import RunnerSettings

__all__ = [
    "DEFAULT_SHARDS",
    "MAX_SHARDS",
    "AgentSettings",
    "ControlPlaneSettings",
    "Keys",
    "RunnerSettings",
    "Setup",
    "Step",
    "agent_app",
    "agent_can_log_in",
    "bootstrap_target",
    "check_configuration",
    "control_plane_app",
    "explain_request",
    "load_settings",
    "make_keys",
    "migrate_store",
    "new_agent_dsn",
    "poll_for_jobs",
    "prepare_gateway_login",
    "prepare_sample_target",
    "prepare_store",
    "report_sandboxes",
    "rotate_ticket_keys",
    "run_runner",
    "run_tables",
    "serve_forwardauth",
    "serve_gateway",
]

_HOMES: Final = {
    "agent_app": "agent",
    "poll_for_jobs": "agent",
    "control_plane_app": "control_plane",
    "check_configuration": "forwardauth.configuration",
    "serve_forwardauth": "forwardauth.serving",
    "Keys": "keys",
    "make_keys": "keys",
    "explain_request": "forwardauth.rehearsal",
    "run_tables": "forwardauth.rehearsal",
    "AgentSettings": "settings",
    "ControlPlaneSettings": "settings",
    "load_settings": "settings",
    "migrate_store": "store",
    "prepare_store": "store",
    "rotate_ticket_keys": "terminals.ticket_keys",
    "DEFAULT_SHARDS": "target",
    "MAX_SHARDS": "target",
    "Setup": "target",
    "Step": "target",
    "agent_can_log_in": "target",
    "bootstrap_target": "target",
    "new_agent_dsn": "target",
    "prepare_sample_target": "target",
    "prepare_gateway_login": "terminals.gateway_login",
    "serve_gateway": "terminals.gateway",
    "run_runner": "terminals.runner",
    "report_sandboxes": "terminals.sandboxes",
    "RunnerSettings": "terminals.runner",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401  # whatever the name stands for
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
