"""Why an expression has no value.

ExpressionError     for this request; its text never holds a value
└── MissingError    something it names is not there
"""

from __future__ import annotations


class ExpressionError(Exception):
    """An expression has no value. The text is for logs: it holds no value of a request."""


class MissingError(ExpressionError):
    """A key or an item is not there. `default` and `is defined` catch it."""
