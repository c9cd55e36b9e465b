"""The process: where it listens, what it may reach, what it remembers."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, IPvAnyNetwork, model_validator

from gatekeeper.forwardauth.config.base import (
    MAX_DEFINITIONS,
    MAX_ITEMS,
    Duration,
    HeaderName,
    Name,
    Strict,
    VariableName,
)
from gatekeeper.forwardauth.config.endpoint import Endpoint
from gatekeeper.forwardauth.config.rule import Rule
from gatekeeper.kernel.secret import Secret

Port = Annotated[int, Field(ge=1, le=65535)]
Algorithm = Literal["RS256", "ES256", "PS256", "EdDSA"]


class Listen(Strict):
    """The decision port. Only proxies should reach it."""

    address: str = "127.0.0.1"
    port: Port = 8080
    unix_socket: str | None = None
    """A path: listen there instead of on a port."""


class Operations(Strict):
    """Health, metrics and `/explain`, on a listener that proxies do not reach."""

    address: str = "127.0.0.1"
    port: Port = 8081
    token: Secret | None = None
    """The credential of `/explain`; without one it is off."""


class Logging(Strict):
    level: Literal["debug", "info", "warning", "error"] = "info"
    correlation_header: HeaderName = "x-request-id"
    decisions: bool = True
    """Write one line for every decision."""


class RuleFiles(Strict):
    """Where endpoints and rules are, besides those that stand in this file."""

    rules_file: str | None = None
    rules_folder: str | None = None


class Templates(Strict):
    templates_folder: str | None = None
    """The only folder `bodyFile` can read from."""


class ServerVariables(Strict):
    """Names for rules: `env.<name>`, `secrets.<name>`."""

    environment: Annotated[dict[VariableName, str | None], Field(max_length=MAX_ITEMS)] = {}
    """The environment variable to read; null: the one of the same name."""
    secrets: Annotated[dict[VariableName, str | None], Field(max_length=MAX_ITEMS)] = {}
    """The file in `secretsFolder` to read; null: the one of the same name."""
    secrets_folder: str = "/run/secrets"


class ValkeyTls(Strict):
    enabled: bool = False
    ca_file: str | None = None


class Valkey(Strict):
    """A Valkey (or Redis) server that several processes share results through."""

    address: str
    """host:port"""
    username: str | None = None
    password: Secret | None = None
    db: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    timeout: Duration = Field(default=0.25, json_schema_extra={"default": "250ms"})
    tls: ValkeyTls = ValkeyTls()


class Cache(Strict):
    """Where results of rules are kept."""

    backend: Literal["memory", "valkey", "redis"] = "memory"
    max_ttl: Duration = Field(default=3600.0, json_schema_extra={"default": "1h"})
    """No result is kept longer."""
    max_entries: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    """Of the memory of each process."""
    key_salt: Secret | None = None
    """Makes keys unguessable; the same in all processes that share a Valkey."""
    valkey: Valkey | None = None

    @model_validator(mode="after")
    def _valkey_has_an_address(self) -> Self:
        if self.backend != "memory" and (self.valkey is None or self.key_salt is None):
            msg = f"backend {self.backend} needs valkey.address and keySalt"
            raise ValueError(msg)
        return self


class BackendLimits(Strict):
    """Bounds of every call to a backend."""

    timeout: Duration = Field(default=10.0, json_schema_extra={"default": "10s"})
    max_response_bytes: Annotated[int, Field(ge=1, le=100_000_000)] = 1_048_576
    max_connections: Annotated[int, Field(ge=1, le=10_000)] = 100
    denied_networks: Annotated[list[IPvAnyNetwork], Field(max_length=MAX_ITEMS)] = []
    """Never connected to, besides link-local, multicast and unspecified addresses."""


class Issuer(Strict):
    """An issuer whose JSON Web Tokens are taken."""

    issuer: str
    audience: str
    algorithms: Annotated[list[Algorithm], Field(min_length=1)] = ["RS256", "ES256"]
    jwks_uri: str | None = None
    """Where its keys are; absent: its discovery document says."""


class Sessions(Strict):
    """The Gatekeeper whose live sessions rules may ask about (`session.live`)."""

    server: str


class Shadow(Strict):
    """A candidate that decides beside the active configuration, without effect."""

    config: str


class Server(Strict):
    listen: Listen = Listen()
    operations: Operations = Operations()
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    logging: Logging = Logging()
    rules: RuleFiles = RuleFiles()
    templates: Templates = Templates()
    variables: ServerVariables = ServerVariables()
    cache: Cache = Cache()
    backend: BackendLimits = BackendLimits()
    issuers: Annotated[dict[Name, Issuer], Field(max_length=MAX_ITEMS)] = {}
    sessions: Sessions | None = None
    shadow: Shadow | None = None


class Configuration(Strict):
    """A whole configuration. `endpoints` and `rules` may also stand in files of their own."""

    server: Server = Server()
    endpoints: Annotated[dict[Name, Endpoint], Field(max_length=MAX_DEFINITIONS)] = {}
    rules: Annotated[dict[Name, Rule], Field(max_length=MAX_DEFINITIONS)] = {}


class RuleDocument(Strict):
    """A file of `server.rules`: endpoints and rules, besides those of the configuration."""

    endpoints: Annotated[dict[Name, Endpoint], Field(max_length=MAX_DEFINITIONS)] = {}
    rules: Annotated[dict[Name, Rule], Field(max_length=MAX_DEFINITIONS)] = {}
