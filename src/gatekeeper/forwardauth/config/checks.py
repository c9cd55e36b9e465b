"""What parts of a configuration say that only together is wrong. No expression is looked into."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Final, NamedTuple, get_args
from urllib.parse import urlsplit

from gatekeeper.forwardauth.config.base import DialectName
from gatekeeper.forwardauth.config.credentials import (
    BasicMatch,
    BearerMatch,
    CookieMatch,
    ForwardHeader,
    HeaderMatch,
    JwtMatch,
    NoneMatch,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gatekeeper.forwardauth.config.credentials import Match
    from gatekeeper.forwardauth.config.endpoint import Allow, Endpoint, Refusing
    from gatekeeper.forwardauth.config.rule import BackendApi, Rule
    from gatekeeper.forwardauth.config.server import Server

OF_THE_CONNECTION: Final = frozenset({"connection", "content-length", "date", "transfer-encoding"})
"""Headers that the decision port writes itself: an answer that had one could not be sent."""
NEVER_SENT: Final = OF_THE_CONNECTION - {"date"} | {
    "expect",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
}
"""Headers that no call to a backend has but those its connection makes: each would fail."""
MOUNTS: Final = frozenset({"auth", *get_args(DialectName)} - {"generic"})
"""First segments of paths that are taken: no endpoint has such a name."""
OF_IT: Final = "it belongs to the connection"

_PLACEHOLDER: Final = re.compile(r"\$\{[^}]*\}|\$\([^)]*\)|\{\{.*\}\}|%\w+%")
"""What other programs replace by a value: a shell, Compose, a template."""


class Finding(NamedTuple):
    """Something wrong with a definition, at a location in it; `near` is what may be meant."""

    location: tuple[str | int, ...]
    message: str
    near: str | None = None


def check_rule(rule: Rule, server: Server) -> Iterator[Finding]:
    """Find what is wrong with a rule, whichever endpoint asks it."""
    for number, group in enumerate(rule.auth):
        for place, match in enumerate(group.match):
            if isinstance(match, JwtMatch) and match.issuer not in server.issuers:
                yield Finding(
                    ("auth", number, "match", place, "issuer"),
                    "server.issuers has none of this name",
                    _near(match.issuer, server.issuers),
                )
            yield from _filled_in(match, ("auth", number, "match", place))
        for place, forward in enumerate(group.forward_as or ()):
            if isinstance(forward, ForwardHeader) and forward.name in NEVER_SENT:
                yield Finding(("auth", number, "forwardAs", place, "name"), OF_IT)
    for outcome, seconds in (("pass", rule.cache.ttl.pass_), ("fail", rule.cache.ttl.fail)):
        yield from _kept(seconds, ("cache", "ttl", outcome), server)
    if rule.backend_api is not None:
        yield from _called(rule.backend_api, server)


def _called(call: BackendApi, server: Server) -> Iterator[Finding]:
    """Find what a call can never be sent with."""
    yield from _body_file(call.body_file, ("backendApi", "bodyFile"), server)
    for name in sorted(NEVER_SENT & call.headers.keys()):
        yield Finding(("backendApi", "headers", name), OF_IT)
    if call.method == "CONNECT":
        yield Finding(("backendApi", "method"), "CONNECT asks for a tunnel, not for an answer")


def _filled_in(match: Match, location: tuple[str | int, ...]) -> Iterator[Finding]:
    """Find what was meant to be filled in: as it stands, everybody knows this credential."""
    if isinstance(match, JwtMatch | NoneMatch):
        return
    basic = isinstance(match, BasicMatch)
    for key in ("username", "password") if basic else ("value",):
        given = getattr(match, key) or []
        values = given if isinstance(given, list) else [given]
        if any(_PLACEHOLDER.fullmatch(value.reveal()) for value in values):
            yield Finding(
                (*location, key),
                "nothing is filled in here, this text itself would be let in; write the credential,"
                " in a file for its owner alone (server.rules.rulesFile)",
            )


def check_endpoint(
    name: str, endpoint: Endpoint, rules: Mapping[str, Rule], server: Server
) -> Iterator[Finding]:
    """Find what is wrong with an endpoint. Rules it names and nobody has are no matter here."""
    if name.lower() in MOUNTS:
        yield Finding((), "paths of this name are taken; call it otherwise")
    admission = endpoint.authentication
    if admission.allow.none and admission.required and "required" in admission.model_fields_set:
        yield Finding(
            ("authentication", "required"), "allow.none admits everybody: nothing is required"
        )
    yield from _asked(endpoint, rules)
    yield from _kept(endpoint.cache.result_ttl, ("cache", "resultTTL"), server)
    yield from _headers(endpoint.response_policy.pass_.headers, ("responsePolicy", "pass"))
    for location, response in (
        (("authentication", "response"), admission.response),
        (("responsePolicy", "fail"), endpoint.response_policy.fail),
        (("responsePolicy", "error"), endpoint.response_policy.error),
    ):
        yield from _headers(response.headers, location)
        yield from _body_file(response.body_file, (*location, "bodyFile"), server)
        yield from _redirect(response, location)


def _headers(names: Iterable[str], location: tuple[str, ...]) -> Iterator[Finding]:
    for name in names:
        if name in OF_THE_CONNECTION:
            yield Finding((*location, "headers", name), OF_IT)


def _asked(endpoint: Endpoint, rules: Mapping[str, Rule]) -> Iterator[Finding]:
    seen = set()
    for number, reference in enumerate(endpoint.rules):
        location = ("rules", number, "name")
        if reference.name in seen:
            # What it exports is found under its name, and asking it again changes nothing.
            yield Finding(location, "this rule stands in the chain already")
        seen.add(reference.name)
        rule = rules.get(reference.name)
        if rule is not None and rule.auth and not _can_match(rule, endpoint.authentication.allow):
            yield Finding(location, "it takes only credentials that this endpoint does not allow")


def _can_match(rule: Rule, allow: Allow) -> bool:
    return any(all(_is_seen(match, allow) for match in group.match) for group in rule.auth)


def _is_seen(match: Match, allow: Allow) -> bool:
    match match:
        case NoneMatch():
            return True
        case BasicMatch():
            return "basic" in allow.authorization
        case BearerMatch() | JwtMatch():
            return "bearer" in allow.authorization
        case HeaderMatch():
            return match.name in allow.header
        case CookieMatch():
            return match.name in allow.cookie
    return match.name in allow.query


def _kept(
    seconds: float | None, location: tuple[str | int, ...], server: Server
) -> Iterator[Finding]:
    if seconds is not None and seconds > server.cache.max_ttl:
        yield Finding(location, "longer than server.cache.maxTtl allows")


def _body_file(
    name: str | None, location: tuple[str | int, ...], server: Server
) -> Iterator[Finding]:
    if name is not None and server.templates.templates_folder is None:
        yield Finding(location, "server.templates.templatesFolder says where such files are")


def _redirect(response: Refusing, location: tuple[str | int, ...]) -> Iterator[Finding]:
    redirect = response.redirect
    if redirect is None:
        return
    literal = redirect.to.partition("{")[0]
    whole_host = literal != redirect.to and "/" not in literal.partition("://")[2]
    if "://" not in literal or whole_host:
        return  # a path, or a host that a template makes
    try:
        host = urlsplit(literal).netloc.lower()
    except ValueError:
        yield Finding((*location, "redirect", "to"), "not a URL")
        return
    if host not in {known.lower() for known in redirect.hosts}:
        yield Finding(
            (*location, "redirect", "hosts"),
            "the host of `to` is not among them",
            _near(host, redirect.hosts),
        )


def _near(name: str, known: Iterable[str]) -> str | None:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return near[0] if near else None
