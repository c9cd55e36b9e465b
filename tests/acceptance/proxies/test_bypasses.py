"""Bypasses that happened to others, tried on PassCtrl behind every real proxy.

One property holds for all: what the application gets is what was judged, under the same method,
host and path, with the identity PassCtrl gave; or it gets nothing. docs/explanation/forwardauth/
bypasses.md says what each case was.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from random import Random  # noqa: TID251  # the same inputs in every run
from typing import TYPE_CHECKING, Final

import pytest

from acceptance.proxies.policy import ALICE, MALLORY, about
from proxies.client import PATIENCE, Answer, ask, send
from proxies.servers import KINDS, answers, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from acceptance.proxies.conftest import Start
    from proxies.application import Application
    from proxies.loopback import Received
    from proxies.servers import Proxy

pytestmark = pytest.mark.parametrize("decided_by", ["real"], indirect=True)

IDENTITY: Final = ("x-user", "x-groups", "x-email")
OPERATIONS: Final = ("/healthz", "/readyz", "/metrics", "/explain", "/login", "/page.css")
HOST: Final = "Host: app.example.com"


def judged(request: Received) -> None:
    """Fail unless this is what alice was allowed, and nothing that a client made up."""
    twins: dict[str, list[str]] = {name: [] for name in IDENTITY}
    for name, value in request.headers:
        if (plain := name.lower().replace("_", "-")) in twins:
            twins[plain].append(value)
    host = request.value("host")
    assert host is not None
    assert twins["x-user"] == ["alice"], request
    assert twins["x-groups"] == [about(request.method, host, request.target)], request
    assert twins["x-email"] in ([], [""]), request


# What happened to others.

BYPASSES: Final[dict[str, tuple[str, list[str]]]] = {
    # Who speaks for the proxy.
    "CVE-2026-40575": ("/admin", ["X-Forwarded-Uri: /public", "X-Forwarded-Uri: /ping"]),
    "GHSA-vhr5-ggp3-qq85": ("/admin", ["X-Forwarded-Proto: https", "X-Forwarded-Ssl: on"]),
    "CVE-2026-35051": ("/admin", ["X-Forwarded-Prefix: /public", "X-Forwarded-Prefix: /x"]),
    "CVE-2026-39858": ("/admin", ["X_Forwarded_Proto: https", "X_Forwarded_Uri: /public"]),
    "CVE-2025-64484": ("/admin", ["X_User: root", "X-us_er: root", "X_GROUPS: admins"]),
    "CVE-2026-52845": ("/admin", ["X_User: root", "x_user: root", "X-User: root"]),
    "CVE-2025-48865": ("/admin", ["Connection: close, X-Forwarded-Host, X-Forwarded-Uri"]),
    "hop-by-hop identity": ("/admin", ["Connection: X-User, X-Groups", "X-User: root"]),
    "hop-by-hop credential": ("/admin", ["Connection: Authorization, X-Request-Id"]),
    "forwarded for, twice": ("/admin", ["X-Forwarded-For: 10.0.0.1", "X-Forwarded-For: ::1"]),
    "forwarded for, malformed": ("/admin", ["X-Forwarded-For: unknown, _hidden, [::1", "X-Real-IP: ::ffff:127.0.0.1"]),
    "RFC 7239": ("/admin", ['Forwarded: for="[::1]:80";host=public.example.com;proto=https']),
    "CVE-2019-9900": ("/admin", ["X-Note: a\0b"]),
    "control bytes": ("/admin", ["X-Note: a\x01b\x7f", "X-User: ro\x0bot"]),
    "CVE-2024-23324": ("/admin", ["X-Note: \xff\xfe\xc0\xaf", "Cookie: a=\xff"]),
    "method override": ("/admin", ["X-HTTP-Method-Override: OPTIONS", "X-Method-Override: GET", "X-HTTP-Method: HEAD"]),
    "CVE-2026-24513": ("/admin", ["X-Code: 401", "X-Original-URI: /public", "X-Format: text/html"]),
    # Hosts.
    "CVE-2026-48710": ("/admin", ["Host: app.example.com/abc?x="]),
    "CVE-2026-42273": ("/admin", ["Host: APP.Example.COM."]),
    "absolute form": ("http://public.example.com/admin", ["Host: app.example.com"]),
    "absolute form with a user": ("http://app.example.com@public.example.com/admin", []),
    "two hosts": ("/admin", ["Host: app.example.com", "Host: public.example.com"]),
    "host with a space": ("/admin", ["Host: app.example.com public.example.com"]),
    # Paths.
    "GHSA-p224-6x5r-fjpm": ("/public/../admin", []),
    "CVE-2026-42274": ("/public/%2e%2e/admin", []),
    "dots, half encoded": ("/public/.%2E/admin", []),
    "dots and a semicolon": ("/public/..;/admin", []),
    "dots and an encoded slash": ("/public/%2e%2e%2fadmin", []),
    "CVE-2026-42272": ("/public%2fadmin", []),
    "encoded slash, capital": ("/public%2Fadmin", []),
    "CVE-2026-26205": ("//public.example.com/admin", []),
    "CVE-2021-29492": ("/public/..%5Cadmin", []),
    "backslash": ("/public\\..\\admin", []),
    "CVE-2026-32811": ("/admin?x=/public?y", []),
    "encoded question mark": ("/admin%3Fx=/public", []),
    "CVE-2025-54576": ("/admin?x=/public", []),
    "CVE-2026-41059": ("/admin#/public", []),
    "encoded fragment": ("/admin%23/public", []),
    "CVE-2026-40912": ("/public%2F..%2Fadmin", []),
    "CVE-2026-33186": ("admin", []),
    "CVE-2026-54282": ("@public.example.com/admin", []),
    "overlong UTF-8": ("/public/%C0%AE%C0%AE/admin", []),
    "encoded twice": ("/public/%252e%252e/admin", []),
    "matrix parameter": ("/admin;x=/public", []),
    "trailing dot and space": ("/admin.%20", []),
    "NUL in the path": ("/admin%00/public", []),
    "a malformed triplet": ("/admin%zz%2", []),
    "raw bytes": ("/adm\xefn", []),
    "asterisk": ("*", []),
    # What is too much.
    "a target of 9 KiB": ("/" + "a" * 9_000, []),
    "a query of 9 KiB": ("/?" + "a=1&" * 2_250, []),
    "200 headers": ("/admin", [f"X-Note-{number}: a" for number in range(200)]),
    "a header of 100 KiB": ("/admin", ["X-Note: " + "a" * 100_000]),
    "32 hops and more": ("/admin", ["X-Forwarded-For: " + ", ".join(["127.0.0.1"] * 500)]),
}  # fmt: skip


def tried(port: int, target: str, *lines: str, method: str = "GET") -> Answer | None:
    """Ask; None where the proxy ends the connection instead of an answer."""
    with contextlib.suppress(OSError, HTTPException):
        return ask(port, target, *lines, method=method)
    return None


@pytest.mark.parametrize(("target", "lines"), BYPASSES.values(), ids=BYPASSES)
def test_a_bypass_gets_nothing_but_what_was_judged(
    proxy: Proxy, application: Application, target: str, lines: list[str]
) -> None:
    for credential in (ALICE, MALLORY, "X-Note: nobody"):
        tried(proxy.port, target, credential, *lines)

    for request in application.received:
        judged(request)
    assert len(application.received) <= 1  # alice's


@pytest.mark.parametrize("agent", ["GoogleHC/1.0", "kube-probe/1.33", "ELB-HealthChecker/2.0"])
@pytest.mark.parametrize("path", ["/ping", "/ready", "/oauth2/auth", "/.well-known/x", *OPERATIONS])
def test_no_path_and_no_agent_needs_no_credential(
    proxy: Proxy, application: Application, path: str, agent: str
) -> None:
    """CVE-2026-34457; and nothing of operations is where a client of the proxy comes."""
    assert ask(proxy.port, path, f"User-Agent: {agent}").status == 401
    assert application.received == []


@pytest.mark.parametrize(
    "credential",
    [
        "Authorization: Bearer",
        "Authorization: Bearer alice alice",
        "Authorization: Bearer alice, Bearer alice",
        "Authorization: Bearer Alice",
        "Authorization: Bearer alice\t",
        "Authorization: Bearer \xe0lice",
        "Authorization: Basic YWxpY2U6YWxpY2U=",
        "Authorization: Basic %%%",
        "Authorization: Basic /////w==",
        "Authorization: alice",
        "Authorization_: Bearer alice",
        "X-Authorization: Bearer alice",
        "Proxy-Authorization: Bearer alice",
        "Cookie: Authorization=Bearer alice; =; ;;; a",
        "Cookie: \xff\xfe=%%%; session=",
    ],
)
def test_a_credential_that_is_broken_is_none(
    proxy: Proxy, application: Application, credential: str
) -> None:
    """CVE-2026-25748: what cannot be read must not end in the answer an error begins with."""
    answer = tried(proxy.port, "/admin", credential)

    # White space around a value is none of it (RFC 9110 section 5.5): that one is alice.
    if credential.endswith("\t"):
        assert [request.value("x-user") for request in application.received] in ([], ["alice"])
        return
    assert answer is None or answer.status in {400, 401, 403, 500, 503}
    assert application.received == []
