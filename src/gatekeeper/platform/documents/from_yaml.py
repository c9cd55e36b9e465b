"""YAML 1.1 as people mean it: text that YAML would read as something else is refused.

An expression is text that often begins with a mark of YAML: `!done`, `"a" in b`, `{{ c }}`.
No message quotes a value: it may be a secret.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NoReturn

from yaml import YAMLError
from yaml._yaml import CParser
from yaml.composer import Composer, ComposerError
from yaml.constructor import SafeConstructor
from yaml.events import AliasEvent, NodeEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.resolver import Resolver

from gatekeeper.platform.documents.document import MAX_DEPTH, Lines, TextError

if TYPE_CHECKING:
    from yaml.error import Mark

_OWN_TAGS: Final = "tag:yaml.org,2002:"
_TEXT: Final = f"{_OWN_TAGS}str"
_NULL: Final = f"{_OWN_TAGS}null"
_BEGINS: Final = r"(?:^|[-:,\[{]\s)\s*"
_HINTS: Final = (
    (re.compile(_BEGINS + "!"), "text that begins with ! needs quotes"),
    (
        re.compile(_BEGINS + r"""(?:"[^"]*"|'[^']*')\s*[^\s,\]}:#]"""),
        "text that begins with a quoted word ends there; put all of it in quotes of the other kind",
    ),
    (re.compile(_BEGINS + r"\{[{%]"), "text that begins with { needs quotes"),
    (re.compile(_BEGINS + "[%@`]"), "text that begins with this character needs quotes"),
    (re.compile(r":\s.*:\s"), "text with a colon and a space in it needs quotes"),
)
"""What authors meant, by what stands in the line where reading failed."""


def read(text: str) -> tuple[Any, Lines]:
    """Read one YAML document without aliases, tags, or a key that is no text or stands twice."""
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, Lines(1)
        return loader.construct_document(node), _lines(node, node.start_mark.line + 1)
    except (YAMLError, ValueError, RecursionError) as error:
        raise _told(error, text) from error
    finally:
        if loader is not None:
            loader.dispose()


def _told(error: Exception, text: str) -> TextError:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or type(error).__name__
    if mark is None:
        return TextError(f"not usable YAML: {what}")
    lines = text.splitlines()
    stands = lines[mark.line] if mark.line < len(lines) else ""
    hint = next((f"; {hint}" for pattern, hint in _HINTS if pattern.search(stands)), "")
    return TextError(f"not usable YAML: {what}{hint}", mark.line + 1)


class _Loader(Composer, CParser, SafeConstructor, Resolver):
    """libyaml's parser, and a composer that is stricter than YAML.

    No aliases: they can expand without end. No key twice: the last would win silently.
    """

    def __init__(self, text: str) -> None:
        CParser.__init__(self, text)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)
        self._depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event = self.peek_event()
        if isinstance(event, AliasEvent):
            _refuse("aliases are not allowed; text that begins with * needs quotes", event)
        tag = event.tag if isinstance(event, NodeEvent) and hasattr(event, "tag") else None
        if tag not in {None, "!"} and not tag.startswith(_OWN_TAGS):
            _refuse("it is read as a tag", event)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            _refuse(f"more than {MAX_DEPTH} lists and mappings in one another", event)
        node: Node | None = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(node, MappingNode):
            _check_keys(node)
        return node


def _check_keys(node: MappingNode) -> None:
    seen = set()
    for key, _value in node.value:
        if not isinstance(key, ScalarNode):
            _refuse("a key is text", key)
        if key.tag != _TEXT:
            _refuse("this key is not read as text; put it in quotes", key)
        if key.value in seen:
            _refuse(f"the key {key.value!r} stands here twice", key)
        seen.add(key.value)


def _refuse(what: str, where: Any) -> NoReturn:  # noqa: ANN401  # an event or a node
    mark: Mark = where.start_mark
    raise ComposerError(None, None, what, mark)


def _lines(node: Node, line: int) -> Lines:
    if isinstance(node, MappingNode):
        return Lines(
            line, {key.value: _lines(value, key.start_mark.line + 1) for key, value in node.value}
        )
    if isinstance(node, SequenceNode):
        return Lines(
            line,
            {n: _lines(item, item.start_mark.line + 1) for n, item in enumerate(node.value)},
        )
    return Lines(line, blank=node.value == "" and node.tag == _NULL)
