"""Who asks: the frozen result of a verified identity token."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class PrincipalKind(StrEnum):
    HUMAN = "human"
    WORKLOAD = "workload"
    SERVICE = "service"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A caller whose token was verified.

    `issuer` and `subject` together name it for ever (OpenID Connect Core 1.0,
    section 2); `email` and `groups` are what the issuer says of it.
    """

    issuer: str
    subject: str
    kind: PrincipalKind
    email: str | None = None
    groups: frozenset[str] = frozenset()

    @property
    def key(self) -> str:
        """One string that names this principal, for ownership, limits and evidence."""
        return f"{self.issuer}#{self.subject}"
