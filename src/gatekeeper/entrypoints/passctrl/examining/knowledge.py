"""What each finding means, and how it is mended. Pages of the proxies: examples/proxies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Severity(StrEnum):
    HIGH = "high"
    """Somebody gets in, or is taken for somebody else."""
    MEDIUM = "medium"
    """The gate does not do what it is there for, or rests on one thing alone."""
    NOTE = "note"
    """Worth knowing; nothing is wrong by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    severity: Severity
    what: str
    why: str
    mend: str
    """In any proxy."""
    by_proxy: Mapping[str, str] = field(default_factory=dict)

    def mending(self, proxy: str | None) -> str:
        return self.by_proxy.get(proxy or "", self.mend)


_ASKED_FOR_ALL: Final = {
    "nginx": "put auth_request into the server block or into each location, also those by regex;"
    " no `satisfy any`; error_page 401 and 403 lead to a `return`, never to the application",
    "ingress-nginx": "each Ingress of this host needs the annotation auth-url; no snippet answers"
    " before it, and custom-http-errors has neither 401 nor 403",
    "traefik": "each router that leads to the service lists the forwardAuth middleware",
    "caddy": "forward_auth stands before reverse_proxy in one `route` that takes every path",
    "envoy": "ext_authz stands before the router in http_filters, no route turns it off, and"
    " failure_mode_allow is false",
    "haproxy": "deny unless txn.passctrl_decision is allow, before every use_backend",
}
_OVERWRITTEN: Final = {
    "nginx": "for each identity header: auth_request_set $v $upstream_http_x_user; proxy_set_header"
    " X-User $v; in the very location that has proxy_pass",
    "ingress-nginx": "name each identity header in auth-response-headers",
    "traefik": "name each identity header in authResponseHeaders",
    "caddy": "name each identity header in copy_headers (Caddy 2.11.2 or newer)",
    "envoy": "remove each identity header by header_mutation before ext_authz, and name it in"
    " allowed_upstream_headers",
    "haproxy": "del-header each identity header first, set-header it after lua.passctrl",
}
_NO_UNDERSCORES: Final = {
    "nginx": "underscores_in_headers off (the default)",
    "ingress-nginx": "leave enable-underscores-in-headers at false",
    "traefik": "underscoreHeadersStrategy: delete at the entry point",
    "caddy": "request_header -*_*",
    "envoy": "headers_with_underscores_action: REJECT_REQUEST",
    "haproxy": "http-request del-header _ -m sub",
}
_NO_NAMES_IN_CONNECTION: Final = {
    "caddy": "set Connection to Upgrade for upgrades, and remove it otherwise",
    "haproxy": "set Connection to upgrade for upgrades, and remove it otherwise",
}
_TELL_ALL: Final = {
    "nginx": "in the location of auth_request set all five: X-Forwarded-Method $request_method,"
    " -Proto $scheme, -Host $http_host, -Uri $request_uri, -For $remote_addr",
    "ingress-nginx": "no auth-snippet; leave use-forwarded-headers at false",
    "traefik": "no trustForwardHeader; forwardedHeaders.trustedIPs has proxies alone",
    "caddy": "trusted_proxies has proxies alone, and no header_up hands these on",
    "envoy": "use_remote_address: true",
    "haproxy": "http-request del-header X-Forwarded- -m beg, before lua.passctrl",
}
_ONE_PATH: Final = {
    "nginx": "X-Forwarded-Uri is $request_uri, never $uri; proxy_pass has no path of its own; one"
    " location for all that is protected",
    "traefik": "sanitizePath: true, and no middleware changes the path before forwardAuth",
    "envoy": "normalize_path and merge_slashes true, path_with_escaped_slashes_action"
    " REJECT_REQUEST, nothing clears the route cache after ext_authz",
}

