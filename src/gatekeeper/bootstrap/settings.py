"""What the processes are told: a TOML file, with the environment over it. Unknown keys are errors.

An environment name is `GATEKEEPER_` and the key in capitals. Errors name the key and
what was expected, never the value.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gatekeeper.databases.settings import AgentTargetSettings, TargetSettings
from gatekeeper.kernel.errors import InputError
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.oidc.development import DevelopmentUser
from gatekeeper.platform.oidc.verifier import IssuerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTROL_PLANE_PORT: Final = 4000
AGENT_PORT: Final = 4001
MAX_SETTINGS_BYTES: Final = 1_048_576
PREFIX: Final = "GATEKEEPER_"

Port = Annotated[int, Field(ge=1, le=65535)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RemoteAgent(_Settings):
    """An agent as the control plane knows it."""

    url: str
    """Where its jobs are pushed to."""
    public_key: str
    """Its Ed25519 public key, a JWK as JSON."""


class ControlPlaneSettings(_Settings):
    name: str = "control-plane"
    store_dsn: Secret
    public_url: str
    listen_host: str = "127.0.0.1"
    listen_port: Port = CONTROL_PLANE_PORT
    key_folder: Path
    policy: Path
    issuers: tuple[IssuerSettings, ...] = ()
    development_users: tuple[DevelopmentUser, ...] = ()
    """Who the embedded issuer knows; it runs on loopback only, and only when this is not empty."""
    operator_groups: frozenset[str] = frozenset()
    compat_mvp_api: bool = False
    """Also answer the first MVP's two routes, `/api/sessions` and `/api/sessions/drop`."""
    agents: dict[str, RemoteAgent] = Field(default_factory=dict)
    targets: tuple[TargetSettings, ...] = ()
    log_level: str = "INFO"


class AgentSettings(_Settings):
    name: str
    listen_host: str = "127.0.0.1"
    listen_port: Port = AGENT_PORT
    key_file: Path
    control_planes: dict[str, str]
    """The Ed25519 public keys (JWK as JSON) of the control planes whose jobs it takes."""
    targets: tuple[AgentTargetSettings, ...]
    log_level: str = "INFO"


S = TypeVar("S", bound=_Settings)


def load_settings(model: type[S], path: Path, environment: Mapping[str, str] = os.environ) -> S:
    """Read settings. Raises `InputError` that lists every problem at once."""
    values = _read(path)
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


def _problems(path: Path, error: ValidationError) -> str:
    lines = [
        f"  {'.'.join(str(part) for part in found['loc'])}: {found['msg']}"
        for found in error.errors(include_input=False, include_url=False)
    ]
    return "\n".join([f"{path}: {len(lines)} problem(s)", *lines])
