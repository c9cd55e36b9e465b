"""What the documents tell people to type exists, and what they link to is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
GENERATED = "cli.md"
"""Made from `--help` itself; its examples are held by tests/unit/test_published.py."""


def commands() -> list[tuple[str, ...]]:
    found = set()
    for document in (d for d in DOCUMENTS if d.name != GENERATED):
        for line in document.read_text().splitlines():
            for words in re.findall(r"(?:^|[`\s/])gk ((?:[a-z]+(?:-[a-z]+)* ?){1,2})(.*)", line):
                path = tuple(words[0].split())
                options = tuple(
                    re.findall(r"(?<!\S)--[a-z-]+", words[1].split("`")[0].split(" -- ")[0])
                )
                found.add((path, options))
    return sorted({(*path, "|", *options) for path, options in found})


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_and_option_in_the_documents_exists(command: tuple[str, ...]) -> None:
    split = command.index("|")
    path, options = command[:split], command[split + 1 :]
    done = None
    for length in (len(path), 1):
        done = subprocess.run(
            [sys.executable, "-m", "gatekeeper", *path[:length], "--help"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode == 0:
            break
    assert done is not None
    assert done.returncode == 0, done.stderr
    assert [o for o in options if o not in done.stdout] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text())

    assert [link for link in links if not (document.parent / link).exists()] == []


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(re.findall(r"make ([a-z-]+)", (ROOT / "README.md").read_text())) <= targets


def test_every_ticked_line_of_the_plan_that_names_a_test_names_one_that_exists() -> None:
    text = (ROOT / "docs" / "plan.md").read_text()
    everything = "\n".join(p.read_text() for p in (ROOT / "tests").rglob("test_*.py"))

    for name in re.findall(r"`(test_[a-z_]+)`", text):
        assert f"def {name}(" in everything, name
    for path in re.findall(r"`(tests/[^`]+)`", text):
        assert list(ROOT.glob(path)), path
