"""A configuration that was read: what of it can be used, and all that is wrong with the rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gatekeeper.forwardauth.config.server import Configuration
    from gatekeeper.forwardauth.errors import Problem
    from gatekeeper.forwardauth.model import SkippedDefinition
    from gatekeeper.kernel.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A configuration, with what it refers to."""

    configuration: Configuration
    """Of endpoints and rules only those that can be used."""
    skipped: tuple[SkippedDefinition, ...] = ()
    problems: tuple[Problem, ...] = ()
    digest: bytes = b""
    """Of everything above and below: two that have the same decide the same."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Values of `env`, by name."""
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    """Values of `secrets`, by name."""
    templates_folder: Path | None = None
    place: Callable[[tuple[str | int, ...]], str] = str
    """Says where a part of it stands: `file:line`."""
