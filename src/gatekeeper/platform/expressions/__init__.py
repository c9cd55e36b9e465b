"""Conditions in CEL, templates and URLs in Jinja's syntax, and RE2 patterns.

conditions.py   CEL; checked.py, protobuf.py: what an expression reads, and our own functions
templates.py    templates: compiler.py turns their nodes into the closures of rendering.py
urls.py         URLs, of which each value stays in its part
filters.py      the filters and tests of templates      functions.py   what both languages call
patterns.py     RE2            vocabulary.py, values.py, errors.py   the words of all of these

It is given the names an expression may use and their kinds, and knows nothing of who uses it.
Everything is checked when it is loaded (`ValueError`, one sentence) and bounded when it runs
(`ExpressionError`).
"""
