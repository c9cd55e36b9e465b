"""URLs with values in them, each of which stays in the part of the URL it stands in.

Scheme, host and port are literal, so that no value chooses whom is asked (SSRF). A value in
the path is one piece of a segment, one in the query a piece of a query value: everything
but the unreserved characters of RFC 3986 is percent-encoded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote as percent_encode

from jinja2 import nodes

from gatekeeper.platform.expressions.compiler import Compiler
from gatekeeper.platform.expressions.errors import ExpressionError
from gatekeeper.platform.expressions.templates import Template, compiling, parse

if TYPE_CHECKING:
    from gatekeeper.platform.expressions.rendering import Run, Text
    from gatekeeper.platform.expressions.vocabulary import Vocabulary

MAX_URL_CHARS: Final = 8_192
MAX_PORT: Final = 65_535

_ORIGIN: Final = re.compile(
    r"https?://(?:[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?=[/?]|\Z)",
    re.IGNORECASE,
)
_LITERAL: Final = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*")
"""RFC 3986 section 3: what path and query may hold. An escape stands whole in one literal."""

DOTS: Final = "a part of the path is . or .."


def compile_url(source: str, vocabulary: Vocabulary) -> Template:
    """Compile a URL. Raises `ValueError` that says what is wrong with it."""
    compiler = Compiler(vocabulary)
    with compiling(source):
        pieces = _pieces(source, compiler)
    return Template(_whole(tuple(pieces)), frozenset(compiler.reads))


def _pieces(source: str, compiler: Compiler) -> list[Text]:
    """Take a URL apart into what is said literally and what gives encoded text."""
    parts = _parts(source, compiler)
    first = parts[0] if parts else ""
    if not isinstance(first, str) or (origin := _ORIGIN.match(first)) is None:
        msg = (
            "a URL begins with http:// or https://, a literal host and port without user or "
            "password, then / or ?"
        )
        raise ValueError(msg)
    if origin["port"] is not None and not 0 < int(origin["port"]) <= MAX_PORT:
        msg = f"a port is between 1 and {MAX_PORT}"
        raise ValueError(msg)
    parts[0] = first[origin.end() :]
    if len(parts) > 1 and not parts[0]:
        msg = "a literal / or ? stands between the host and the first value of a URL"
        raise ValueError(msg)
    path, query = _path_and_query(parts)
    pieces = [_said(origin[0]), *map(_segment, _segments(path))]
    return [*pieces, *(_said(part) if isinstance(part, str) else _encoded(part) for part in query)]


def _parts(source: str, compiler: Compiler) -> list[str | Text]:
    """Return literals and values in turn."""
    parts: list[str | Text] = []
    for statement in parse(source):
        if not isinstance(statement, nodes.Output):
            msg = f"line {statement.lineno}: a URL has values in {{{{ }}}} and no statements"
            raise ValueError(msg)  # noqa: TRY004  # wrong configuration, not a wrong type
        for node in statement.nodes:
            if isinstance(node, nodes.TemplateData):
                parts.append(node.data)
            else:
                parts.append(compiler.output(node))
    return parts


def _path_and_query(parts: list[str | Text]) -> tuple[list[str | Text], list[str | Text]]:
    for part in parts:
        if isinstance(part, str) and not _LITERAL.fullmatch(part):
            msg = (
                "a URL holds no fragment, no space and nothing else that RFC 3986 has escaped; "
                "write it as %XX"
            )
            raise ValueError(msg)
    for index, part in enumerate(parts):
        if isinstance(part, str) and "?" in part:
            path, _, query = part.partition("?")
            return [*parts[:index], path], [f"?{query}", *parts[index + 1 :]]
    return parts, []


def _segments(path: list[str | Text]) -> list[list[str | Text]]:
    """Cut a path at its literal slashes; each segment begins with its slash."""
    segments: list[list[str | Text]] = []
    for part in path:
        if not isinstance(part, str):
            segments[-1].append(part)
            continue
        head, *tail = part.split("/")
        if segments and head:
            segments[-1].append(head)
        segments += [[f"/{piece}"] for piece in tail]
    return segments


def _segment(parts: list[str | Text]) -> Text:
    """One segment of a path: neither empty nor `.` nor `..` if a value made it so."""
    if len(parts) == 1 and isinstance(parts[0], str):
        if _is_dots(parts[0]):
            raise ValueError(DOTS)
        return _said(parts[0])
    pieces = [_said(part) if isinstance(part, str) else _encoded(part) for part in parts]

    def segment(run: Run) -> str:
        text = "".join([piece(run) for piece in pieces])
        if text == "/":
            msg = "a value leaves a part of the path empty"
            raise ExpressionError(msg)
        if _is_dots(text):
            raise ExpressionError(DOTS)
        return text

    return segment


def _is_dots(segment: str) -> bool:
    """Tell what every URL parser takes for a step up or for none, escaped or not."""
    return segment[1:].lower().replace("%2e", ".") in {".", ".."}


def _encoded(value: Text) -> Text:
    return lambda run: percent_encode(value(run), safe="")


def _said(text: str) -> Text:
    return lambda _run: text


def _whole(pieces: tuple[Text, ...]) -> Text:
    def url(run: Run) -> str:
        text = "".join([piece(run) for piece in pieces])
        if len(text) > MAX_URL_CHARS:
            msg = f"a URL grows beyond {MAX_URL_CHARS} characters"
            raise ExpressionError(msg)
        return text

    return url
