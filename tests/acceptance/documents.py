"""Pages of the documentation: what they show, and what they tell people to type."""

import re
import textwrap
from functools import cache
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
TYPED = [ROOT / "README.md", *sorted((ROOT / "docs" / "tutorial").glob("*.md")),
         *sorted((ROOT / "docs" / "how-to").glob("*.md"))]  # fmt: skip
"""The README, the tutorials and the how-tos: what they tell people to type is typed by tests."""


def blocks(document: Path, *languages: str) -> list[str]:
    found = re.findall(
        r"^( *)```(\w*)\n(.*?)^\1```$", document.read_text(), re.MULTILINE | re.DOTALL
    )
    return [textwrap.dedent(text) for _indent, language, text in found if language in languages]


def lines(document: Path) -> list[str]:
    return [line for block in blocks(document, "") for line in block.splitlines()]


def how_to(name: str) -> Path:
    return ROOT / "docs" / "how-to" / name


@cache
def gates() -> list[Path]:
    """Return the how-tos that show a whole configuration of forward auth with its cases."""
    return [page for page in TYPED if _is_gate([*map(yaml.safe_load, blocks(page, "yaml"))])]


def _is_gate(shown: list[dict[str, object]]) -> bool:
    return any("endpoints" in one for one in shown) and any("cases" in one for one in shown)


def write_gate(page: Path, folder: Path) -> None:
    """Write what a page shows: the configuration, rule documents, tables of cases."""
    first, *others = blocks(page, "yaml")
    (folder / "config.yaml").write_text(first)
    has_folder = "rulesFolder" in first
    for number, block in enumerate(others):
        is_table = "cases" in yaml.safe_load(block)
        if has_folder:
            (folder / "rules").mkdir(exist_ok=True)
            name = f"rules/{number:02}{'.test' if is_table else ''}.yaml"
        else:
            assert is_table, block
            name = "config.test.yaml"
        (folder / name).write_text(block)
