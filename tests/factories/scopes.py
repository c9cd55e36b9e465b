"""Scopes as a request makes them, with plain values."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from gatekeeper.forwardauth.model import Scope

NOW: Final = dt.datetime(2026, 3, 1, 12, 30, tzinfo=dt.UTC)

VALUES: Final[dict[str, Any]] = {
    "request.method": "GET",
    "request.path": "/reports",
    "request.client": "10.1.2.3",
    "request.proxied": True,
    "request.headers": {"x-role": "admin", "x-team": "blue"},
    "request.headersAll": {"x-role": ["admin"]},
    "request.query": {"q": "a b&c=1"},
    "auth.input": {"bearer": {"token": "t0k3n"}, "user": "jo"},
    "backend.status": 200,
    "backend.body": {"active": True, "roles": ["dev", "ops"], "left": 2.5, "none": None},
    "backend.pages": [],
    "vars.global": {"tier": "gold"},
    "vars.local": {},
    "rules": {"login": {"variables": {"name": "Jo"}}},
    "secrets": {"api": "s3cr3t"},
    "env": {},
    "now": NOW,
}


def scope(**values: Any) -> Scope:
    """Make a scope; `request__path` stands for the name `request.path`."""
    named = {name.replace("__", "."): value for name, value in values.items()}
    return Scope(VALUES | named)