MEANINGS: Final[Mapping[str, Meaning]] = {
    "open": Meaning(
        severity=Severity.HIGH,
        what="the application answers without a credential",
        why="the proxy does not ask, or lets through what it could not ask about",
        mend="ask PassCtrl before anything is handed on, and refuse when there is no answer",
        by_proxy=_ASKED_FOR_ALL,
    ),
    "error-page": Meaning(
        severity=Severity.HIGH,
        what="a refusal is answered by the application",
        why="the status says no, and the request got there all the same (CVE-2026-24513)",
        mend="a refusal ends at the proxy: its page is static",
        by_proxy=_ASKED_FOR_ALL,
    ),
    "method-open": Meaning(
        severity=Severity.HIGH,
        what="the application, or something before the question, answers this method",
        why="who is refused a GET may do the same by another method; for preflights (OPTIONS) let"
        " PassCtrl decide, so that nothing else gets through",
        mend="ask about every method",
        by_proxy={"nginx": "no `if ($request_method …)` and no limit_except around auth_request"},
    ),
    "path-open": Meaning(
        severity=Severity.HIGH,
        what="the application answers to this spelling of the path",
        why="the proxy chose by one spelling, the application reads another (CVE-2026-42274,"
        " CVE-2026-26205)",
        mend="ask about every path, and let PassCtrl's rules tell paths apart",
        by_proxy={"nginx": "one location for all that is protected; merge_slashes on"},
    ),
    "elsewhere-open": Meaning(
        severity=Severity.MEDIUM,
        what="this path is open",
        why="if that is not meant, the question stands in front of a part of the site alone",
        mend="ask about every path; let what is public through by a rule",
        by_proxy=_ASKED_FOR_ALL,
    ),
    "forged-open": Meaning(
        severity=Severity.HIGH,
        what="the application answers who claims to be somebody else or somewhere else",
        why="what only the proxy may say is believed when a client says it (CVE-2026-40575)",
        mend="overwrite all of these, whatever the client sent",
        by_proxy=_TELL_ALL,
    ),
    "connection-open": Meaning(
        severity=Severity.HIGH,
        what="the application answers who names the proxy's headers in Connection",
        why="proxies drop what Connection names, also what they set themselves (CVE-2025-48865)",
        mend="let no client name headers in Connection",
        by_proxy=_NO_NAMES_IN_CONNECTION,
    ),
    "websocket-open": Meaning(
        severity=Severity.HIGH,
        what="a WebSocket is opened without a credential",
        why="an upgrade is a request like any other, and lasts longer",
        mend="ask about upgrades too",
        by_proxy=_ASKED_FOR_ALL,
    ),
    "huge-open": Meaning(
        severity=Severity.HIGH,
        what="the application answers when a header is too large to ask with",
        why="what cannot be asked about must be refused",
        mend="refuse when there is no answer",
        by_proxy=_ASKED_FOR_ALL,
    ),
    "slow-open": Meaning(
        severity=Severity.HIGH,
        what="the application answers a request that comes in pieces",
        why="how fast a request comes says nothing about who sends it",
        mend="ask about every request",
        by_proxy=_ASKED_FOR_ALL,
    ),
    "version-open": Meaning(
        severity=Severity.HIGH,
        what="the application answers HTTP/1.0",
        why="an older version of the protocol is no credential",
        mend="ask about every request",
        by_proxy=_ASKED_FOR_ALL,
    ),
    "reuse-open": Meaning(
        severity=Severity.HIGH,
        what="after a request with the credential the connection is trusted",
        why="another client's requests may follow on it: proxies share connections",
        mend="ask about every request, not about a connection",
        by_proxy=_ASKED_FOR_ALL,
    ),
    "credential-refused": Meaning(
        severity=Severity.MEDIUM,
        what="the credential is not let in",
        why="either it is not known, or the proxy does not tell PassCtrl all it needs; PassCtrl's"
        " log has the reason. What needs a request that is let in was not examined",
        mend="the question carries the client's credential, and every header of the dialect",
        by_proxy=_TELL_ALL,
    ),
    "client-tells": Meaning(
        severity=Severity.HIGH,
        what="what a client says in this header reaches PassCtrl",
        why="a client could choose the path or the method that is judged (CVE-2026-40575,"
        " CVE-2026-35051)",
        mend="overwrite it, whatever the client sent",
        by_proxy=_TELL_ALL,
    ),
    "two-credentials": Meaning(
        severity=Severity.MEDIUM,
        what="a request with two credentials is let in",
        why="PassCtrl judged one, and the application may take the other (CVE-2021-32777)",
        mend="the question carries the client's headers as they are, all of them",
    ),
    "identity-survives": Meaning(
        severity=Severity.HIGH,
        what="an identity header of the client reaches the application",
        why="whoever is let in can be anybody (CVE-2026-30851)",
        mend="overwrite each identity header, also when PassCtrl's is empty",
        by_proxy=_OVERWRITTEN,
    ),
    "twin-survives": Meaning(
        severity=Severity.HIGH,
        what="an identity header spelt with an underscore reaches the application",
        why="CGI, WSGI and PHP take X_User for X-User (CVE-2026-39858, CVE-2025-64484)",
        mend="drop or refuse headers with an underscore",
        by_proxy=_NO_UNDERSCORES,
    ),
    "underscores-pass": Meaning(
        severity=Severity.MEDIUM,
        what="headers with an underscore reach the application",
        why="PassCtrl refuses twins of the headers that it knows; others that the proxy sets"
        " for the application have twins too",
        mend="drop or refuse headers with an underscore",
        by_proxy=_NO_UNDERSCORES,
    ),
    "identity-dropped": Meaning(
        severity=Severity.HIGH,
        what="a client can take an identity header away",
        why="an application may take a request without one for its own (CVE-2025-48865)",
        mend="let no client name headers in Connection",
        by_proxy=_NO_NAMES_IN_CONNECTION,
    ),
    "identity-missing": Meaning(
        severity=Severity.MEDIUM,
        what="no identity header reaches the application",
        why="it cannot tell who is there, and believes the next who says so",
        mend="hand on each header of responsePolicy.pass",
        by_proxy=_OVERWRITTEN,
    ),
    "path-differs": Meaning(
        severity=Severity.HIGH,
        what="the application gets a path that PassCtrl would have refused",
        why="so PassCtrl was told another one: rules about paths can be got around"
        " (CVE-2026-40912). With encodedSlashes: keep, %2f alone is meant",
        mend="tell PassCtrl the path as the application will get it",
        by_proxy=_ONE_PATH,
    ),
    "credential-arrives": Meaning(
        severity=Severity.NOTE,
        what="the application gets the credential itself",
        why="its logs and whoever takes it over have it too",
        mend="remove the credential's header after the question, if the application needs none",
        by_proxy={"nginx": 'proxy_set_header Authorization "";'},
    ),
    "unclear": Meaning(
        severity=Severity.NOTE,
        what="some answers do not tell whether the application gave them",
        why="a 404 may be the proxy's or the application's own",
        mend="examine a path whose answer tells what arrived (--echo)",
    ),
    "not-examined": Meaning(
        severity=Severity.NOTE,
        what="not everything was examined",
        why="identity headers and paths are seen in what the application gets, with a credential"
        " that is let in",
        mend="give --credential-file (or PASSCTRL_CREDENTIAL) and --echo",
    ),
    "not-finished": Meaning(
        severity=Severity.MEDIUM,
        what="the examination ended before everything was sent",
        why="its time or its number of requests was used up",
        mend="give it more time (--timeout, --deadline)",
    ),
}
