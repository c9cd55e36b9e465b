"""What a terminal leaves on its machine is removed, however it was made."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

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
