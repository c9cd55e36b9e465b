"""Patterns on untrusted text, and templates in files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from factories.scopes import scope
from gatekeeper.forwardauth.adapters.language import MAX_TEMPLATE_FILE_BYTES, Language
from gatekeeper.platform.expressions.patterns import MAX_PATTERN_CHARS

if TYPE_CHECKING:
    from pathlib import Path

LANGUAGE = Language()


def test_a_pattern_is_found_anywhere_unless_it_says_where() -> None:
    assert LANGUAGE.pattern("b+")("abba")
    assert not LANGUAGE.pattern("^b+$")("abba")
    assert LANGUAGE.pattern("^é$")("é")
    assert not LANGUAGE.pattern("a")("\ud800")


def test_a_pattern_that_backtracks_elsewhere_is_linear_here() -> None:
    """25 characters keep a backtracking engine busy for more than a second, 50,000 for ever."""
    assert not LANGUAGE.pattern("(a+)+$")("a" * 50_000 + "!")
    assert not LANGUAGE.condition("request.path.matches('(a+)+$')")(
        scope(request__path="a" * 50_000 + "!")
    )


@pytest.mark.parametrize(
    "source",
    [
        "(",
        "[z-a]",
        r"(a)\1",
        "(?=a)",
        "a" * (MAX_PATTERN_CHARS + 1),
        "(((a{900}){900}){900})",
        "\ud800",
    ],
)
def test_a_pattern_that_re2_has_not_is_refused_in_silence(
    source: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="pattern"):
        LANGUAGE.pattern(source)
    assert capfd.readouterr() == ("", "")


def test_a_template_of_the_folder_is_rendered(tmp_path: Path) -> None:
    (tmp_path / "deny").mkdir()
    (tmp_path / "deny" / "body.txt").write_text("Sorry, {{ auth.input.user }} – no.\n")
    template = Language(tmp_path).file("deny/body.txt")
    assert template(scope()) == "Sorry, jo – no.\n"
    assert template.reads == {("auth.input", "user")}


def test_a_link_within_the_folder_is_followed(tmp_path: Path) -> None:
    """Kubernetes mounts a ConfigMap as links to a folder of the moment."""
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "a.txt").write_text("a")
    (tmp_path / "a.txt").symlink_to("..data/a.txt")
    assert Language(tmp_path).file("a.txt")(scope()) == "a"


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "/etc/hostname",
        "link.txt",
        "away/secret.txt",
        "sub",
        "nope",
        "",
        "a\0b",
        "loop",
    ],
)
def test_what_is_not_in_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "templates"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "away").symlink_to(tmp_path)
    (folder / "loop").symlink_to("loop")
    with pytest.raises(ValueError, match="templates folder|null byte"):
        Language(folder).file(path)
    with pytest.raises(ValueError, match="absolute|no file in the templates folder"):
        Language(folder).file(str(folder / "sub" / ".." / "link.txt"))


def test_a_file_beyond_its_limit_or_of_other_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"a" * (MAX_TEMPLATE_FILE_BYTES + 1))
    (tmp_path / "latin").write_bytes(b"\xff")
    (tmp_path / "wrong").write_text("{{ nope }}")
    for name, reason in (
        ("big", "more than"),
        ("latin", "no UTF-8"),
        ("wrong", "there is no nope"),
    ):
        with pytest.raises(ValueError, match=reason):
            Language(tmp_path).file(name)


def test_without_a_folder_there_are_no_files() -> None:
    with pytest.raises(ValueError, match="there is no templates folder"):
        LANGUAGE.file("a.txt")
