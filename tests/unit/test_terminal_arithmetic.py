"""The arithmetic of many sockets: what follows from what was measured, and the page of it."""

import re
from pathlib import Path

import pytest
from benchmarks.gateway.arithmetic import SOCKETS, Measured, needed, page

PAGE = Path(__file__).parents[2] / "docs/explanation/terminals-at-scale.md"
ONE = Measured(
    idle_kib=4, process_mib=32, setup_us=200, gib_cpu_seconds=1, terminals_a_machine=500,
    events_a_second=1_000,
)  # fmt: skip


def test_a_hundred_thousand_sockets_follow_from_one() -> None:
    found = needed(100_000, ONE)

    assert found.processes == 12
    assert found.connections == 60
    assert found.machines == 200
    assert found.attaches == pytest.approx(55.6, abs=0.1)
    assert found.database_calls == pytest.approx(3 * 55.6 + 12, abs=0.2)
    assert found.memory_gib == pytest.approx(100_000 * 4 / 2**20 + 12 * 32 / 2**10)


def test_the_page_says_what_it_was_given_and_both_sizes() -> None:
    made = page(ONE)

    assert " | ".join(f"{sockets:,}" for sockets in SOCKETS) in made
    assert "| memory of an idle client, KiB | 4 |" in made


@pytest.mark.skipif(not PAGE.exists(), reason="it is written from a run of the benchmarks")
def test_the_page_is_what_its_own_figures_make() -> None:
    text = PAGE.read_text()
    figures = re.findall(r"^\| [^|]+ \| ([\d.,]+) \|", text.split("| assumed")[0], re.MULTILINE)
    numbers = [float(figure.replace(",", "")) for figure in figures]
    assert len(numbers) == len(Measured._fields)

    assert page(Measured(*numbers)) == text
