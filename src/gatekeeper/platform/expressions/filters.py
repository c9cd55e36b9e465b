"""The filters and tests of templates: a closed list, named as Jinja and Sprig name them.

Each takes plain values and gives one. None looks at attributes of an object, formats by a
pattern that comes from a value, or makes text much larger than what it was given.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote as percent_encode

from gatekeeper.platform.expressions.errors import ExpressionError, MissingError
from gatekeeper.platform.expressions.values import MAX_TEXT_CHARS, TooLongError, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_DIGITS: Final = 18


def _lower(value: Any) -> str:
    return text_of(value).lower()


def _upper(value: Any) -> str:
    return text_of(value).upper()


def _title(value: Any) -> str:
    return text_of(value).title()


def _trim(value: Any, characters: Any = None) -> str:
    return text_of(value).strip(None if characters is None else text_of(characters))


def _trim_prefix(value: Any, prefix: Any) -> str:
    return text_of(value).removeprefix(text_of(prefix))


def _trim_suffix(value: Any, suffix: Any) -> str:
    return text_of(value).removesuffix(text_of(suffix))


def _trunc(value: Any, length: Any) -> str:
    """The first characters; of a negative length the last, as in Sprig."""
    size = _integer(length)
    text = text_of(value)
    return text[:size] if size >= 0 else text[size:]


def _replace(value: Any, old: Any, new: Any) -> str:
    text, before, after = text_of(value), text_of(old), text_of(new)
    if not before:
        msg = "replace is given nothing to replace"
        raise ExpressionError(msg)
    if len(text) + text.count(before) * (len(after) - len(before)) > MAX_TEXT_CHARS:
        raise TooLongError
    return text.replace(before, after)


def _split(value: Any, separator: Any) -> list[str]:
    between = text_of(separator)
    if not between:
        msg = "split is given no separator"
        raise ExpressionError(msg)
    return text_of(value).split(between)


def _join(value: Any, separator: Any = "") -> str:
    items = [text_of(item) for item in _items(value)]
    between = text_of(separator)
    if sum(map(len, items)) + len(between) * len(items) > MAX_TEXT_CHARS:
        raise TooLongError
    return between.join(items)


def _first(value: Any) -> Any:
    return _at(value, 0)


def _last(value: Any) -> Any:
    return _at(value, -1)


def _at(value: Any, index: int) -> Any:
    items = value if isinstance(value, str) else _items(value)
    if not items:
        msg = "it is empty, and has no first or last"
        raise MissingError(msg)
    return items[index]


def _length(value: Any) -> int:
    if isinstance(value, str | list | dict):
        return len(value)
    msg = "length is given neither text, list nor map"
    raise ExpressionError(msg)


def _sort(value: Any) -> list[Any]:
    return sorted(_items(value))


def _unique(value: Any) -> list[Any]:
    return list(dict.fromkeys(_items(value)))


def _keys(value: Any) -> list[Any]:
    return sorted(_map(value))


def _values(value: Any) -> list[Any]:
    mapping = _map(value)
    return [mapping[key] for key in sorted(mapping)]


def _b64enc(value: Any) -> str:
    return base64.b64encode(_utf8(value)).decode("ascii")


def _b64dec(value: Any) -> str:
    try:
        return base64.b64decode(text_of(value), validate=True).decode()
    except (binascii.Error, ValueError):
        msg = "b64dec is given what is no Base64 of text"
        raise ExpressionError(msg) from None


def _urlencode(value: Any) -> str:
    """Percent-encode everything but the unreserved characters of RFC 3986."""
    return percent_encode(_utf8(value), safe="")


def _sha256sum(value: Any) -> str:
    return hashlib.sha256(_utf8(value)).hexdigest()


def _tojson(value: Any) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError):
        msg = "tojson is given what JSON cannot say"
        raise ExpressionError(msg) from None


def _fromjson(value: Any) -> Any:
    try:
        return json.loads(text_of(value))
    except (ValueError, RecursionError):
        msg = "fromjson is given what is no JSON"
        raise ExpressionError(msg) from None


def _quote(value: Any) -> str:
    """As a JSON string: in quotes, with what could end it escaped."""
    return json.dumps(text_of(value), ensure_ascii=False)


def _contains(value: Any, part: Any) -> bool:
    if isinstance(value, str):
        return text_of(part) in value
    if isinstance(value, list):
        return part in value
    if isinstance(value, dict):
        return isinstance(part, str) and part in value
    msg = "contains is given neither text, list nor map"
    raise ExpressionError(msg)


def _starts_with(value: Any, prefix: Any) -> bool:
    return text_of(value).startswith(text_of(prefix))


def _ends_with(value: Any, suffix: Any) -> bool:
    return text_of(value).endswith(text_of(suffix))


def _int(value: Any) -> int:
    text = text_of(value)
    if len(text) > MAX_DIGITS or not text.lstrip("-").isdecimal():
        msg = "int is given what is no whole number"
        raise ExpressionError(msg)
    return int(text)


def _ternary(value: Any, when_true: Any, when_false: Any) -> Any:
    return when_true if value else when_false


def _integer(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    msg = "a length is a whole number"
    raise ExpressionError(msg)


def _items(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    msg = "it is no list"
    raise ExpressionError(msg)


def _map(value: Any) -> dict[Any, Any]:
    if isinstance(value, dict):
        return value
    msg = "it is no map"
    raise ExpressionError(msg)


def _utf8(value: Any) -> bytes:
    try:
        return text_of(value).encode()
    except UnicodeEncodeError:
        msg = "the text holds half a character (a lone surrogate)"
        raise ExpressionError(msg) from None


FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "b64dec": _b64dec,
    "b64enc": _b64enc,
    "contains": _contains,
    "first": _first,
    "fromjson": _fromjson,
    "hasPrefix": _starts_with,
    "hasSuffix": _ends_with,
    "int": _int,
    "join": _join,
    "keys": _keys,
    "last": _last,
    "length": _length,
    "lower": _lower,
    "quote": _quote,
    "replace": _replace,
    "sha256sum": _sha256sum,
    "sort": _sort,
    "split": _split,
    "string": text_of,
    "ternary": _ternary,
    "title": _title,
    "tojson": _tojson,
    "trim": _trim,
    "trimPrefix": _trim_prefix,
    "trimSuffix": _trim_suffix,
    "trunc": _trunc,
    "unique": _unique,
    "upper": _upper,
    "urlencode": _urlencode,
    "urlquery": _urlencode,
    "values": _values,
}
"""Beside them stands `default`, which is part of the language: it catches what is missing."""


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


TESTS: Final[dict[str, Callable[..., bool]]] = {
    "boolean": _is(bool),
    "contains": _contains,
    "empty": lambda value: not value,
    "endswith": _ends_with,
    "list": _is(list),
    "mapping": _is(dict),
    "none": lambda value: value is None,
    "number": _is_number,
    "startswith": _starts_with,
    "string": _is(str),
}
"""Beside them stand `defined` and `undefined`, which are part of the language."""
