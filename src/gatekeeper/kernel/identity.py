"""Who asks: the frozen result of a verified identity token."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


class PrincipalKind(StrEnum):
    HUMAN = "human"
    WORKLOAD = "workload"
    SERVICE = "service"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A caller whose token was verified.

    `issuer` and `subject` together name it for ever (OpenID Connect Core 1.0,
    section 2); `email` and `groups` are what the issuer said at `authenticated_at`.
    """

    issuer: str
    subject: str
    kind: PrincipalKind
    email: str | None = None
    groups: frozenset[str] = frozenset()
    authenticated_at: datetime | None = None
    strength: str | None = None

    @property
    def key(self) -> str:
        """One string that names this principal, for ownership, limits and evidence."""
        return f"{self.issuer}#{self.subject}"
