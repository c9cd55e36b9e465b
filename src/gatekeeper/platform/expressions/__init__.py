"""Conditions in CEL, templates and URLs in Jinja's syntax, and RE2 patterns.

The only home of their libraries for forward auth. It is given the names an expression may
use and their kinds, and knows nothing of who uses it. Everything is checked when it is
loaded (`ValueError`, one sentence) and bounded when it runs (`ExpressionError`).
"""
