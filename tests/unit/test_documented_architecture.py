"""Pages about how forward auth is built name what is there, and diagrams can be drawn."""

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

from gatekeeper.forwardauth import agents

DOCS = Path(__file__).parents[2] / "docs"
AGENTS = DOCS / "explanation" / "forwardauth" / "agents.md"
HELPERS = re.compile(r"^Beside them: (.*)$", re.MULTILINE)
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if "```mermaid" in page.read_text()]
MODULES = {
    path.stem for path in Path(next(iter(agents.__path__))).glob("*.py") if path.stem != "__init__"
}


def rows() -> list[tuple[int, str, list[str]]]:
    """Return the number, the module and the entry points of each row of the table."""
    found = re.findall(r"^\| (\d) \| `(\w+)` \| ([^|]+) \|", AGENTS.read_text(), re.MULTILINE)
    return [(int(number), module, re.findall(r"`(\w+)`", entry)) for number, module, entry in found]


def module(name: str) -> ModuleType:
    return importlib.import_module(f"{agents.__name__}.{name}")


def functions(of: ModuleType) -> set[str]:
    """Return what others can call of a module when a request is judged."""
    return {
        name
        for name, one in vars(of).items()
        if inspect.isfunction(one) and one.__module__ == of.__name__
        and not name.startswith(("_", "compile_"))
    }  # fmt: skip


def mermaid(page: Path) -> list[str]:
    return re.findall(r"^```mermaid\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def test_the_table_has_the_nine_agents_and_the_rest_are_helpers() -> None:
    nine = {name for _, name, _ in rows()}
    (helpers,) = HELPERS.findall(AGENTS.read_text())
    named = set(re.findall(r"`(\w+)`", helpers))

    assert [number for number, _, _ in rows()] == list(range(1, 10))
    assert MODULES - nine == named - nine
    assert nine < MODULES


def test_the_package_says_the_same_as_the_page() -> None:
    listed = re.findall(r"^ +(\w+)\.py +(\d) ", inspect.getdoc(agents) or "", re.MULTILINE)

    assert sorted((int(number), name) for name, number in listed) == [
        (number, name) for number, name, _ in rows()
    ]


def test_each_agent_has_the_entry_point_the_page_names_and_no_other() -> None:
    beside = set(re.findall(r"`(\w+)`", AGENTS.read_text().partition("`caching` also")[2]
                            .partition(")")[0]))  # fmt: skip
    assert len(rows()) == 9
    for _, name, entries in rows():
        assert entries
        assert all(hasattr(module(name), entry) for entry in entries)
        extra = beside if name == "caching" else set()
        assert functions(module(name)) - extra == functions(module(name)) & set(entries), name


def test_decision_runs_the_agents_by_these_entry_points_alone() -> None:
    source = (DOCS.parent / "src" / "gatekeeper" / "forwardauth" / "decision.py").read_text()
    entries = {name: set(entry) for _, name, entry in rows()}
    runtime = source.partition("if TYPE_CHECKING")[0]

    imported = re.findall(
        r"^from gatekeeper\.forwardauth\.agents\.(\w+) import (.+)$", runtime, re.MULTILINE
    )
    assert {name for name, _ in imported} >= {
        "admission",
        "forward_policy",
        "response",
        "variables",
    }
    for name, what in imported:
        if name in entries:
            assert set(what.split(", ")) <= entries[name], name
    assert "chain.run(" in source


def test_the_diagram_draws_exactly_the_agents_under_their_numbers() -> None:
    (diagram,) = mermaid(AGENTS)
    inside = diagram.partition("subgraph agents")[2].partition("\n    end")[0]

    drawn = re.findall(r'(\w+)\["(\d) (\w+)"\]', inside)
    assert sorted((int(number), name) for _, number, name in drawn) == [
        (number, name) for number, name, _ in rows()
    ]
    assert all(node == name for node, _, name in drawn)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_diagrams_can_be_drawn(page: Path) -> None:
    text = page.read_text()
    diagrams = mermaid(page)

    assert len(diagrams) == text.count("```mermaid")
    for diagram in diagrams:
        kind, *lines = [line.strip() for line in diagram.splitlines()]
        assert kind.split()[0] in {"flowchart", "sequenceDiagram", "stateDiagram-v2"}
        for opening, closing in ("[]", "()", "{}"):
            assert diagram.count(opening) == diagram.count(closing)
        assert diagram.count('"') % 2 == 0
        if kind.startswith("flowchart"):
            check_flowchart(lines)
        elif kind == "sequenceDiagram":
            check_sequence(lines)


def check_flowchart(lines: list[str]) -> None:
    """Each node has its label once, each arrow leads from one to another, each block ends."""
    labels = re.findall(r"(\w+)\[", "\n".join(lines))
    assert len(labels) == len(set(labels))
    assert sum(line.startswith("subgraph ") for line in lines) == lines.count("end")
    for line in lines:
        if line == "end" or line.startswith("subgraph "):
            continue
        ends = re.split(r"\s*-->\s*", line)
        assert len(ends) == 2, line
        for end in ends:
            assert re.sub(r"\[.*\]$", "", end) in labels, line


def check_sequence(lines: list[str]) -> None:
    """Whoever speaks or is spoken to was introduced, once."""
    names = [line.split()[1] for line in lines if line.startswith("participant ")]
    assert len(names) == len(set(names))
    messages = [line for line in lines if not line.startswith("participant ")]
    spoken = set()
    for line in messages:
        message = re.fullmatch(r"(\w+)--?>>(\w+): \S.*", line)
        assert message, line
        spoken |= {message[1], message[2]}
    assert spoken == set(names)


def test_every_test_the_threat_model_names_is_there() -> None:
    text = (DOCS / "explanation" / "threat-model.md").read_text()
    named = re.findall(r"`((?:unit|integration|contract|acceptance)/[\w/*.]+)`", text)
    tests = DOCS.parent / "tests"

    assert len(named) > 40
    assert [name for name in named if not list(tests.glob(name))] == []
