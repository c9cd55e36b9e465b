"""What the processes are told: a TOML file, with the environment over it. Unknown keys are errors.

An environment name is `GATEKEEPER_` and the key in capitals. The names of the first design
(`PGHOST`, `AGENT_PORT`, ...) are understood too: see `aliases.py`. Errors name the key and
what was expected, never the value.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PositiveInt,
    Tag,
    ValidationError,
    model_validator,
)

from gatekeeper.bootstrap import aliases
from gatekeeper.databases.model import ROLE_PACK_VERSION
from gatekeeper.databases.settings import AgentTargetSettings, TargetSettings
from gatekeeper.kernel.errors import InputError
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.oidc.development import DevelopmentUser
from gatekeeper.platform.oidc.verifier import IssuerSettings
from gatekeeper.platform.oidc.workload import WorkloadIssuerSettings
from gatekeeper.terminals.settings import TerminalSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatekeeper.databases.model import Target
    from gatekeeper.kernel.identity import Principal

CONTROL_PLANE_PORT: Final = 4000
AGENT_PORT: Final = 4001
GATEWAY_PORT: Final = 4002
MAX_SETTINGS_BYTES: Final = 1_048_576
PREFIX: Final = "GATEKEEPER_"
SECRET_KEYS: Final = ("dsn", "client_secret")

Origin = Annotated[str, Field(pattern=r"^https?://[a-z0-9.-]+(:[0-9]{1,5})?$")]
Port = Annotated[int, Field(ge=1, le=65535)]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PushedAgent(_Settings):
    """An agent that listens."""

    mode: Literal["push"] = "push"
    url: str
    """Where its jobs are pushed to."""
    public_key: str
    """Its Ed25519 public key, a JWK as JSON."""


class PollingAgent(_Settings):
    """An agent that may only dial out: it fetches its jobs."""

    mode: Literal["poll"]
    public_key: str


class InProcessAgent(_Settings):
    """An agent inside the control plane's own process."""

    mode: Literal["inprocess"]
    key_file: Path
    targets: tuple[AgentTargetSettings, ...]


def _mode(agent: Any) -> str | None:  # noqa: ANN401  # not validated yet
    mode = agent.get("mode", "push") if isinstance(agent, dict) else getattr(agent, "mode", None)
    return mode if isinstance(mode, str) else None


AgentOfPlane = Annotated[
    Annotated[PushedAgent, Tag("push")]
    | Annotated[PollingAgent, Tag("poll")]
    | Annotated[InProcessAgent, Tag("inprocess")],
    Discriminator(_mode),
]
"""An agent as the control plane knows it, by `mode`."""


class ControlPlaneSettings(_Settings):
    aliases: ClassVar = aliases.CONTROL_PLANE

    name: str = "control-plane"
    store_dsn: Secret
    public_url: str
    listen_host: str = "127.0.0.1"
    listen_port: Port = CONTROL_PLANE_PORT
    key_folder: Path
    policy: Path
    issuers: tuple[IssuerSettings, ...] = ()
    workload_issuers: tuple[WorkloadIssuerSettings, ...] = ()
    """Whose tokens CI jobs exchange for ours, and which job is which workload."""
    development_users: tuple[DevelopmentUser, ...] = ()
    """Who the embedded issuer knows; it runs on loopback only, and only when this is not empty."""
    console_sign_in_origins: frozenset[Origin] = frozenset()
    """Origins of pages elsewhere that may sign people in to ours with a token they got there."""
    operator_groups: frozenset[str] = frozenset()
    compat_mvp_api: bool = False
    """Also answer the first MVP's two routes, `/api/sessions` and `/api/sessions/drop`."""
    agents: dict[str, AgentOfPlane] = Field(default_factory=dict)
    targets: tuple[TargetSettings, ...] = ()
    terminals: TerminalSettings | None = None
    """Absent: no terminals."""
    max_ttl_minutes: PositiveInt | None = None
    """No target allows more, whatever it says itself."""
    log_level: LogLevel = "INFO"

    def is_operator(self, principal: Principal) -> bool:
        return bool(principal.groups & self.operator_groups)

    def targets_by_name(self) -> dict[str, Target]:
        found = (target.target() for target in self.targets)
        if self.max_ttl_minutes is None:
            return {target.name: target for target in found}
        most = timedelta(minutes=self.max_ttl_minutes)
        return {t.name: replace(t, max_ttl=min(t.max_ttl, most)) for t in found}

    @model_validator(mode="after")
    def _issuers_are_told_apart(self) -> ControlPlaneSettings:
        for key, issuers in (
            ("issuers", self.issuers),
            ("workload_issuers", self.workload_issuers),
        ):
            names = [one.issuer for one in issuers]
            if len(set(names)) < len(names) or self.public_url in names:
                msg = f"{key}: each issuer stands here once, and public_url is our own"
                raise ValueError(msg)
        taken = {(one.issuer, one.audience) for one in self.issuers}
        if any((one.issuer, one.audience) in taken for one in self.workload_issuers):
            msg = (
                "workload_issuers: an issuer with the same audience in issuers would have"
                " its jobs' tokens taken past their rules"
            )
            raise ValueError(msg)
        return self


