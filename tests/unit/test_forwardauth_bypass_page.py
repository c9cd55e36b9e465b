"""The page of bypasses names tests that exist, and every case that is tried by name."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/explanation/forwardauth/bypasses.md").read_text()
NAMED = sorted(set(re.findall(r"`((?:unit|integration|proxies)/\w+\.py::[^`]+)`", PAGE)))
CASE = re.compile(r"(?:CVE-\d{4}-\d{4,7}|GHSA(?:-\w{4}){3})")


def file_of(name: str) -> Path:
    return ROOT / "tests" / re.sub(r"^proxies/", "acceptance/proxies/", name)


@pytest.mark.parametrize("name", NAMED)
def test_a_test_that_the_page_names_exists(name: str) -> None:
    file, _, test = name.partition("::")
    function, _, parameter = test.removesuffix("]").partition("[")
    source = file_of(file).read_text()
    functions = {
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert function in functions
    assert not parameter or f'"{parameter}"' in source


def test_every_row_of_the_page_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if re.match(r"\| (?!case|-)", line)]
    assert len(rows) >= 45
    assert [row for row in rows if "::test_" not in row] == []


def test_every_case_that_is_tried_by_name_is_on_the_page() -> None:
    tried = set(CASE.findall(file_of("proxies/test_bypasses.py").read_text()))
    assert tried
    assert tried <= set(CASE.findall(PAGE))
