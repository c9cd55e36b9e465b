"""A package that lists its modules lists all of them, and none that is not there."""

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "gatekeeper"
LISTED = re.compile(r"(?<![/\w`])(\w+)\.py\b")
NAMED = re.compile(r"(?<![/\w])(\w+)\.py\b")
"""In the list, or in the text beside it."""


def text_of(package: Path) -> str:
    return ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""


PACKAGES = [path.parent for path in sorted(SOURCE.rglob("__init__.py"))]
LISTING = [package for package in PACKAGES if LISTED.search(text_of(package))]


@pytest.mark.parametrize("package", LISTING, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_the_list_of_modules_is_true(package: Path) -> None:
    there = {path.stem for path in package.glob("*.py")} - {"__init__"}

    assert set(NAMED.findall(text_of(package))) == there
