"""The names that conditions, variables and templates know: the same everywhere.

A name has one kind, so that a condition can be type-checked when it is loaded. `any` is
whatever an answer or a variable holds.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """The kind of a name's value."""

    TEXT = "text"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    TIME = "time"
    TEXTS = "map of text"
    TEXT_LISTS = "map of lists of text"
    MAP = "map of any"
    LIST = "list of any"
    ANY = "any"


NAMES: Final = {
    "request.id": Kind.TEXT,
    "request.endpoint": Kind.TEXT,
    "request.method": Kind.TEXT,
    "request.scheme": Kind.TEXT,
    "request.host": Kind.TEXT,
    "request.port": Kind.INTEGER,
    "request.path": Kind.TEXT,
    "request.rawPath": Kind.TEXT,
    "request.rawQuery": Kind.TEXT,
    "request.query": Kind.TEXTS,
    "request.queryAll": Kind.TEXT_LISTS,
    "request.headers": Kind.TEXTS,
    "request.headersAll": Kind.TEXT_LISTS,
    "request.cookies": Kind.TEXTS,
    "request.client": Kind.TEXT,
    "request.proxied": Kind.BOOLEAN,
    "admission.authenticated": Kind.BOOLEAN,
    "auth.selected": Kind.TEXT,
    "auth.input": Kind.MAP,
    "auth.forward": Kind.MAP,
    "forward.headers": Kind.TEXTS,
    "backend.requested": Kind.BOOLEAN,
    "backend.status": Kind.INTEGER,
    "backend.headers": Kind.TEXTS,
    "backend.body": Kind.ANY,
    "backend.bodyText": Kind.TEXT,
    "backend.accepted": Kind.BOOLEAN,
    "backend.error": Kind.TEXT,
    "backend.pages": Kind.LIST,
    "session.live": Kind.BOOLEAN,
    "session.sessions": Kind.LIST,
    "vars.global": Kind.MAP,
    "vars.local": Kind.MAP,
    "rules": Kind.MAP,
    "response": Kind.MAP,
    "env": Kind.TEXTS,
    "secrets": Kind.TEXTS,
    "now": Kind.TIME,
}

PARTS: Final = {
    "auth.input": frozenset({"basic", "bearer", "cookie", "header", "jwt", "query"}),
    "auth.forward": frozenset({"headers", "query"}),
}
"""All that there is under a name."""

ELSEWHERE: Final = {
    "admission.clientIp": "request.client",
    "admission.trustedProxy": "request.proxied",
    "correlationId": "request.id",
    "endpoint": "request.endpoint",
    "forward.query": "request.query",
    "raw": "request",
    "rawState": "request",
    "request.remoteAddr": "request.client",
    "variables": "vars.global, vars.local or rules.<rule>",
    "variables.endpoint": "vars.global",
    "variables.environment": "env",
    "variables.global": "vars.global",
    "variables.local": "vars.local",
    "variables.rule": "rules",
    "variables.secrets": "secrets",
    "vars.endpoint": "vars.global",
    "vars.environment": "env",
    "vars.rule": "rules",
    "vars.secrets": "secrets",
}
"""Names of the original PassCtrl, and ours."""

VOLATILE: Final = frozenset({"now", "request.id", "session.live", "session.sessions"})
"""What a result may not outlive: one that read it is never kept. A session is revoked at once."""

CONSTANT: Final = frozenset({"env", "secrets"})
"""The same for every request, for as long as a configuration is in force."""

WITHOUT_NUL: Final = frozenset(
    {
        "request.endpoint",
        "request.method",
        "request.scheme",
        "request.host",
        "request.port",
        "request.path",
        "request.rawPath",
        "request.rawQuery",
        "request.headers",
        "request.headersAll",
        "request.cookies",
        "request.client",
        "request.proxied",
        "admission.authenticated",
    }
)
"""Names in whose values there is no NUL: a request that has one there is refused (`request/`).
What is decoded later (parameters, claims, answers of backends) may have one."""

OF_A_RULE: Final = frozenset(
    name
    for name in NAMES
    if name.startswith(("auth.", "backend.", "session.")) or name == "vars.local"
)
"""What one rule alone sees. What others are to see of it, it exports."""
