"""The nodes of a template, turned into closures. What is not here cannot stand in a template."""

from __future__ import annotations

import difflib
import inspect
import operator
from typing import TYPE_CHECKING, Any, Final

from jinja2 import nodes

from gatekeeper.platform.expressions import functions
from gatekeeper.platform.expressions.errors import MissingError
from gatekeeper.platform.expressions.filters import FILTERS, TESTS
from gatekeeper.platform.expressions.rendering import (
    absent,
    constant,
    joined,
    loop,
    number,
    read_path,
    whole,
    within,
)
from gatekeeper.platform.expressions.values import item, text_of
from gatekeeper.platform.expressions.vocabulary import OPEN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatekeeper.platform.expressions.rendering import Run, Text, Value
    from gatekeeper.platform.expressions.vocabulary import Read, Vocabulary

MAX_NESTED_LOOPS: Final = 3

FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "lookup": functions.lookup,
    "ip_in": functions.ip_in,
}
DEFAULT: Final = frozenset({"default", "d"})

_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
    "in": lambda left, right: left in right,
    "notin": lambda left, right: left not in right,
}
_ARITHMETIC: Final[dict[type[nodes.Node], Callable[[Any, Any], Any]]] = {
    nodes.Add: operator.add,
    nodes.Sub: operator.sub,
    nodes.Mul: operator.mul,
    nodes.Div: operator.truediv,
    nodes.FloorDiv: operator.floordiv,
    nodes.Mod: operator.mod,
}


