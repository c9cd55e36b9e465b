"""Templates in Jinja's syntax, compiled to closures over plain values.

Jinja parses; what may stand in a template is the list of nodes in `compiler.py`, and nothing else
can run: there is no attribute of an object, no method, no import, no macro, no generated Python
code, so the usual ways out of a template sandbox have nowhere to start. Loops, nesting and
text are bounded. Whatever is missing is an error of this evaluation, never text.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, TemplateSyntaxError, nodes

from gatekeeper.platform.expressions.compiler import Compiler
from gatekeeper.platform.expressions.errors import ExpressionError
from gatekeeper.platform.expressions.rendering import Run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gatekeeper.platform.expressions.rendering import Text
    from gatekeeper.platform.expressions.vocabulary import Read, Vocabulary

MAX_TEMPLATE_CHARS: Final = 65_536

_PARSER: Final = Environment(autoescape=False, keep_trailing_newline=True)  # noqa: S701  # it renders nothing


class Template:
    """A compiled template. Its value is text."""

    __slots__ = ("_body", "reads")

    def __init__(self, body: Text, reads: frozenset[Read]) -> None:
        self._body = body
        self.reads = reads

    def evaluate(self, values: Mapping[str, Any]) -> str:
        """Render, and turn whatever a value does not allow into an `ExpressionError`."""
        try:
            text = self._body(Run(values))
            if not text.isascii():
                text.encode()  # half a character (a lone surrogate) cannot be sent anywhere
        except (TypeError, ValueError, LookupError, ArithmeticError):
            # Their texts can hold values of the request.
            msg = "a value is not of the kind it is used as"
            raise ExpressionError(msg) from None
        except RecursionError:
            msg = "a value is nested too deeply"
            raise ExpressionError(msg) from None
        return text


def parse(source: str) -> list[nodes.Node]:
    if len(source) > MAX_TEMPLATE_CHARS:
        msg = f"a template may have at most {MAX_TEMPLATE_CHARS} characters"
        raise ValueError(msg)
    try:
        return _PARSER.parse(source).body
    except TemplateSyntaxError as error:
        msg = f"line {error.lineno}: {error.message}"
        raise ValueError(msg) from None


TOO_DEEP: Final = "the template is nested too deeply"
_OF_GO: Final = re.compile(
    r"""\{\{-?\s*(?:(?:if|range|with|end)\b|(?:[^{}]*[\s(])?[.$][A-Za-z]|\w+\s+["`])"""
)
"""`{{ .a }}`, `{{ lower .a }}`, `{{ $a }}`, `{{ env "A" }}`, `{{ if … }}`."""
OF_GO: Final = (
    "; templates are in Jinja's syntax, not Go's: {{ request.method }} for {{ .request.method }}, "
    "{% if … %} for {{ if … }}"
)


@contextmanager
def compiling(source: str) -> Iterator[None]:
    """Say what is wrong with a source so that whoever wrote it knows what to write."""
    try:
        yield
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except ValueError as error:
        msg = f"{error}{OF_GO if _OF_GO.search(source) else ''}"
        raise ValueError(msg) from None


def compile_template(source: str, vocabulary: Vocabulary) -> Template:
    """Compile a template. Raises `ValueError` that says what is wrong with it."""
    compiler = Compiler(vocabulary)
    with compiling(source):
        body = compiler.body(parse(source))
    return Template(body, frozenset(compiler.reads))
