"""The process: where it listens, what it may reach, what it remembers."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from gatekeeper.forwardauth.config.base import (
    MAX_DEFINITIONS,
    MAX_ITEMS,
    Duration,
    HeaderName,
    Name,
    Network,
    Strict,
    VariableName,
)
from gatekeeper.forwardauth.config.endpoint import Endpoint
from gatekeeper.forwardauth.config.rule import Rule
from gatekeeper.kernel.secret import Secret


def _filled(secret: Secret) -> Secret:
    if not secret.reveal().strip():
        msg = "an empty secret is known to everybody: leave the key out instead"
        raise ValueError(msg)
    return secret


LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


def _web(address: str) -> str:
    if not _is_web(address):
        msg = "expected an address like https://gatekeeper.example.com"
        raise ValueError(msg)
    return address


def _unmistakable(address: str) -> str:
    """Take the address of what is believed: nobody between us may answer in its place."""
    parts = urlsplit(address) if _is_web(address) else None
    if parts is None or (parts.scheme != "https" and parts.hostname not in LOOPBACK):
        msg = "expected an https address, or http on loopback"
        raise ValueError(msg)
    return address


def _is_web(address: str) -> bool:
    try:
        parts = urlsplit(address)
        known = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        return False
    plain = address.isascii() and address.isprintable() and " " not in address
    return bool(known) and plain and parts.username is None and not parts.fragment


def _host_and_port(address: str) -> str:
    try:
        parts = urlsplit(f"//{address}")
        known = parts.hostname and parts.port != 0
    except ValueError:
        known = None
    if not known or parts.path or parts.query or parts.fragment or parts.username is not None:
        msg = "expected host:port"
        raise ValueError(msg)
    return address


WebAddress = Annotated[str, AfterValidator(_web)]
BelievedAddress = Annotated[str, AfterValidator(_unmistakable)]
Filled = Annotated[Secret, AfterValidator(_filled)]
Port = Annotated[int, Field(ge=1, le=65535)]
Algorithm = Literal["RS256", "ES256", "PS256", "EdDSA"]


class Listen(Strict):
    """The decision port. Only proxies should reach it."""

    address: str = "127.0.0.1"
    """The address to listen on."""
    port: Port = 8080
    """The port to listen on."""
    unix_socket: str | None = None
    """A path: listen there instead of on a port."""


class Operations(Strict):
    """Health, metrics and `/explain`, on a listener that proxies do not reach."""

    address: str = "127.0.0.1"
    """The address to listen on."""
    port: Port = 8081
    """The port to listen on."""
    token: Filled | None = None
    """The credential of `/explain`; without one it is off."""


class Grpc(Strict):
    """Envoy's authorization service by gRPC, beside the decision port. Needs the extra `grpc`."""

    address: str = "127.0.0.1"
    """The address to listen on."""
    port: Port = 8082
    """The port to listen on."""


