"""The key files of a stack on one machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatekeeper.bootstrap.terminals.attach_key import attach_key
from gatekeeper.platform.crypto.signing import SigningKey

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Where the private keys of agent and runner are, and what each side is to trust."""

    agent_file: Path
    agent_public: str
    runner_file: Path
    runner_public: str
    control_plane_public: str
    attach_file: Path
    """What runner and gateway share."""


def make_keys(folder: Path) -> Keys:
    """Make what is missing, in files that only their owner can read."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    agent_file, runner_file = folder / "agent.jwk", folder / "runner.jwk"
    attach_key(folder / "attach.key")
    return Keys(
        agent_file=agent_file,
        agent_public=SigningKey.load_or_create(agent_file).public_jwk(),
        runner_file=runner_file,
        runner_public=SigningKey.load_or_create(runner_file).public_jwk(),
        attach_file=folder / "attach.key",
        control_plane_public=SigningKey.load_or_create(folder / "control-plane.jwk").public_jwk(),
    )
