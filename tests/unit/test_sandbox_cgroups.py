"""Control groups of version 2, in a folder that looks like them: the kernel here has version 1."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gatekeeper.terminals.errors import SandboxUnavailableError
from gatekeeper.terminals.runner.sandbox import Wanted
from gatekeeper.terminals.runner.sandbox.cgroups import Cgroups

WANTED = Wanted(
    terminal="term-1",
    steps=(("true",),),
    environment={},
    columns=80,
    rows=24,
    network=False,
    memory_bytes=64_000_000,
    processes=50,
    cpu_percent=150,
    disk_bytes=1_000_000,
    work=None,
    doors=Path("/doors"),
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("cpu\n")
    (tmp_path / "gatekeeper").mkdir()
    (tmp_path / "gatekeeper" / "cgroup.subtree_control").write_text("")
    return tmp_path


def test_controllers_are_handed_down_and_limits_written(tree: Path) -> None:
    cgroups = Cgroups(tree)
    assert cgroups.version == 2
    for folder in (tree, tree / "gatekeeper"):
        assert (folder / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    made = cgroups.make(WANTED)
    assert made is not None
    (folder,) = made.folders
    assert folder == tree / "gatekeeper" / "term-1"
    written = {file.name: file.read_text() for file in folder.iterdir()}
    assert written == {
        "memory.max": "64000000",
        "pids.max": "50",
        "cpu.max": "150000 100000",
    }
    made.add(4711)
    assert made.processes() == [4711]


def test_swap_is_closed_where_the_kernel_counts_it(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "exists", lambda _: True)
    made = Cgroups(tree).make(WANTED)
    assert made is not None
    assert (made.folders[0] / "memory.swap.max").read_text() == "0"


def test_without_a_controller_there_are_none(tree: Path) -> None:
    (tree / "cgroup.controllers").write_text("cpu memory\n")
    cgroups = Cgroups(tree)
    assert cgroups.version == 0
    assert cgroups.why_not == "there is no controller pids"
    assert cgroups.make(WANTED) is None


def test_no_tree_is_no_failure(tmp_path: Path) -> None:
    assert Cgroups(tmp_path).why_not == "the controllers memory, pids and cpu are not mounted"


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "x" * 200])
def test_a_name_that_leads_elsewhere_is_refused(tree: Path, name: str) -> None:
    with pytest.raises(SandboxUnavailableError):
        Cgroups(tree).make(replace(WANTED, terminal=name))


def test_nothing_half_made_is_left(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, text: str) -> int:
        del self, text
        raise OSError(28, "No space left on device")

    cgroups = Cgroups(tree)
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(SandboxUnavailableError, match="No space"):
        cgroups.make(WANTED)
    assert not (tree / "gatekeeper" / "term-1").exists()
