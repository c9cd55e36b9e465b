"""The port `Language` on CEL, templates in Jinja's syntax, and RE2.

A scope holds plain values: text, numbers, true and false, None, times, lists, and dicts with
text as keys. `secrets` holds plain text too: backends are legitimately sent it, and every use
is visible in `reads`, by which the compiler of endpoints refuses it in answers to clients.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gatekeeper.forwardauth.errors import EvaluationError
from gatekeeper.forwardauth.vocabulary import ELSEWHERE, NAMES, WITHOUT_NUL
from gatekeeper.platform.expressions.conditions import Cel, Conditions
from gatekeeper.platform.expressions.errors import ExpressionError
from gatekeeper.platform.expressions.patterns import compile_pattern
from gatekeeper.platform.expressions.templates import Template, compile_template
from gatekeeper.platform.expressions.urls import compile_url
from gatekeeper.platform.expressions.vocabulary import Vocabulary

if TYPE_CHECKING:
    from gatekeeper.forwardauth.model import Scope
    from gatekeeper.forwardauth.ports import Expression, Pattern

MAX_TEMPLATE_FILE_BYTES: Final = 65_536


class Language:
    """Compiles what a configuration says. `templates_folder` is where `file` looks."""

    def __init__(self, templates_folder: Path | None = None) -> None:
        self._folder = templates_folder
        self._vocabulary = Vocabulary(NAMES, ELSEWHERE, without_nul=WITHOUT_NUL)
        self._conditions = Conditions(self._vocabulary)

    def condition(self, source: str) -> Expression:
        return _Calculated(source, self._conditions.condition(source), self._conditions)

    def expression(self, source: str) -> Expression:
        if "{{" in source or "{%" in source:
            return self.template(source)
        return _Calculated(source, self._conditions.expression(source), self._conditions)

    def template(self, source: str) -> Expression:
        return _Rendered(source, compile_template(source, self._vocabulary))

    def url(self, source: str) -> Expression:
        return _Rendered(source, compile_url(source, self._vocabulary))

    def file(self, path: str) -> Expression:
        return _Rendered(f"file {path}", compile_template(self._text(path), self._vocabulary))

    def pattern(self, source: str) -> Pattern:
        return compile_pattern(source)

    def _text(self, path: str) -> str:
        """Read a file of the templates folder: what links lead out of it is not in it."""
        if self._folder is None:
            msg = "there is no templates folder (server.templates.templatesFolder)"
            raise ValueError(msg)
        try:
            folder = self._folder.resolve(strict=True)
            file = (folder / path).resolve(strict=True)
            if Path(path).is_absolute() or not file.is_relative_to(folder) or not file.is_file():
                msg = f"{path!r} is no file in the templates folder"
                raise ValueError(msg)
            with file.open("rb") as opened:
                content = opened.read(MAX_TEMPLATE_FILE_BYTES + 1)
        except (OSError, RuntimeError) as error:
            msg = f"{path!r} cannot be read in the templates folder"
            raise ValueError(msg) from error
        if len(content) > MAX_TEMPLATE_FILE_BYTES:
            msg = f"{path!r} has more than {MAX_TEMPLATE_FILE_BYTES} bytes"
            raise ValueError(msg)
        try:
            return content.decode()
        except UnicodeDecodeError:
            msg = f"{path!r} is no UTF-8"
            raise ValueError(msg) from None


class _Calculated:
    """CEL. The values of a scope are made ready once for all its expressions."""

    __slots__ = ("_evaluate", "_facts", "reads", "source")

    def __init__(self, source: str, compiled: Cel, conditions: Conditions) -> None:
        self.source = source
        self.reads = compiled.reads
        self._evaluate = compiled.evaluate
        self._facts = conditions.facts

    def __call__(self, scope: Scope) -> Any:  # noqa: ANN401  # whatever it says
        facts = scope.prepared
        if facts is None:
            facts = scope.prepared = self._facts(scope.values)
        try:
            return self._evaluate(facts)
        except ExpressionError as error:
            msg = f"{self.source}: {error}"
            raise EvaluationError(msg) from None


class _Rendered:
    """A template or a URL."""

    __slots__ = ("_evaluate", "reads", "source")

    def __init__(self, source: str, compiled: Template) -> None:
        self.source = source
        self.reads = compiled.reads
        self._evaluate = compiled.evaluate

    def __call__(self, scope: Scope) -> str:
        try:
            return self._evaluate(scope.values)
        except ExpressionError as error:
            msg = f"{self.source}: {error}"
            raise EvaluationError(msg) from None
