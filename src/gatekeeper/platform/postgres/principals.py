"""Who somebody was, as it is kept in a column of JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from gatekeeper.kernel.identity import Principal, PrincipalKind

if TYPE_CHECKING:
    from collections.abc import Mapping


def principal_values(principal: Principal) -> Jsonb:
    return Jsonb(
        {
            "issuer": principal.issuer,
            "subject": principal.subject,
            "kind": principal.kind.value,
            "email": principal.email,
            "groups": sorted(principal.groups),
        }
    )


def principal_of(values: Mapping[str, Any]) -> Principal:
    return Principal(
        issuer=values["issuer"],
        subject=values["subject"],
        kind=PrincipalKind(values["kind"]),
        email=values["email"],
        groups=frozenset(values["groups"]),
    )
