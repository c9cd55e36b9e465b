"""What a terminal leaves on its machine is removed, however it was made."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from gatekeeper.bootstrap.terminals.runner import prepare_folders
from gatekeeper.kernel.errors import InputError
from gatekeeper.terminals.runner.equipment import Place

if TYPE_CHECKING:
    from pathlib import Path

DEEP = 3_000


def test_a_tree_too_deep_to_be_walked_is_removed_with_all_the_rest(tmp_path: Path) -> None:
    place = Place(doors=tmp_path / "i/doors", work=tmp_path / "i/bundle", recording=tmp_path / "r")
    place.make()
    place.work.mkdir()
    before = os.open(".", os.O_RDONLY)
    try:
        os.chdir(place.work)
        for _ in range(DEEP):
            os.mkdir("d")  # noqa: PTH102  # a path of this depth is too long
            os.chdir("d")
    finally:
        os.fchdir(before)
        os.close(before)
    place.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


@pytest.mark.parametrize("why", ["a link", "another's"])
def test_a_folder_that_somebody_else_may_own_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    folder, recordings = tmp_path / "runner", tmp_path / "recordings"
    settings: Any = SimpleNamespace(folder=folder, recordings=recordings)
    if why == "a link":
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.mkdir()
        other = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: other)

    with pytest.raises(InputError, match="nobody else owns"):
        prepare_folders(settings)
    assert list(folder.iterdir()) == []
