"""What someone without a credential sends. None of it may reach the application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from gatekeeper.entrypoints.passctrl.examining.exchange import Sending

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HUGE_BYTES: Final = 65_536
"""Of a header that no proxy takes by default."""
METHODS: Final = ("HEAD", "OPTIONS", "POST", "PURGE", "PROPFIND", "get")
WEBSOCKET: Final = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
TOLD: Final = (
    "X-Forwarded-Method",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Uri",
    "X-Forwarded-For",
    "X-Original-URL",
    "X-Original-Method",
)
"""Headers by which proxies tell PassCtrl of the request."""
PUBLIC: Final = ("/public", "/static", "/.well-known")
"""What is often let through without a credential."""


class Probe(NamedTuple):
    """A request, and the finding that it is when the application answers."""

    code: str
    sending: Sending


def spellings(path: str, authority: str) -> tuple[str, ...]:
    """Spell a path as proxies and applications may read differently."""
    rest = path[1:]
    letter = f"%{ord(rest[0]):02x}{rest[1:]}" if rest else ""
    made = [
        f"/{path}", f"/.{path}", f"/%2e{path}", f"/x/..{path}", f"/x/%2e%2e{path}",
        f"/x/%2E%2E{path}", f"/x%2f..{path}", f"/x/..;{path}", f"/%2f{rest}", f"/;{path}",
        f"{path};x=1", f"/\\{rest}", f"/%5c{rest}", f"{path}%20", f"{path}%00", f"{path}/.",
        f"{path}?x={PUBLIC[0]}", f"{path}#{PUBLIC[0]}", f"http://{authority}{path}",
        *(f"{public}/..{path}" for public in PUBLIC),
        *(f"{public}/%2e%2e{path}" for public in PUBLIC),
    ]  # fmt: skip
    if rest:
        made += [f"/{letter}", f"/%25{letter[1:]}", f"{path}/"]
    if path.upper() != path:
        made.append(path.upper())
    return tuple(made)


def forgeries(path: str, identities: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Make headers by which a client says what only the proxy may say."""
    yield (
        "X-Forwarded-Method: OPTIONS", "X-Forwarded-Proto: https", "X-Forwarded-Host: localhost",
        f"X-Forwarded-Uri: {PUBLIC[0]}", "X-Forwarded-For: 127.0.0.1",
    )  # fmt: skip
    yield (f"X-Original-URL: http://localhost{PUBLIC[0]}", "X-Original-Method: OPTIONS")
    yield (f"X-Rewrite-URL: {PUBLIC[0]}", f"X-Forwarded-Prefix: {PUBLIC[0]}")
    yield ("X-HTTP-Method-Override: OPTIONS", "X-Method-Override: OPTIONS")
    yield ("X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1", "Forwarded: for=127.0.0.1")
    yield (f"X_Forwarded_Uri: {PUBLIC[0]}", "X_Forwarded_Method: OPTIONS")
    yield tuple(f"{name}: root" for name in identities)
    yield tuple(f"{name.replace('-', '_')}: root" for name in identities)
    yield ("User-Agent: kube-probe/1.30",)
    yield ("User-Agent: GoogleHC/1.0",)
    yield ("Authorization: Bearer guessed",)
    yield ("Authorization: Bearer guessed", "Authorization: Bearer another")
    yield (f"Referer: http://localhost{path}", "X-PassCtrl-Decision: allow")


def strangers(
    path: str, authority: str, identities: Sequence[str], unknown: str
) -> Iterator[Probe]:
    """List everything that is sent without a credential. `unknown` is no path of anybody."""
    for method in METHODS:
        yield Probe("method-open", Sending(method=method, target=path))
    for target in spellings(path, authority):
        yield Probe("path-open", Sending(target=target))
    for target in ("/", f"/{unknown}", f"{path.rstrip('/')}/{unknown}", f"/{unknown}.css"):
        if target != path:
            yield Probe("elsewhere-open", Sending(target=target))
    for headers in forgeries(path, identities):
        yield Probe("forged-open", Sending(target=path, headers=headers))
    named = ", ".join(("close", *TOLD, "Authorization"))
    yield Probe("connection-open", Sending(target=path, headers=(f"Connection: {named}",)))
    yield Probe("websocket-open", Sending(target=path, headers=WEBSOCKET))
    huge = f"Cookie: c={'x' * HUGE_BYTES}"
    yield Probe("huge-open", Sending(target=path, headers=(huge,)))
    yield Probe("slow-open", Sending(target=path, slowly=True))
    yield Probe("version-open", Sending(target=path, version="HTTP/1.0"))
