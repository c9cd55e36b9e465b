"""Which workload a token is about: rules over the claims of a verified token. Pure.

A condition is met by a claim of its own type alone: text by text, true or false by
a boolean, a number by an integer. A list never meets one, so an issuer that turns a
claim into a list admits nobody by it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Condition = str | bool | int

NAMING_CLAIMS: Final = frozenset(
    {
        "sub",
        "repository",
        "repository_id",
        "repository_owner",
        "repository_owner_id",
        "job_workflow_ref",
        "project_path",
        "project_id",
        "namespace_path",
        "namespace_id",
    }
)
"""Claims that say whose job it is. The issuers of public CI services sign for everybody:
a rule without one of these would admit any project in the world."""

_WHOLE_FIRST_PART: Final = re.compile(r"(?:[^*/:]+:)*[^*/:]+/[^*]*\*.*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadRule:
    """A job whose token meets every condition is the workload `name`, in `groups`."""

    name: str
    groups: frozenset[str]
    claims: Mapping[str, Condition]

    def admits(self, claims: Mapping[str, Any]) -> bool:
        return all(_meets(claims.get(claim), wanted) for claim, wanted in self.claims.items())

    def narrows(self) -> bool:
        """Tell whether the rule says whose jobs it is for.

        A naming claim must be exact, or whole up to its first `/`: `acme/*` belongs to
        somebody, `acme*` and `*/shop` to anybody who registers such a name.
        """
        return any(
            claim in NAMING_CLAIMS and _names_somebody(wanted)
            for claim, wanted in self.claims.items()
        )


def workload_of(rules: Iterable[WorkloadRule], claims: Mapping[str, Any]) -> WorkloadRule | None:
    """Return the first rule that admits a token; None when there is none."""
    return next((rule for rule in rules if rule.admits(claims)), None)


def _meets(claim: object, wanted: Condition) -> bool:
    if type(claim) is not type(wanted):
        return False
    if isinstance(claim, str) and isinstance(wanted, str):
        return _glob(wanted).fullmatch(claim) is not None
    return claim == wanted


@lru_cache(maxsize=4096)
def _glob(pattern: str) -> re.Pattern[str]:
    """`*` stays within its part: what issuers join with `/` and `:` cannot be reached over."""
    return re.compile("[^/:]*".join(re.escape(part) for part in pattern.split("*")))


def _names_somebody(wanted: Condition) -> bool:
    if not isinstance(wanted, str):
        return not isinstance(wanted, bool)
    return "*" not in wanted or _WHOLE_FIRST_PART.fullmatch(wanted) is not None
