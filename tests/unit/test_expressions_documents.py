"""The reference of expressions says all there is, and only what there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from gatekeeper.forwardauth.adapters import language
from gatekeeper.forwardauth.vocabulary import NAMES
from gatekeeper.platform.expressions import (
    compiler,
    conditions,
    filters,
    patterns,
    rendering,
    templates,
    urls,
    values,
)

PAGE: Final = (
    Path(__file__).parents[2] / "docs" / "reference" / "forwardauth-expressions.md"
).read_text()


def table(heading: str) -> list[tuple[str, str]]:
    """Return the rows of the table whose first column has this heading."""
    rows = PAGE.split(f"\n| {heading} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    cells = [row.strip("| ").split(" | ", 1) for row in rows]
    return [(first, second.strip()) for first, second in cells]


def named(heading: str) -> set[str]:
    return {
        name for first, _ in table(heading) for name in re.findall(r"`(\w+)(?:\([^`]*\))?`", first)
    }


def test_every_name_and_its_kind_is_in_the_reference() -> None:
    assert {name.strip("`"): kind for name, kind in table("name")} == NAMES


def test_every_function_is_in_the_reference() -> None:
    assert named("function") == set(compiler.FUNCTIONS)


def test_every_filter_is_in_the_reference() -> None:
    assert named("filter") == {*filters.FILTERS, "default"}


def test_every_test_is_in_the_reference() -> None:
    assert named("test") == {*filters.TESTS, "defined", "undefined"}


def test_the_limits_are_those_of_the_code() -> None:
    said = [
        int(number.replace(",", ""))
        for _, cell in table("limit")
        for number in re.findall(r"[\d,]*\d", cell)
    ]
    assert said == [
        conditions.MAX_EXPRESSION_CHARS,
        32,
        10_000,
        templates.MAX_TEMPLATE_CHARS,
        values.MAX_TEXT_CHARS,
        rendering.MAX_ITERATIONS,
        compiler.MAX_NESTED_LOOPS,
        64,
        urls.MAX_URL_CHARS,
        patterns.MAX_PATTERN_CHARS,
        patterns.MAX_PATTERN_MEMORY_BYTES >> 20,
    ]  # fmt: skip
    assert language.MAX_TEMPLATE_FILE_BYTES == templates.MAX_TEMPLATE_CHARS
