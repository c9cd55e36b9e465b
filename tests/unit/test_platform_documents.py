"""Documents are read strictly, whatever kind they are, and everything in them has its line."""

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatekeeper.platform.documents import Document, DocumentError, read_document

ANY_FOLDER = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None
)


def read(folder: Path, name: str, text: str) -> Document:
    path = folder / name
    path.write_bytes(text.encode())
    return read_document(path)


def refusal(folder: Path, name: str, text: str) -> str:
    with pytest.raises(DocumentError) as caught:
        read(folder, name, text)
    return caught.value.detail.removeprefix(f"{folder}/")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a:\n  - !request.done\n", "d.yaml:2: not usable YAML: it is read as a tag; text that begins with ! needs quotes"),
        ("a: !b == 1\n", "text that begins with ! needs quotes"),
        ("a:\n  - !(b == 1)\n", "text that begins with ! needs quotes"),
        ("a:\n  - !'x' in y\n", "text that begins with ! needs quotes"),
        ('a:\n  - "admin" in groups\n', "d.yaml:2: "),
        ('a:\n  - "admin" in groups\n', "text that begins with a quoted word ends there"),
        ("a: 'x' == b\n", "put all of it in quotes of the other kind"),
        ("a: {{ b }}\n", "d.yaml:1: not usable YAML: a key is text; text that begins with { needs quotes"),
        ("a:\n  b: {{ c }}/d\n", "text that begins with { needs quotes"),
        ("a: x ? y : z\n", "text with a colon and a space in it needs quotes"),
        ("a: *b\n", "aliases are not allowed; text that begins with * needs quotes"),
        ("a: @b\n", "text that begins with this character needs quotes"),
        ("a: 1\nb: 2\na: 3\n", "d.yaml:3: not usable YAML: the key 'a' stands here twice"),
        ("on: 1\n", "this key is not read as text; put it in quotes"),
        ("1: 1\n", "this key is not read as text; put it in quotes"),
        ("<<: {a: 1}\n", "this key is not read as text"),
        ("[" * 101, "more than 100 lists and mappings in one another"),
        ("[" * 50_000, "more than 100"),
        ("a: 1\n---\nb: 1\n", "not usable YAML"),
        ("a: \x00", "not usable YAML"),
    ],
)  # fmt: skip
def test_what_yaml_would_read_as_something_else_says_what_to_do(
    tmp_path: Path, text: str, words: str
) -> None:
    assert words in refusal(tmp_path, "d.yaml", text)


def test_a_value_that_is_a_tag_by_mistake_is_not_told(tmp_path: Path) -> None:
    assert "Hunter2" not in refusal(tmp_path, "d.yaml", "password: !Hunter2\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1,\n "a": 2}', "d.json:2: not usable JSON: the name 'a' stands here twice"),
        ('{"a": 1,}', 'expected "'),
        ("[1 2]", "expected ,"),
        ("[1]\n\nx", "d.json:3: not usable JSON: something follows its end"),
        ("", "d.json:1: not usable JSON: expected a value"),
        ("[NaN]", "expected a value"),
        ("[01]", "expected ,"),
        ('["a\n"]', "a string has no end, or an unescaped control character"),
        ('["a', "a string has no end"),
        ('{"a" 1}', "expected :"),
        ("// c\n1", "expected a value"),
        ("[" * 102 + "]" * 102, "more than 100 arrays and objects in one another"),
    ],
)
def test_what_is_no_json_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    assert words in refusal(tmp_path, "d.json", text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = 1\na = 2\n", "d.toml:2: not usable TOML: Cannot overwrite a value"),
        ("a = \n", "d.toml:1: not usable TOML: "),
        ("a = " + "[" * 102 + "]" * 102, "more than 100 arrays and tables in one another"),
        ("a = " + "[" * 50_000, "not usable TOML"),
    ],
)
def test_what_is_no_toml_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    assert words in refusal(tmp_path, "d.toml", text)


