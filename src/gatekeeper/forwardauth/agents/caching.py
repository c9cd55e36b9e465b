"""Agent 9, result caching: what is kept, under which key, for how long.

Results of rules and chains are kept, never bodies of backends, never errors. The key covers
everything the evaluation can have read: a configuration says statically what its expressions
read, and each of these values goes into the key, as what it is, where it stands. Parts are
prefixed by their lengths, so that no two lists of values give one text (CVE-2021-32701 and
GHSA-rp9m-7r4c-75qg were keys that said too little, or the same of different things).
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from math import inf
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from gatekeeper.forwardauth.model import Claim, Outcome, Read, RuleResult, Settle
from gatekeeper.forwardauth.vocabulary import CONSTANT, VOLATILE

if TYPE_CHECKING:
    from gatekeeper.forwardauth.agents.evaluation import Evaluation
    from gatekeeper.forwardauth.model import Steps

KEY_BYTES: Final = 32
MAX_DEPTH: Final = 32
MAX_DIRECTIVES: Final = 50
MAX_AGE_DIGITS: Final = 9
_ABSENT: Final = object()
_MAPS: Final = (dict, Mapping)
"""A plain dict is recognised faster."""
_FORMAT: Final = b"result 1"
"""What `encode` writes: an entry of another format is none of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caching:
    """How results of one rule, or of one endpoint's chain, are kept."""

    name: str
    salt: bytes
    """Keys the digest; has the configuration and the name of what is kept in it."""
    reads: tuple[Read, ...]
    pass_seconds: float
    fail_seconds: float
    follow: bool
    """Obey the backend's Cache-Control."""
    max_seconds: float


def compile_caching(
    *,
    key: bytes,
    names: Sequence[str],
    reads: Iterable[Read],
    inner: frozenset[str],
    pass_seconds: float | None,
    fail_seconds: float | None,
    follow: bool,
    max_seconds: float,
) -> Caching | None:
    """Compile how results are kept; None when they never are.

    `key` is the secret and the configuration's digest, `names` say whose results these are;
    `inner` names what the evaluation makes itself, and so need not be in the key.
    """
    outer = {read for read in reads if read[0] not in inner}
    volatile = any(read[0] in VOLATILE for read in reads)
    if volatile or not (pass_seconds or fail_seconds or follow):
        return None
    named: list[bytes] = []
    _write(named, list(names))
    return Caching(
        name=names[-1],
        salt=blake2b(b"".join(named), key=key[:64], digest_size=KEY_BYTES).digest(),
        reads=tuple(sorted(read for read in outer if read[0] not in CONSTANT)),
        pass_seconds=pass_seconds or 0.0,
        fail_seconds=fail_seconds or 0.0,
        follow=follow,
        max_seconds=max_seconds,
    )


def key_of(plan: Caching, values: Mapping[str, Any], extra: object = None) -> bytes:
    """Return the key for what this request has in the places the evaluation reads."""
    parts: list[bytes] = []
    for name, *keys in plan.reads:
        value: Any = values.get(name, _ABSENT)
        for key in keys:
            value = value.get(key, _ABSENT) if isinstance(value, _MAPS) else _ABSENT
        _write(parts, value)
    _write(parts, extra)
    return blake2b(b"".join(parts), key=plan.salt, digest_size=KEY_BYTES).digest()


def _write(parts: list[bytes], value: Any) -> None:  # noqa: ANN401, C901  # one branch a type
    """Write a value: its type, its length, itself. Different values never give the same bytes."""
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogatepass")
        parts += (b"s%d:" % len(data), data)
    elif value is _ABSENT:
        parts.append(b"-")
    elif value is None:
        parts.append(b"n")
    elif value is True:
        parts.append(b"t")
    elif value is False:
        parts.append(b"f")
    elif isinstance(value, int):
        parts.append(b"i%d:" % value)
    elif isinstance(value, bytes):
        parts += (b"b%d:" % len(value), value)
    elif isinstance(value, _MAPS):
        parts.append(b"m%d:" % len(value))
        for name in sorted(value, key=str) if len(value) > 1 else value:
            _write(parts, name)
            _write(parts, value[name])
    elif isinstance(value, list | tuple):
        parts.append(b"l%d:" % len(value))
        for item in value:
            _write(parts, item)
    else:
        data = f"{type(value).__name__} {value!r}".encode()
        parts += (b"o%d:" % len(data), data)


Fresh = tuple[RuleResult, Mapping[str, str]]
"""A result just made, and the headers of the answer it was made of."""


