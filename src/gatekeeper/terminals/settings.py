"""Limits and options of the terminal plane. Units are in the names."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path  # read by Pydantic at run time
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from gatekeeper.kernel.secret import Secret  # read by Pydantic at run time
from gatekeeper.terminals.model import Profile

LAUNCH_DEADLINE: Final = timedelta(seconds=30)
"""A terminal that could not be started in this time after its turn came has failed."""
SILENCE: Final = timedelta(seconds=60)
"""A runner that was not heard for this long, while somebody listened, has lost what it held. It
reports every 5 s."""
MAX_QUEUED: Final = 200
"""Terminals that may wait for a place; one more is refused."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]
Host = Annotated[str, Field(pattern=r"^(\*\.)?[a-z0-9.-]{1,253}(:[0-9]{1,5})?$")]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ProfileSettings(_Settings):
    """What may be run under a name; the policy knows it as a role of plane `terminals`."""

    name: Name
    command: tuple[str, ...] = ("/bin/bash", "-l")
    any_command: bool = False
    bundles: bool = False
    network: bool = False
    """None at all, or the machine's own: loopback and everything it reaches."""
    max_ttl_seconds: PositiveInt = 14_400
    idle_seconds: PositiveInt = 1_800
    memory_mib: PositiveInt = 512
    processes: PositiveInt = 128
    cpu_percent: PositiveInt = 100
    """Of one core."""
    disk_mib: PositiveInt = 256
    """Of its home, which is memory."""
    output_mib: PositiveInt = 1_024
    """What it may write to the terminal in all."""
    record_input: bool = False

    def profile(self) -> Profile:
        mebibyte = 1_048_576
        return Profile(
            name=self.name,
            command=self.command,
            any_command=self.any_command,
            bundles=self.bundles,
            network=self.network,
            max_ttl=timedelta(seconds=self.max_ttl_seconds),
            idle=timedelta(seconds=self.idle_seconds),
            memory_bytes=self.memory_mib * mebibyte,
            processes=self.processes,
            cpu_percent=self.cpu_percent,
            disk_bytes=self.disk_mib * mebibyte,
            output_bytes=self.output_mib * mebibyte,
            record_input=self.record_input,
        )


class RunnerOfPlane(_Settings):
    """A runner as the control plane knows it."""

    address: Annotated[str, Field(pattern=r"^(unix:/|http://|https://).{1,250}$")]
    """Where it takes orders."""
    public_key: str
    """Its Ed25519 public key, a JWK as JSON."""
    capacity: PositiveInt = 100


class TerminalSettings(_Settings):
    """What the control plane is told of terminals."""

    gateway_url: Annotated[str, Field(pattern=r"^wss?://[\x21-\x7e]{1,250}$")]
    """Where clients attach."""
    runner: Name = "local"
    """Which of `runners` new terminals go to; policies know it as the target."""
    runners: dict[str, RunnerOfPlane]
    profiles: Annotated[tuple[ProfileSettings, ...], Field(min_length=1)] = (
        ProfileSettings(name="shell"),
    )
    recordings: Path
    """The folder that the runner writes recordings to."""
    keep_recordings_days: Annotated[int, Field(ge=1, le=36_500)] | None = None
    """How long a recording is kept after its terminal's end; without it, for ever."""
    ticket_seconds: Annotated[int, Field(ge=5, le=600)] = 60


class BundleSettings(_Settings):
    """From where a runner fetches bundles; without hosts it fetches none."""

    allowed_hosts: tuple[Host, ...] = ()
    hosts_without_hash: tuple[Host, ...] = ()
    allow_http_on_loopback: bool = False
    """For tests and demonstrations: a bundle from this machine, without TLS."""
    max_bytes: PositiveInt = 104_857_600
    max_unpacked_bytes: PositiveInt = 524_288_000
    max_files: PositiveInt = 20_000
    max_ratio: PositiveInt = 200
    max_depth: PositiveInt = 32
    max_seconds: PositiveInt = 60
    cache_bytes: PositiveInt = 1_073_741_824
    clamd_socket: Path | None = None
    """A ClamAV daemon that looks at every bundle; when it does not answer, none is taken."""


class RunnerSettings(_Settings):
    """What a runner is told."""

    name: Name = "local"
    key_file: Path
    control_planes: dict[str, str]
    """The Ed25519 public keys (JWK as JSON) of the control planes whose orders it takes."""
    control_plane_url: str
    """Where it reports to."""
    attach_key_file: Path
    """32 bytes that it shares with its gateways; made where there is none."""
    folder: Path
    """For its socket, its work and its cache; its own (0700)."""
    recordings: Path
    capacity: PositiveInt = 100
    allow_unsandboxed: bool = False
    """Run also where there is no sandbox; every terminal and log line then says so."""
    bundles: BundleSettings = BundleSettings()
    database_certificates: Path | None = None
    """CA certificates (PEM) that terminals' databases are held against where their target's
    `sslmode` is `verify-ca` or `verify-full`; without it, the machine's."""
    redact: tuple[str, ...] = ()
    """Texts that no recording and no kept screen is to hold, beside the secrets that the runner
    handed out."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"


class GatewaySettings(_Settings):
    """What a gateway is told."""

    store_dsn: Secret
    keys_url: str
    """Where the public keys of tickets are: `https://.../.well-known/jwks.json`."""
    issuer: str
    """The control plane's public address."""
    attach_key_file: Path
    listen_host: str = "127.0.0.1"
    listen_port: Annotated[int, Field(ge=1, le=65535)] = 4002
    processes: Annotated[int, Field(ge=1, le=256)] = 1
    operations_host: str = "127.0.0.1"
    operations_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """For `/healthz`, `/readyz` and `/metrics`; 0: nowhere."""
    max_sockets: PositiveInt = 9_000
    """Of one process."""
    head_seconds: Annotated[float, Field(gt=0)] = 10.0
    ping_seconds: Annotated[float, Field(gt=0)] = 25.0
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