@pytest.mark.parametrize("name", ["d.yaml", "d.json", "d.toml"])
def test_what_is_no_text_or_no_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\n\xff")
    with pytest.raises(DocumentError, match=f"{name}:2: not usable as text: expected UTF-8"):
        read_document(tmp_path / name)
    (tmp_path / name).write_bytes(b"#" * 1_048_577)
    with pytest.raises(DocumentError, match="at most 1048576 bytes"):
        read_document(tmp_path / name)
    (tmp_path / name).unlink()
    with pytest.raises(DocumentError, match="No such file"):
        read_document(tmp_path / name)
    os.mkfifo(tmp_path / name)
    with pytest.raises(DocumentError, match="not a file"):
        read_document(tmp_path / name)
    with pytest.raises(DocumentError, match="not the name of a file"):
        read_document(Path("a\0" + name))
    with pytest.raises(DocumentError, match=r"ends in one of \.yaml"):
        read_document(tmp_path / "d.txt")


TOML = '''# comment with [brackets] and "quotes"
title = "a # b"
multi = """
[not.a.table]
x = 1
"""
raw = \'\'\'
y = 2\'\'\'
when = 1979-05-27 07:32:00
dotted."key.with.dots".end = 1.5
list = [
  1, # one
  { a = 1, b = { c = [
    true ] } },
  [ 2,
    3 ],
]

[server.listen]
port = 8080
[server]
workers = 2

[[rules]]
name = "one"
[rules.inner]
deep = 1
[[rules]]
name = "two"
[[rules.more]]
x = 1
'''


def test_every_key_of_a_toml_document_has_its_own_line(tmp_path: Path) -> None:
    document = read(tmp_path, "d.toml", TOML)
    begins = TOML.splitlines()

    def stands(*location: str | int) -> str:
        return begins[document.line_of(location) - 1].strip()

    assert document.value == tomllib.loads(TOML)
    for key in ("title", "multi", "raw", "when", "list"):
        assert stands(key).startswith(f"{key} =")
    assert stands("dotted", "key.with.dots", "end").startswith("dotted.")
    assert stands("list", 0).startswith("1,")
    assert stands("list", 1, "a").startswith("{ a")
    assert stands("list", 1, "b", "c", 0).startswith("true")
    assert stands("list", 2, 1).startswith("3 ]")
    assert stands("server", "listen", "port") == "port = 8080"
    assert stands("server", "workers") == "workers = 2"
    assert stands("rules", 0, "name") == 'name = "one"'
    assert stands("rules", 0, "inner", "deep") == "deep = 1"
    assert stands("rules", 1, "name") == 'name = "two"'
    assert stands("rules", 1, "more", 0, "x") == "x = 1"
    assert stands("server", "listen", "none") == "[server.listen]"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(value=VALUES, indent=st.sampled_from([None, 1]), ascii_only=st.booleans())
@ANY_FOLDER
def test_json_is_read_as_it_was_written(
    tmp_path: Path, value: Any, indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)

    assert read(tmp_path, "d.json", text).value == value


@given(value=st.dictionaries(st.text("abc", min_size=1), VALUES, max_size=4))
@ANY_FOLDER
def test_the_lines_of_yaml_and_json_are_where_the_keys_are(
    tmp_path: Path, value: dict[str, Any]
) -> None:
    written = {"d.json": json.dumps(value, indent=1), "d.yaml": "{}"}
    written["d.yaml"] = yaml.safe_dump({f"k{n}": [n] for n in range(len(value))}, sort_keys=False)
    for name, text in written.items():
        document = read(tmp_path, name, text)
        lines = text.splitlines()
        for key in document.value:
            assert lines[document.line_of((key,)) - 1].strip().strip('"').startswith(key)


@given(
    data=st.binary(max_size=200) | st.text("[]{}=.,:\"'#\n ab1!&*-", max_size=60).map(str.encode)
)
@ANY_FOLDER
def test_any_bytes_are_read_or_refused_and_nothing_else(tmp_path: Path, data: bytes) -> None:
    for name in ("d.yaml", "d.json", "d.toml"):
        (tmp_path / name).write_bytes(data)
        try:
            document = read_document(tmp_path / name)
        except DocumentError:
            continue
        assert document.line_of(("a", 0, "b")) <= data.count(b"\n") + 1
