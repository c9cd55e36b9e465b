"""Which migrations are applied next, and which states are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatekeeper.kernel.errors import IntegrityError
from gatekeeper.platform.postgres.migrations import Migration, missing, shipped

if TYPE_CHECKING:
    from pathlib import Path

ONE = Migration("0001_pre_one", b"SELECT 1")
TWO = Migration("0002_pre_two", b"SELECT 2")


def test_nothing_applied_leaves_everything() -> None:
    assert missing((ONE, TWO), {}) == (ONE, TWO)


def test_what_was_applied_is_left_out() -> None:
    assert missing((ONE, TWO), {ONE.name: ONE.sha256}) == (TWO,)


def test_one_slipped_in_before_is_refused() -> None:
    with pytest.raises(IntegrityError, match="0001_pre_one is numbered before 0002_pre_two"):
        missing((ONE, TWO), {TWO.name: TWO.sha256})


def test_files_are_read_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "0002_post_b.sql").write_bytes(b"B")
    (tmp_path / "0001_pre_a.sql").write_bytes(b"A")
    (tmp_path / "README.md").write_bytes(b"words")

    assert shipped(tmp_path) == (Migration("0001_pre_a", b"A"), Migration("0002_post_b", b"B"))


@pytest.mark.parametrize("name", ["1_pre_a.sql", "0001_during_a.sql", "0001_pre_A.sql"])
def test_another_shape_of_name_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")

    with pytest.raises(IntegrityError, match="is named"):
        shipped(tmp_path)


def test_a_number_used_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0001_pre_a.sql").write_bytes(b"")
    (tmp_path / "0001_post_a.sql").write_bytes(b"")

    with pytest.raises(IntegrityError, match="the same number"):
        shipped(tmp_path)