class Compiler:
    """Turns the nodes of one template into closures, and notes what they read."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.reads: set[Read] = set()
        self._vocabulary = vocabulary
        self._loops: list[frozenset[str]] = []

    # --- statements -------------------------------------------------------------------

    def body(self, statements: list[nodes.Node]) -> Text:
        pieces = [piece for node in statements for piece in self._statement(node)]
        if len(pieces) == 1:
            return whole(pieces[0])
        return joined(tuple(pieces))

    def _statement(self, node: nodes.Node) -> list[Text]:
        if isinstance(node, nodes.Output):
            return [self.output(part) for part in node.nodes]
        if isinstance(node, nodes.If):
            return [self._if(node)]
        if isinstance(node, nodes.For):
            return [self._for(node)]
        raise ValueError(_refused(node))

    def output(self, node: nodes.Expr) -> Text:
        if isinstance(node, nodes.TemplateData):
            return constant(node.data)
        value = self.value(node)
        return lambda run: text_of(value(run))

    def _if(self, node: nodes.If) -> Text:
        branches = [
            (self.value(branch.test), self.body(branch.body)) for branch in (node, *node.elif_)
        ]
        otherwise = self.body(node.else_)

        def chosen(run: Run) -> str:
            for test, body in branches:
                if test(run):
                    return body(run)
            return otherwise(run)

        return chosen

    def _for(self, node: nodes.For) -> Text:
        if node.recursive or not isinstance(node.target, nodes.Name):
            msg = f"line {node.lineno}: a loop has one variable and does not call itself"
            raise ValueError(msg)
        if len(self._loops) == MAX_NESTED_LOOPS:
            msg = f"line {node.lineno}: at most {MAX_NESTED_LOOPS} loops stand in each other"
            raise ValueError(msg)
        name = node.target.name
        if self._vocabulary.is_root(name) or name == "loop" or name in FUNCTIONS:
            msg = f"line {node.lineno}: a loop's variable cannot be called {name}"
            raise ValueError(msg)
        items, otherwise = self.value(node.iter), self.body(node.else_)
        self._loops.append(frozenset({name, "loop"}))
        test = None if node.test is None else self.value(node.test)
        body = self.body(node.body)
        self._loops.pop()
        return loop(name, items, test, body, otherwise)

    # --- expressions ------------------------------------------------------------------

    def value(self, node: nodes.Node) -> Value:
        """Compile an expression whose value is used, and note what it reads."""
        path = self._path(node)
        if path is not None:
            self.reads.add(path)
            return read_path(path)
        compile_node = self._COMPILERS.get(type(node))
        if compile_node is None:
            raise ValueError(_refused(node))
        return compile_node(self, node)

    def _path(self, node: nodes.Node) -> Read | None:
        """Return the name and literal keys that an expression consists of, if it does."""
        parts: list[str] = []
        at = node
        while isinstance(at, nodes.Getattr | nodes.Getitem):
            key = at.attr if isinstance(at, nodes.Getattr) else _literal(at.arg)
            if key is None:
                return None
            parts.append(key)
            at = at.node
        if not isinstance(at, nodes.Name) or any(at.name in loop for loop in self._loops):
            return None
        parts = [at.name, *reversed(parts)]
        kinds = self._vocabulary.kinds
        for size in (1, 2):
            name, keys = ".".join(parts[:size]), parts[size:]
            if name in kinds and len(parts) >= size:
                if keys and kinds[name] not in OPEN:
                    msg = f"line {node.lineno}: {name} is {kinds[name]} and has no {keys[0]}"
                    raise ValueError(msg)
                return (name, *keys)
        msg = f"line {node.lineno}: {self._vocabulary.unknown('.'.join(parts[:2]))}"
        raise ValueError(msg)

    def _name(self, node: nodes.Name) -> Value:
        name = node.name
        return lambda run: run.loops[name]

    def _const(self, node: nodes.Const) -> Value:
        return constant(node.value)

    def _data(self, node: nodes.TemplateData) -> Value:
        return constant(node.data)

    def _getattr(self, node: nodes.Getattr) -> Value:
        container, key = self.value(node.node), node.attr
        return lambda run: item(container(run), key)

    def _getitem(self, node: nodes.Getitem) -> Value:
        container = self.value(node.node)
        if isinstance(node.arg, nodes.Slice):
            return self._slice(container, node.arg)
        key = self.value(node.arg)
        return lambda run: item(container(run), key(run))

    def _slice(self, container: Value, node: nodes.Slice) -> Value:
        start, stop, step = (
            constant(None) if part is None else self.value(part)
            for part in (node.start, node.stop, node.step)
        )

        def sliced(run: Run) -> Any:
            value = container(run)
            if not isinstance(value, str | list):
                raise TypeError
            return value[start(run) : stop(run) : step(run)]

        return sliced

    def _list(self, node: nodes.List | nodes.Tuple) -> Value:
        items = [self.value(one) for one in node.items]
        return lambda run: [one(run) for one in items]

    def _dict(self, node: nodes.Dict) -> Value:
        pairs = [(self.value(pair.key), self.value(pair.value)) for pair in node.items]
        return lambda run: {key(run): value(run) for key, value in pairs}

    def _conditional(self, node: nodes.CondExpr) -> Value:
        test, yes = self.value(node.test), self.value(node.expr1)
        no = absent if node.expr2 is None else self.value(node.expr2)
        return lambda run: yes(run) if test(run) else no(run)

    def _and(self, node: nodes.And) -> Value:
        left, right = self.value(node.left), self.value(node.right)
        return lambda run: left(run) and right(run)

    def _or(self, node: nodes.Or) -> Value:
        left, right = self.value(node.left), self.value(node.right)
        return lambda run: left(run) or right(run)

    def _not(self, node: nodes.Not) -> Value:
        operand = self.value(node.node)
        return lambda run: not operand(run)

    def _compare(self, node: nodes.Compare) -> Value:
        first = self.value(node.expr)
        rest = [(_COMPARISONS[one.op], self.value(one.expr)) for one in node.ops]

        def compared(run: Run) -> bool:
            left = first(run)
            for holds, operand in rest:
                right = operand(run)
                if not holds(left, right):
                    return False
                left = right
            return True

        return compared

    def _concat(self, node: nodes.Concat) -> Value:
        return joined(tuple(self.output(part) for part in node.nodes))

    def _arithmetic(self, node: nodes.BinExpr) -> Value:
        left, right = self.value(node.left), self.value(node.right)
        compute = _ARITHMETIC[type(node)]
        return lambda run: number(compute(number(left(run)), number(right(run))))

    def _negative(self, node: nodes.Neg) -> Value:
        operand = self.value(node.node)
        return lambda run: -number(operand(run))

    def _call(self, node: nodes.Call) -> Value:
        callee = node.node
        if not isinstance(callee, nodes.Name) or callee.name not in FUNCTIONS:
            msg = f"line {node.lineno}: only {', '.join(FUNCTIONS)} can be called"
            raise ValueError(msg)
        function = FUNCTIONS[callee.name]
        _fits(node, callee.name, function, given=0)
        if callee.name == "lookup":
            return self._lookup(*node.args)
        arguments = [self.value(argument) for argument in node.args]
        return lambda run: function(*(argument(run) for argument in arguments))

    def _lookup(self, container: nodes.Expr, key: nodes.Expr) -> Value:
        if _literal(key) is not None:
            return self._or_null(nodes.Getitem(container, key, "load"))
        mapping, chosen = self._or_null(container), self._or_null(key)
        return lambda run: functions.lookup(mapping(run), chosen(run))

    def _or_null(self, node: nodes.Expr) -> Value:
        value = self.value(node)

        def present(run: Run) -> Any:
            try:
                return value(run)
            except MissingError:
                return None

        return present

    def _filter(self, node: nodes.Filter) -> Value:
        if node.node is None:
            raise ValueError(_refused(node))
        if node.name in DEFAULT:
            return self._default(node, node.node)
        function = _known(node, "filter", FILTERS, "default")
        value = self.value(node.node)
        arguments = [self.value(argument) for argument in node.args]
        if not arguments:
            return lambda run: within(function(value(run)))
        return lambda run: within(function(value(run), *(one(run) for one in arguments)))

    def _default(self, node: nodes.Filter, operand: nodes.Expr) -> Value:
        """`x | default(y)`: y when x is missing or null; with `true` also when x is empty."""
        _fits(node, node.name, lambda value, default, empty=False: None, given=1)  # noqa: ARG005
        value = self._or_null(operand)
        instead = self.value(node.args[0])
        empty = constant(False) if len(node.args) == 1 else self.value(node.args[1])  # noqa: FBT003

        def given(run: Run) -> Any:
            found = value(run)
            missing = found is None or (not found and empty(run))
            return instead(run) if missing else found

        return given

    def _test(self, node: nodes.Test) -> Value:
        if node.name in {"defined", "undefined"}:
            return self._defined(node)
        function = _known(node, "test", TESTS, "defined")
        value = self.value(node.node)
        arguments = [self.value(argument) for argument in node.args]
        return lambda run: function(value(run), *(one(run) for one in arguments))

    def _defined(self, node: nodes.Test) -> Value:
        value, wanted = self.value(node.node), node.name == "defined"

        def defined(run: Run) -> bool:
            try:
                value(run)
            except MissingError:
                return not wanted
            return wanted

        return defined

    _COMPILERS: Final[dict[type[nodes.Node], Callable[[Any, Any], Value]]] = {
        nodes.Name: _name,
        nodes.Const: _const,
        nodes.TemplateData: _data,
        nodes.Getattr: _getattr,
        nodes.Getitem: _getitem,
        nodes.List: _list,
        nodes.Tuple: _list,
        nodes.Dict: _dict,
        nodes.CondExpr: _conditional,
        nodes.And: _and,
        nodes.Or: _or,
        nodes.Not: _not,
        nodes.Compare: _compare,
        nodes.Concat: _concat,
        nodes.Add: _arithmetic,
        nodes.Sub: _arithmetic,
        nodes.Mul: _arithmetic,
        nodes.Div: _arithmetic,
        nodes.FloorDiv: _arithmetic,
        nodes.Mod: _arithmetic,
        nodes.Neg: _negative,
        nodes.Call: _call,
        nodes.Filter: _filter,
        nodes.Test: _test,
    }


def _literal(node: nodes.Node) -> str | None:
    if isinstance(node, nodes.Const) and isinstance(node.value, str):
        return node.value
    return None


def _known(
    node: nodes.Filter | nodes.Test, what: str, known: Mapping[str, Callable[..., Any]], own: str
) -> Callable[..., Any]:
    if node.name not in known:
        near = difflib.get_close_matches(node.name, [*known, own], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        msg = f"line {node.lineno}: there is no {what} {node.name}{hint}"
        raise ValueError(msg)
    _fits(node, node.name, known[node.name], given=1)
    return known[node.name]


def _fits(
    node: nodes.Filter | nodes.Test | nodes.Call,
    name: str,
    function: Callable[..., Any],
    *,
    given: int,
) -> None:
    """Refuse arguments that the function does not take, while the template is loaded."""
    try:
        inspect.signature(function).bind(*[None] * (given + len(node.args)))
        fits = not (node.kwargs or node.dyn_args or node.dyn_kwargs)
    except TypeError:
        fits = False
    if not fits:
        msg = f"line {node.lineno}: {name} does not take these arguments"
        raise ValueError(msg)


def _refused(node: nodes.Node) -> str:
    return f"line {node.lineno}: a template cannot use {type(node).__name__.lower()}"