class Logging(Strict):
    """What is written to standard error, one JSON object a line."""

    elsewhere: ClassVar = {"format": "lines are always JSON"}

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lines of this level and above are written."""
    correlation_header: HeaderName = "x-request-id"
    """The header that has the id of a request; one is made when there is none."""
    decisions: bool = True
    """Write one line for every decision."""


class RuleFiles(Strict):
    """Where endpoints and rules are, besides those that stand in this file."""

    rules_file: str | None = None
    """A file of endpoints and rules."""
    rules_folder: str | None = None
    """A folder of such files, with the folders below it."""


class Templates(Strict):
    """Texts of answers and of calls that stand in files of their own."""

    elsewhere: ClassVar = dict.fromkeys(
        ("templatesAllowEnv", "templatesAllowedEnv"),
        "name the variables in server.variables.environment and read env.<name>",
    )

    templates_folder: str | None = None
    """The only folder `bodyFile` can read from."""


class ServerVariables(Strict):
    """Names for rules: `env.<name>`, `secrets.<name>`."""

    environment: Annotated[dict[VariableName, str | None], Field(max_length=MAX_ITEMS)] = {}
    """The environment variable to read; null: the one of the same name."""
    secrets: Annotated[dict[VariableName, str | None], Field(max_length=MAX_ITEMS)] = {}
    """The file in `secretsFolder` to read; null: the one of the same name."""
    secrets_folder: str = "/run/secrets"
    """Where the files of secrets are; each has one secret."""


class ValkeyTls(Strict):
    """TLS to the Valkey server."""

    enabled: bool = False
    """Connect with TLS."""
    ca_file: str | None = None
    """The certificates to trust, in PEM; absent: those of the system."""


class Valkey(Strict):
    """A Valkey (or Redis) server that several processes share results through."""

    address: Annotated[str, AfterValidator(_host_and_port)]
    """host:port"""
    username: str | None = None
    """The user to log in as."""
    password: Secret | None = None
    """The password to log in with."""
    db: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """The number of the database."""
    timeout: Duration = Field(default=0.25, json_schema_extra={"default": "250ms"})
    """A Valkey that answers later counts as absent."""
    tls: ValkeyTls = ValkeyTls()


class Cache(Strict):
    """Where results of rules are kept."""

    elsewhere: ClassVar = {
        "ttlSeconds": "write maxTtl, a duration; rules say for how long with cache.ttl",
        "epoch": "a changed configuration has other keys by itself",
        "redis": "write valkey",
    }

    backend: Literal["memory", "valkey", "redis"] = "memory"
    """In each process, or shared through a server; `redis` is the same as `valkey`."""
    max_ttl: Duration = Field(default=3600.0, json_schema_extra={"default": "1h"})
    """No result is kept longer."""
    max_entries: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    """Of the memory of each process."""
    key_salt: Filled | None = None
    """Makes keys unguessable; the same in all processes that share a Valkey."""
    valkey: Valkey | None = None
    """The server, when there is one."""

    @model_validator(mode="after")
    def _valkey_has_an_address(self) -> Self:
        if self.backend != "memory" and (self.valkey is None or self.key_salt is None):
            msg = f"backend {self.backend} needs valkey.address and keySalt"
            raise ValueError(msg)
        return self


class BackendLimits(Strict):
    """Bounds of every call to a backend."""

    timeout: Duration = Field(default=10.0, json_schema_extra={"default": "10s"})
    """Of a whole call, with its pages and retries; a rule may say less."""
    max_response_bytes: Annotated[int, Field(ge=1, le=100_000_000)] = 1_048_576
    """A longer answer is an error."""
    max_connections: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Open at a time, of each process."""
    denied_networks: Annotated[list[Network], Field(max_length=MAX_ITEMS)] = []
    """Never connected to, besides link-local, multicast and unspecified addresses."""


class Issuer(Strict):
    """An issuer whose JSON Web Tokens are taken."""

    issuer: BelievedAddress
    """Its URL, exactly as tokens name it in `iss`."""
    audience: str
    """What a token must name in `aud`."""
    algorithms: Annotated[list[Algorithm], Field(min_length=1)] = ["RS256", "ES256"]
    """The signatures that are taken."""
    jwks_uri: BelievedAddress | None = None
    """Where its keys are; absent: its discovery document says."""


class Sessions(Strict):
    """The Gatekeeper whose live sessions rules may ask about (`session.live`)."""

    server: WebAddress
    """Its address."""


class Shadow(Strict):
    """A candidate that decides beside the active configuration, without effect."""

    config: str
    """The candidate's configuration file."""


class Server(Strict):
    """What the process is told."""

    listen: Listen = Listen()
    operations: Operations = Operations()
    grpc: Grpc | None = None
    """Absent: Envoy asks by HTTP alone."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes that share the decision port."""
    logging: Logging = Logging()
    rules: RuleFiles = RuleFiles()
    templates: Templates = Templates()
    variables: ServerVariables = ServerVariables()
    cache: Cache = Cache()
    backend: BackendLimits = BackendLimits()
    issuers: Annotated[dict[Name, Issuer], Field(max_length=MAX_ITEMS)] = {}
    """By the name that rules call them."""
    sessions: Sessions | None = None
    """Absent: rules cannot ask about sessions."""
    shadow: Shadow | None = None
    """Absent: nothing decides beside it."""


class Configuration(Strict):
    """A whole configuration. `endpoints` and `rules` may also stand in files of their own."""

    server: Server = Server()
    endpoints: Annotated[dict[Name, Endpoint], Field(max_length=MAX_DEFINITIONS)] = {}
    """What proxies ask about, by the name in their paths."""
    rules: Annotated[dict[Name, Rule], Field(max_length=MAX_DEFINITIONS)] = {}
    """By the name that endpoints call them."""


class RuleDocument(Strict):
    """A file of `server.rules`: endpoints and rules, besides those of the configuration."""

    endpoints: Annotated[dict[Name, Endpoint], Field(max_length=MAX_DEFINITIONS)] = {}
    """As in the configuration itself."""
    rules: Annotated[dict[Name, Rule], Field(max_length=MAX_DEFINITIONS)] = {}
    """As in the configuration itself."""
