"""Compiles a configuration into plans. What a request could have parsed or looked up is done here.

A definition that cannot be compiled is left out with its reasons, and endpoints that need it
are quarantined: they answer an error, the others go on.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

from gatekeeper.forwardauth.agents.admission import Admission
from gatekeeper.forwardauth.agents.chain import compile_chain
from gatekeeper.forwardauth.agents.compiling import Compiler, Fault, reads_of
from gatekeeper.forwardauth.agents.recall import Recall, recall_of
from gatekeeper.forwardauth.agents.response import compile_response
from gatekeeper.forwardauth.agents.rule import Bounds, RulePlan, compile_rule
from gatekeeper.forwardauth.agents.server import EndpointPlan, Generation, Names
from gatekeeper.forwardauth.checking import check_endpoint, check_rule
from gatekeeper.forwardauth.model import Outcome, SkippedDefinition
from gatekeeper.forwardauth.request import views
from gatekeeper.forwardauth.request.reading import reading_of
from gatekeeper.kernel.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from gatekeeper.forwardauth.agents.chain import Chain
    from gatekeeper.forwardauth.agents.response import ResponsePlan
    from gatekeeper.forwardauth.config import Configuration, Endpoint, Rule
    from gatekeeper.forwardauth.model import OriginalRequest, Read
    from gatekeeper.forwardauth.ports import Language

PROCESS_KEY: Final = secrets.token_bytes(32)
"""Keys the digests by which credentials are compared."""

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

VIEWS: Final[Mapping[str, Callable[[OriginalRequest], Any]]] = {
    "request.method": lambda request: request.method,
    "request.scheme": lambda request: request.scheme,
    "request.host": lambda request: request.host,
    "request.port": lambda request: request.port or DEFAULT_PORTS[request.scheme],
    "request.path": lambda request: request.path,
    "request.rawPath": lambda request: request.raw_path,
    "request.rawQuery": lambda request: request.raw_query,
    "request.query": views.query,
    "request.queryAll": views.query_all,
    "request.headers": views.headers,
    "request.headersAll": views.headers_all,
    "request.cookies": views.cookies,
    "request.client": lambda request: request.client,
    "request.proxied": lambda request: request.proxied,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A generation, and everything that kept a definition out of it."""

    generation: Generation
    faults: tuple[Fault, ...]


def compile_configuration(
    configuration: Configuration,
    language: Language,
    *,
    number: int,
    digest: bytes,
    environment: Mapping[str, str],
    secret_values: Mapping[str, str],
    skipped: Iterable[SkippedDefinition] = (),
) -> Compiled:
    """Compile what is usable of a configuration; the rest is skipped with its reasons."""
    constants = {"env": dict(environment), "secrets": dict(secret_values)}
    builder = _Builder(configuration, language, digest, constants)
    plans = {name: builder.endpoint(name, one) for name, one in configuration.endpoints.items()}
    left_out = (*skipped, *builder.skipped)
    usable = {name: plan for name, plan in plans.items() if plan is not None}
    return Compiled(
        generation=Generation(
            number=number,
            digest=digest.hex(),
            plans=usable,
            quarantined=frozenset(s.name for s in left_out if s.kind == "endpoint"),
            skipped=tuple(sorted(left_out)),
            secrets=(*map(Secret, secret_values.values()), *_secrets(configuration)),
        ),
        faults=tuple(builder.faults),
    )


def _secrets(part: object) -> Iterator[Secret]:
    """Yield every secret that stands in a configuration."""
    if isinstance(part, Secret):
        yield part
    elif isinstance(part, BaseModel):
        for name in type(part).model_fields:
            yield from _secrets(getattr(part, name))
    elif isinstance(part, dict | list):
        for inner in part.values() if isinstance(part, dict) else part:
            yield from _secrets(inner)