class AgentSettings(_Settings):
    aliases: ClassVar = aliases.AGENT

    name: str
    mode: Literal["push", "poll"] = "push"
    """Whether it listens for its jobs, or dials out and fetches them."""
    control_plane_url: str | None = None
    """Where it polls: one control plane, or any number of them behind one address."""
    poll_interval_ms: PositiveInt = 500
    """A poll that failed is repeated after about this time, then twice that, up to 5 s."""
    listen_host: str = "127.0.0.1"
    listen_port: Port = AGENT_PORT
    key_file: Path
    control_planes: dict[str, str]
    """The Ed25519 public keys (JWK as JSON) of the control planes whose jobs it takes."""
    targets: tuple[AgentTargetSettings, ...]
    role_pack_version: Literal["pg-1.0.0"] = ROLE_PACK_VERSION
    """The role packs it is meant for: an agent of another release does not start."""
    log_level: LogLevel = "INFO"

    @model_validator(mode="after")
    def _knows_where_to_poll(self) -> Self:
        if self.mode == "poll" and (
            self.control_plane_url is None or len(self.control_planes) != 1
        ):
            msg = "mode poll needs control_plane_url, and the key of one control plane"
            raise ValueError(msg)
        return self


S = TypeVar("S", bound=BaseModel)


def load_settings(model: type[S], path: Path, environment: Mapping[str, str] = os.environ) -> S:
    """Read settings. Raises `InputError` that lists every problem at once."""
    values = _read(path)
    if path.stat().st_mode & 0o007 and _holds_secret(values):
        # A group may: it is how a file from a secret store reaches a service.
        msg = (
            f"{path}: it holds a secret, and anybody on this machine can reach it; chmod o= {path}"
        )
        raise InputError(msg)
    old_names = getattr(model, "aliases", {})
    values = aliases.with_aliases(old_names, values, environment)
    for key in model.model_fields:
        if (text := environment.get(PREFIX + key.upper())) is not None:
            values[key] = text
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError(_problems(path, error)) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_SETTINGS_BYTES:
            msg = f"{path}: settings may have at most {MAX_SETTINGS_BYTES} bytes"
            raise InputError(msg)
        return tomllib.loads(path.read_text())
    except OSError as error:
        msg = f"{path}: {error.strerror}"
        raise InputError(msg) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path}: not TOML: {error}"
        raise InputError(msg) from error


def _holds_secret(value: Any) -> bool:  # noqa: ANN401  # any TOML value
    if isinstance(value, dict):
        return any(
            key.endswith(SECRET_KEYS) or _holds_secret(inner) for key, inner in value.items()
        )
    return isinstance(value, list) and any(map(_holds_secret, value))


def _problems(path: Path, error: ValidationError) -> str:
    lines = [
        f"  {'.'.join(str(part) for part in found['loc'])}: {found['msg']}"
        for found in error.errors(include_input=False, include_url=False)
    ]
    return "\n".join([f"{path}: {len(lines)} problem(s)", *lines])
