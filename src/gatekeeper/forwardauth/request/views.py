"""Headers, query and cookies as expressions see them. Made when an expression asks.

What stands more than once has no single value: the maps of single values leave such a parameter
or cookie out, and `…All` has every value. What cannot be read raises `EvaluationError`, which
is an error outcome: nothing is decided on half of a query.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from gatekeeper.forwardauth.errors import EvaluationError

if TYPE_CHECKING:
    from gatekeeper.forwardauth.model import OriginalRequest

MAX_PARAMETERS: Final = 256
MAX_COOKIES: Final = 256

_TRIPLET: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


def headers(original: OriginalRequest) -> dict[str, str]:
    """Return the headers by lower-case name. A byte is a character (ISO 8859-1)."""
    return {
        name.decode("latin-1"): value.decode("latin-1") for name, value in original.fields.items()
    }


def headers_all(original: OriginalRequest) -> dict[str, list[str]]:
    """Return each value of each header, in the order they came."""
    repeated = original.repeated
    return {
        name.decode("latin-1"): [each.decode("latin-1") for each in repeated.get(name, (value,))]
        for name, value in original.fields.items()
    }


def query(original: OriginalRequest) -> dict[str, str]:
    """Return the parameters that stand exactly once."""
    return {name: values[0] for name, values in query_all(original).items() if len(values) == 1}


def query_all(original: OriginalRequest) -> dict[str, list[str]]:
    """Return each value of each parameter.

    As application/x-www-form-urlencoded says (URL Standard section 5.1): parted by `&` alone, a
    plus is a space, and a parameter without `=` is empty.
    """
    found: dict[str, list[str]] = {}
    raw = original.raw_query
    if not raw:
        return found
    pairs = raw.split("&", MAX_PARAMETERS)
    if len(pairs) > MAX_PARAMETERS:
        msg = f"request.query: more than {MAX_PARAMETERS} parameters"
        raise EvaluationError(msg)
    for pair in pairs:
        if pair:
            name, _, value = pair.partition("=")
            found.setdefault(_text(name), []).append(_text(value))
    return found


def name_of(pair: str) -> str:
    """Return the name of one parameter as it stands in a query. Raises `EvaluationError`."""
    return _text(pair.partition("=")[0])


def _text(raw: str) -> str:
    if "+" in raw:
        raw = raw.replace("+", " ")
    if "%" not in raw:
        return raw
    if _TRIPLET.search(raw):
        msg = "request.query: a malformed percent triplet"
        raise EvaluationError(msg)
    try:
        return unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        msg = "request.query: not UTF-8"
        raise EvaluationError(msg) from None


def cookies(original: OriginalRequest) -> dict[str, str]:
    """Return the cookies (RFC 6265 section 5.4), but those that stand twice with two values.

    Of such a pair applications take the first or the last, and whoever controls a neighbouring
    domain can add one. Only space and tab are trimmed: what Unicode calls a space is a part of
    the name, else a cookie could take on the name of another.
    """
    found, ambiguous = _cookies(original)
    return {name: value for name, value in found.items() if name not in ambiguous}


def ambiguous_cookies(original: OriginalRequest) -> set[str]:
    """Return the names of those that `cookies` leaves out."""
    return _cookies(original)[1]


def _cookies(original: OriginalRequest) -> tuple[dict[str, str], set[str]]:
    found: dict[str, str] = {}
    ambiguous: set[str] = set()
    raw = original.fields.get(b"cookie")
    if not raw:
        return found, ambiguous
    pairs = raw.decode("latin-1").split(";", MAX_COOKIES)
    if len(pairs) > MAX_COOKIES:
        msg = f"request.cookies: more than {MAX_COOKIES} cookies"
        raise EvaluationError(msg)
    for pair in pairs:
        name, equals, value = pair.strip(" \t").partition("=")
        if equals and found.setdefault(name, value) != value:
            ambiguous.add(name)
    return found, ambiguous