class _Builder:
    """Compiles each rule once, whichever endpoints use it."""

    def __init__(
        self,
        configuration: Configuration,
        language: Language,
        digest: bytes,
        constants: Mapping[str, Any],
    ) -> None:
        server = configuration.server
        salt = server.cache.key_salt
        secret = PROCESS_KEY if salt is None else salt.reveal().encode()
        self._language = language
        self._constants = constants
        self._bounds = Bounds(
            key=PROCESS_KEY,
            cache_key=blake2b(digest, key=blake2b(secret).digest()[:32]).digest(),
            timeout=server.backend.timeout,
            max_seconds=server.cache.max_ttl,
        )
        self.skipped: list[SkippedDefinition] = []
        self.faults: list[Fault] = []
        self._rules = {name: self._rule(name, rule) for name, rule in configuration.rules.items()}

    def _rule(self, name: str, config: Rule) -> RulePlan | None:
        compiler = Compiler(self._language, ("rules", name), self._constants)
        plan = compile_rule(name, config, compiler, self._bounds)
        check_rule(plan, compiler)
        return plan if self._whole("rule", name, compiler) else None

    def endpoint(self, name: str, config: Endpoint) -> EndpointPlan | None:
        missing = [one.name for one in config.rules if self._rules.get(one.name) is None]
        compiler = Compiler(self._language, ("endpoints", name), self._constants)
        if missing:
            # Its own expressions are compiled all the same: what is wrong is told at once.
            compiler.at("variables").named(config.variables, Compiler.expression)
            compile_response(config, compiler)
            self.faults += compiler.faults
            reason = f"missing rule dependencies: {', '.join(dict.fromkeys(missing))}"
            self.skipped.append(SkippedDefinition("endpoint", name, reason))
            return None
        rules = [rule for one in config.rules if (rule := self._rules[one.name]) is not None]
        plan = _endpoint(
            name, config, rules, compiler, bounds=self._bounds, constants=self._constants
        )
        return plan if self._whole("endpoint", name, compiler) else None

    def _whole(self, kind: str, name: str, compiler: Compiler) -> bool:
        if not compiler.faults:
            return True
        self.faults += compiler.faults
        reason = "; ".join(
            f"{'.'.join(map(str, fault.where))}: {fault.message}" for fault in compiler.faults
        )
        self.skipped.append(SkippedDefinition(kind, name, reason))
        return False


def _endpoint(
    name: str,
    config: Endpoint,
    rules: list[RulePlan],
    compiler: Compiler,
    *,
    bounds: Bounds,
    constants: Mapping[str, Any],
) -> EndpointPlan:
    variables = compiler.at("variables").named(config.variables, Compiler.expression)
    response = compile_response(config, compiler)
    chain = compile_chain(
        name,
        rules,
        bounds,
        credentials=_credentials(config),
        seconds=config.cache.result_ttl,
    )
    reads = reads_of(variables).union(response.reads, *(rule.reads for rule in rules))
    cookies = _names_read("request.cookies", reads)
    if chain.caching is not None:
        reads |= set(chain.caching.reads)
    check_endpoint(variables, rules, response.reads, compiler)
    names = {read[0] for read in reads}
    parameters = _names_read("request.query", reads)
    return EndpointPlan(
        name=name,
        reading=reading_of(config),
        admission=Admission.of(config.authentication),
        forwards=config.forward_request_policy.forward_proxy_headers and "forward.headers" in names,
        constants={
            key: value
            for key, value in {**constants, "request.endpoint": name, **_EMPTY}.items()
            if key in names
        },
        views=tuple((view, VIEWS[view]) for view in sorted(names & VIEWS.keys())),
        parameters=None
        if parameters is None
        else parameters.union(config.authentication.allow.query),
        cookies=cookies,
        reads_now="now" in names,
        reads_id="request.id" in names,
        variables=variables,
        chain=chain,
        response=response,
        recall=_recall(config, chain, response, reads),
    )


def _recall(
    config: Endpoint, chain: Chain, response: ResponsePlan, reads: Iterable[Read]
) -> Recall | None:
    """Remember answers where nobody is asked, and no result is kept for a time of its own."""
    if chain.asks or chain.caching or any(rule.caching for rule in chain.rules):
        return None
    copied = {
        ("request.headers", name)
        for name, expression in response.answers[Outcome.PASS].headers
        if expression is None
    }
    return recall_of({*reads, *copied, *_credentials(config)})


_EMPTY: Final[Mapping[str, Any]] = {
    "rules": {},
    "response": {},
    "vars.global": {},
    "forward.headers": {},
}
"""What these are before anything wrote them."""


def _names_read(of: str, reads: Iterable[Read]) -> Names:
    """Name the parameters or cookies that are read."""
    paths = [read[1:] for read in reads if read[0] == of]
    return None if () in paths else frozenset(path[0] for path in paths)


def _credentials(config: Endpoint) -> Iterable[Read]:
    """Name where the endpoint looks for credentials: a kept chain depends on all of them."""
    allow = config.authentication.allow
    if allow.authorization:
        yield ("request.headers", "authorization")
    yield from (("request.headers", name) for name in allow.header)
    yield from (("request.query", name) for name in allow.query)
    yield from (("request.cookies", name) for name in allow.cookie)
    yield ("admission.authenticated",)
