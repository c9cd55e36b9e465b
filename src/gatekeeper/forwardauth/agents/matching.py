"""Credential matching, a part of agent 6: AND inside a group, OR between, first match wins.

Literals are compared by keyed digests: what a comparison's time could tell is nothing an
attacker can aim at (the key is of this process, and random). Patterns are RE2.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from gatekeeper.forwardauth.agents.compiling import Compiler, reads_of
from gatekeeper.forwardauth.config.credentials import (
    AuthGroup,
    BasicMatch,
    CookieMatch,
    Forward,
    ForwardBasic,
    ForwardBearer,
    ForwardHeader,
    ForwardQuery,
    HeaderMatch,
    JwtMatch,
    Match,
    NoneMatch,
    QueryMatch,
    Value,
)
from gatekeeper.forwardauth.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatekeeper.forwardauth.model import Credential, Read, Scope
    from gatekeeper.forwardauth.ports import Expression, Pattern

DIGEST_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Check:
    """A constraint on a value: any of the literals, or any of the patterns."""

    key: bytes
    digests: frozenset[bytes]
    patterns: tuple[Pattern, ...]

    def __call__(self, value: str) -> bool:
        digest = _digest(self.key, value)
        return digest in self.digests or any(fits(value) for fits in self.patterns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matcher:
    """One matcher: the credential it looks for, and constraints on it."""

    kind: str
    credential: str
    """The kind of credential it looks for: a jwt is a bearer token."""
    name: str = ""
    user: Check | None = None
    value: Check | None = None
    issuer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One thing the winner forwards to the backend."""

    kind: str
    name: str
    first: Expression
    """The token, the value or the user."""
    password: Expression | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    selected: str
    """What it takes: the kind of its first matcher."""
    matchers: tuple[Matcher, ...]
    outputs: tuple[Output, ...] | None
    """None: the credentials of the group again, as they came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the credentials of all groups come from: stripped before anything is forwarded."""

    headers: frozenset[str]
    query: frozenset[str]
    cookies: frozenset[str]


NO_SOURCES: Final = Sources(headers=frozenset(), query=frozenset(), cookies=frozenset())


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    groups: tuple[Group, ...]
    issuers: tuple[str, ...]
    sources: Sources
    reads: frozenset[Read]


def compile_matching(groups: Sequence[AuthGroup], compiler: Compiler, *, key: bytes) -> Matching:
    compiled = tuple(
        _group(group, compiler.at(index), key=key) for index, group in enumerate(groups)
    )
    matchers = [matcher for group in compiled for matcher in group.matchers]
    outputs = [output for group in compiled for output in group.outputs or ()]
    return Matching(
        groups=compiled,
        issuers=tuple(dict.fromkeys(m.issuer for m in matchers if m.issuer is not None)),
        sources=Sources(
            headers=frozenset(
                "authorization" if m.credential in ("basic", "bearer") else m.name
                for m in matchers
                if m.credential in ("basic", "bearer", "header")
            ),
            query=frozenset(m.name for m in matchers if m.credential == "query"),
            cookies=frozenset(m.name for m in matchers if m.credential == "cookie"),
        ),
        reads=reads_of((output.first, output.password) for output in outputs),
    )


def _group(group: AuthGroup, compiler: Compiler, *, key: bytes) -> Group:
    matchers = tuple(
        _matcher(match, compiler.at("match", index), key=key)
        for index, match in enumerate(group.match)
    )
    selected = group.match[0].type
    if group.forward_as is None:
        return Group(selected=selected, matchers=matchers, outputs=None)
    outputs = (
        _output(forward, compiler.at("forwardAs", index))
        for index, forward in enumerate(group.forward_as)
        if forward.type != "none"
    )
    return Group(selected=selected, matchers=matchers, outputs=tuple(outputs))


def _matcher(match: Match, compiler: Compiler, *, key: bytes) -> Matcher:
    if isinstance(match, NoneMatch):
        return Matcher(kind="none", credential="none")
    if isinstance(match, JwtMatch):
        return Matcher(kind="jwt", credential="bearer", issuer=match.issuer)
    if isinstance(match, BasicMatch):
        return Matcher(
            kind="basic",
            credential="basic",
            user=_check(match.username, compiler.at("username"), key=key),
            value=_check(match.password, compiler.at("password"), key=key),
        )
    name = match.name if isinstance(match, HeaderMatch | QueryMatch | CookieMatch) else ""
    value = _check(match.value, compiler.at("value"), key=key)
    return Matcher(kind=match.type, credential=match.type, name=name, value=value)


