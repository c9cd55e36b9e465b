"""Limits and options of the database plane. Units are in the names."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from gatekeeper.databases.model import ObjectPolicy, Target
from gatekeeper.kernel.secret import Secret  # read by Pydantic at run time

DEFAULT_MAX_TTL: Final = timedelta(minutes=240)
DEFAULT_MIN_TTL: Final = timedelta(minutes=1)
PENDING_DEADLINE: Final = timedelta(seconds=60)
"""A login that could not be made in this time has failed; what there is of it is undone."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TargetSettings(_Settings):
    """A target as the control plane knows it: where people connect, and which limits hold."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]
    agent: str
    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    database: str
    sslmode: Literal["disable", "require", "verify-ca", "verify-full"] = "verify-full"
    min_ttl_seconds: PositiveInt = int(DEFAULT_MIN_TTL.total_seconds())
    max_ttl_seconds: PositiveInt = int(DEFAULT_MAX_TTL.total_seconds())
    roles: tuple[str, ...] = ("app_read", "app_write", "app_admin")

    def target(self) -> Target:
        return Target(
            name=self.name,
            agent=self.agent,
            host=self.host,
            port=self.port,
            database=self.database,
            sslmode=self.sslmode,
            min_ttl=timedelta(seconds=self.min_ttl_seconds),
            max_ttl=timedelta(seconds=self.max_ttl_seconds),
            roles=self.roles,
        )


class AgentTargetSettings(_Settings):
    """A target as its agent knows it: how to log in, and what happens to owned objects."""

    name: str
    dsn: Secret
    owned_objects: ObjectPolicy = ObjectPolicy.QUARANTINE