def kept(
    plan: Caching,
    evaluate: Steps[Fresh],
    evaluation: Evaluation,
    *,
    asks: bool,
    extra: object = None,
    until: float = inf,
) -> Steps[RuleResult]:
    """Give a kept result, or make one and keep it, at the latest until `until`.

    `asks` tells whether making it needs something from outside: then it is worth asking a
    shared cache first, and making it once for all who want it.
    """
    key = key_of(plan, evaluation.scope.values, extra)
    found = evaluation.memory.get(key, evaluation.now)
    if found is None and asks:
        found = yield Claim(key)
    if found is not None:
        evaluate.close()
        if evaluation.trace is not None:
            evaluation.note("result caching", plan.name, f"hit: {found.origin}", {"key": key.hex()})
        return found
    result, headers = yield from evaluate
    result = bounded(plan, within(result, until), headers, evaluation.now)
    if asks:
        yield Settle(key, result)
    else:
        evaluation.memory.put(key, result, evaluation.now)
    if evaluation.trace is not None:
        left = max(0.0, result.until - evaluation.now)
        evaluation.note(
            "result caching", plan.name, f"miss: kept for {left:g} s", {"key": key.hex()}
        )
    return result


def within(result: RuleResult, until: float) -> RuleResult:
    """Let a result say nothing after a moment."""
    return result if result.until <= until else result._replace(until=until)


def bounded(
    plan: Caching, result: RuleResult, headers: Mapping[str, str], now: float
) -> RuleResult:
    """Say until when a result may be kept; `headers` are those of the backend's answer."""
    return within(result, now + _seconds(plan, result.outcome, headers))


def _seconds(plan: Caching, outcome: Outcome, headers: Mapping[str, str]) -> float:
    if outcome is Outcome.ERROR:
        return 0.0
    manual = plan.pass_seconds if outcome is Outcome.PASS else plan.fail_seconds
    if plan.follow:
        told = _freshness(headers)
        manual = manual if told is None else told
    return max(0.0, min(manual, plan.max_seconds))


def _freshness(headers: Mapping[str, str]) -> float | None:
    """Return how long an answer stays fresh (RFC 9111 section 4.2); None: it does not say.

    What `Vary` names went into the request we made, and so into the key; `*` is everything.
    """
    if any(name.strip() == "*" for name in headers.get("vary", "").split(",")):
        return 0.0
    told = cache_control(headers.get("cache-control", ""))
    age = headers.get("age", "0").strip()
    return told if told is None else told - (float(age) if age.isdecimal() else told)


def cache_control(text: str) -> float | None:
    """Return the seconds a shared cache may keep an answer (RFC 9111); None: it does not say.

    What cannot be read allows nothing; of a directive that stands twice the shorter counts.
    """
    directives = text.lower().split(",", MAX_DIRECTIVES)
    if len(directives) > MAX_DIRECTIVES:
        return 0.0
    told: dict[str, float] = {}
    for directive in directives:
        name, _, argument = (part.strip() for part in directive.partition("="))
        if name in ("no-store", "no-cache", "private"):
            return 0.0
        if name in ("s-maxage", "max-age"):
            digits = argument.strip('"')
            readable = digits.isdecimal() and len(digits) <= MAX_AGE_DIGITS
            told[name] = min(told.get(name, inf), float(digits) if readable else 0.0)
    return told.get("s-maxage", told.get("max-age"))


def plain(value: Any, depth: int = 0) -> Any:  # noqa: ANN401  # whatever an expression gave
    """Return a value as plain JSON has it, maps in one order (CEL's have none): a kept result is
    then the same as a fresh one.

    Raises `ValueError` for what JSON has no place for.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and value - value == 0.0:
        return value
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if depth < MAX_DEPTH and isinstance(value, Mapping):
        named = sorted(((str(name), inner) for name, inner in value.items()), key=itemgetter(0))
        return {name: plain(inner, depth + 1) for name, inner in named}
    if depth < MAX_DEPTH and isinstance(value, list | tuple):
        return [plain(inner, depth + 1) for inner in value]
    msg = f"a value of type {type(value).__name__} cannot be exported"
    raise ValueError(msg)


def encode(result: RuleResult, key: bytes, secret: bytes) -> bytes:
    """Write a result for a shared cache, sealed: whoever writes there cannot make one up."""
    data = json.dumps(result[:-1]).encode()
    return _seal(data, key, secret) + data


def decode(sealed: bytes, key: bytes, secret: bytes) -> RuleResult | None:
    """Read a result from a shared cache. What we did not seal under this key is none."""
    seal, data = sealed[:KEY_BYTES], sealed[KEY_BYTES:]
    if not hmac.compare_digest(seal, _seal(data, key, secret)):
        return None
    outcome, reason, exports, until, recognised = json.loads(data)
    return RuleResult(Outcome(outcome), reason, exports, until, recognised, "shared")


def _seal(data: bytes, key: bytes, secret: bytes) -> bytes:
    return blake2b(key + data, key=secret, digest_size=KEY_BYTES, person=_FORMAT).digest()