def _check(given: Value | None, compiler: Compiler, *, key: bytes) -> Check | None:
    if given is None:
        return None
    texts = [one.reveal() for one in (given if isinstance(given, list) else [given])]
    patterns = [text for text in texts if _is_pattern(text)]
    return Check(
        key=key,
        digests=frozenset(_digest(key, text) for text in texts if not _is_pattern(text)),
        patterns=tuple(compiler.pattern(text[1:-1]) for text in patterns),
    )


def _is_pattern(text: str) -> bool:
    return len(text) > len("//") and text.startswith("/") and text.endswith("/")


def _digest(key: bytes, text: str) -> bytes:
    return blake2b(
        text.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES, key=key
    ).digest()


def _output(forward: Forward, compiler: Compiler) -> Output:
    if isinstance(forward, ForwardBasic):
        return Output(
            kind="basic",
            name="authorization",
            first=compiler.at("user").template(forward.user),
            password=compiler.at("password").template(forward.password),
        )
    if isinstance(forward, ForwardBearer):
        return Output(
            kind="bearer",
            name="authorization",
            first=compiler.at("token").template(forward.token),
        )
    assert isinstance(forward, ForwardHeader | ForwardQuery)  # noqa: S101  # none was passed over
    return Output(
        kind=forward.type,
        name=forward.name,
        first=compiler.at("value").template(forward.value),
    )


def first_match(
    groups: Sequence[Group],
    credentials: Sequence[Credential],
    claims: Mapping[str, Mapping[str, Any]],
) -> tuple[int, Mapping[str, Any]] | None:
    """Find the first group all of whose matchers hold: its index, and its `auth.input`.

    `claims` has those of verified tokens, by issuer.
    """
    for index, group in enumerate(groups):
        shown: dict[str, Any] = {}
        for matcher in group.matchers:
            if not _holds(matcher, credentials, claims, shown):
                break
        else:
            return index, shown
    return None


def _holds(
    matcher: Matcher,
    credentials: Sequence[Credential],
    claims: Mapping[str, Mapping[str, Any]],
    shown: dict[str, Any],
) -> bool:
    if matcher.kind == "none":
        return True
    for credential in credentials:
        if credential.kind == matcher.credential and credential.name == matcher.name:
            break
    else:
        return False
    if matcher.issuer is not None:
        if matcher.issuer not in claims:
            return False
        shown["jwt"] = {"claims": claims[matcher.issuer], "issuer": matcher.issuer}
    user = matcher.user is None or matcher.user(credential.user)
    value = matcher.value is None or matcher.value(credential.value)
    if not (user and value):
        return False
    _show(credential, shown)
    return True


def _show(credential: Credential, shown: dict[str, Any]) -> None:
    if credential.kind == "basic":
        shown["basic"] = {"user": credential.user, "password": credential.value}
    elif credential.kind == "bearer":
        shown["bearer"] = {"token": credential.value}
    else:
        shown.setdefault(credential.kind, {})[credential.name] = credential.value


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What the winner writes into a backend's request."""

    headers: tuple[tuple[str, str], ...] = ()
    query: tuple[tuple[str, str], ...] = ()


NOT_FORWARDED: Final = Forwarded()


def forwards(group: Group, shown: Mapping[str, Any], scope: Scope) -> Forwarded:
    """Make what a group forwards. Raises `EvaluationError` when a part of it is missing."""
    if group.outputs is None:
        return _again(shown)
    headers: list[tuple[str, str]] = []
    query: list[tuple[str, str]] = []
    for output in group.outputs:
        value = output.first(scope)
        if output.password is None:
            value = value.strip()
        if not value:
            msg = f"forwardAs {output.kind} {output.name}: nothing to forward"
            raise EvaluationError(msg)
        if output.password is not None:
            value = basic(value, output.password(scope))
        elif output.kind == "bearer":
            value = f"Bearer {value}"
        (query if output.kind == "query" else headers).append((output.name, value))
    return Forwarded(tuple(headers), tuple(query))


def _again(shown: Mapping[str, Any]) -> Forwarded:
    """Forward a group's credentials as they came."""
    headers = list(shown.get("header", {}).items())
    if "basic" in shown:
        value = basic(shown["basic"]["user"], shown["basic"]["password"])
        headers.append(("authorization", value))
    elif "bearer" in shown:
        headers.append(("authorization", f"Bearer {shown['bearer']['token']}"))
    if "cookie" in shown:
        text = "; ".join(f"{name}={value}" for name, value in shown["cookie"].items())
        headers.append(("cookie", text))
    return Forwarded(tuple(headers), tuple(shown.get("query", {}).items()))


def basic(user: str, password: str) -> str:
    """Write Basic credentials (RFC 7617): a user name has no colon."""
    if ":" in user:
        msg = "forwardAs basic: a user name has no colon"
        raise EvaluationError(msg)
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
