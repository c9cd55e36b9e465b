"""Environment names of what is no setting by itself: the first design's, each as it meant then,
and the client secret, which stands in a list of issuers.

They are over the file, as every variable is, and under the names that begin with
`GATEKEEPER_`. What fits no setting is refused there, with the setting's own name.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from gatekeeper.kernel.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Values = dict[str, Any]
    Aliases = Mapping[str, Callable[[Values, str], None]]

_MODES: Final = MappingProxyType({"http": "push"})
"""What the first design called a transport."""


def with_aliases(aliases: Aliases, values: Values, environment: Mapping[str, str]) -> Values:
    """Return the values with those over them that the environment has under its old names."""
    for name, put in aliases.items():
        if name in environment:
            put(values, environment[name])
    return values


def _at(key: str) -> Callable[[Values, str], None]:
    def put(values: Values, text: str) -> None:
        values[key] = text

    return put


def _log_level(values: Values, text: str) -> None:
    values["log_level"] = text.upper()


def _mode(values: Values, text: str) -> None:
    values["mode"] = _MODES.get(text, text)


def _of_the_agent(name: str, put: Callable[[Values, str], None]) -> Callable[[Values, str], None]:
    """Set it for the one agent there is: the first design knew no more than one."""

    def put_inside(values: Values, text: str) -> None:
        agents = values.get("agents", {})
        if len(agents) != 1:
            msg = f"{name} means the one agent of a control plane, and here are {len(agents)}"
            raise InputError(msg)
        for agent in agents.values():
            put(agent, text)

    return put_inside


def _dsn_from_environment(values: Values, _host: str) -> None:
    """A target without DSN is where libpq's own variables say: PGHOST, PGPASSWORD, ..."""
    for target in values.get("targets", ()):
        target.setdefault("dsn", "")


def _client_secret(values: Values, text: str) -> None:
    issuers = [one for one in values.get("issuers", ()) if "client_id" in one]
    if len(issuers) != 1:
        msg = (
            "GATEKEEPER_CLIENT_SECRET means the one issuer with a client_id, and here are"
            f" {len(issuers)}"
        )
        raise InputError(msg)
    issuers[0]["client_secret"] = text


CONTROL_PLANE: Final[Aliases] = MappingProxyType(
    {
        "CONTROL_PLANE_PORT": _at("listen_port"),
        "SESSION_MAX_TTL_MINUTES": _at("max_ttl_minutes"),
        "AGENT_INTERNAL_URL": _of_the_agent("AGENT_INTERNAL_URL", _at("url")),
        "AGENT_MODE": _of_the_agent("AGENT_MODE", _mode),
        "GATEKEEPER_CLIENT_SECRET": _client_secret,
        "LOG_LEVEL": _log_level,
    }
)
AGENT: Final[Aliases] = MappingProxyType(
    {
        "AGENT_PORT": _at("listen_port"),
        "AGENT_MODE": _mode,
        "AGENT_POLL_INTERVAL_MS": _at("poll_interval_ms"),
        "ROLEPACK_VERSION": _at("role_pack_version"),
        "PGHOST": _dsn_from_environment,
        "LOG_LEVEL": _log_level,
    }
)
