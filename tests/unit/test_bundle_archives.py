"""Archives that mean harm, each made by hand, and those that do not."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import tracemalloc
import zipfile
from contextlib import suppress
from random import Random  # noqa: TID251 - the same archives each time
from typing import TYPE_CHECKING

import pytest

from gatekeeper.terminals.errors import BundleRefusedError
from gatekeeper.terminals.runner.bundles.archives import unpack
from gatekeeper.terminals.runner.bundles.unpack import Budget
from gatekeeper.terminals.settings import BundleSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gatekeeper.terminals.runner.bundles.unpack import Unpacked

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "tar.gz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
}


def member(name: str, content: bytes = b"", **changes: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(*members: tuple[str, bytes, int], **changes: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = changes.get("compress_type", zipfile.ZIP_DEFLATED)
            archive.writestr(info, content)
    return buffer.getvalue()


@pytest.fixture
def take(tmp_path: Path) -> Callable[..., Unpacked]:
    def take(data: bytes, **limits: int) -> Unpacked:
        archive = tmp_path / "archive"
        archive.write_bytes(data)
        root = tmp_path / "root"
        root.mkdir(exist_ok=True)
        settings = BundleSettings(**limits)
        return unpack(archive, root, Budget(settings, packed_bytes=len(data), seconds=20))

    return take


@pytest.mark.parametrize("kind", PACKERS)
def test_each_kind_of_tar_is_unpacked(
    take: Callable[..., Unpacked], tmp_path: Path, kind: str
) -> None:
    data = tar(
        member("top", type=tarfile.DIRTYPE, mode=0o755),
        member("top/deep/run.sh", b"#!/bin/sh\n", mode=0o4755),
        member("top/é 🦊.txt", "grüezi".encode()),
        member("top/link", type=tarfile.SYMTYPE, linkname="deep/run.sh"),
        member("top/again", type=tarfile.LNKTYPE, linkname="top/deep/run.sh"),
    )
    done = take(PACKERS[kind](data))
    root = tmp_path / "root" / "top"
    assert done.files == 4
    assert (root / "é 🦊.txt").read_text() == "grüezi"
    assert (root / "link").read_text() == (root / "again").read_text() == "#!/bin/sh\n"
    assert stat.S_IMODE((root / "deep/run.sh").stat().st_mode) == 0o755  # no setuid
    assert stat.S_IMODE((root / "é 🦊.txt").stat().st_mode) == 0o644


def test_a_zip_is_unpacked(take: Callable[..., Unpacked], tmp_path: Path) -> None:
    done = take(
        zipped(
            ("a/", b"", 0o040755),
            ("a/run", b"x" * 5000, 0o100755),
            ("a/ü", b"text", 0),
            ("a/link", b"run", 0o120777),
        )
    )
    assert done.files == 3
    assert stat.S_IMODE((tmp_path / "root/a/run").stat().st_mode) == 0o755
    assert (tmp_path / "root/a/link").read_bytes() == b"x" * 5000


NAMES = [
    "/etc/passwd",
    "../out",
    "a/../../out",
    "a/..",
    "C:evil",
    "a\\b",
    "a\nb",
    "esc\x1b[2J",
    "x" * 256,
    "/".join("abcdefghij" * 4),
]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_out_or_cannot_be_shown_are_refused(
    take: Callable[..., Unpacked], name: str, tmp_path: Path
) -> None:
    for data in (tar(member(name, b"x")), zipped((name, b"x", 0))):
        with pytest.raises(BundleRefusedError) as refused:
            take(data)
        assert refused.value.detail.isprintable()
    assert {path.name for path in tmp_path.iterdir()} == {"archive", "root"}


def test_a_name_that_is_not_unicode_is_refused(take: Callable[..., Unpacked]) -> None:
    data = bytearray(tar(member("abc", b"x")))
    data[0:3] = b"a\xff\xfe"
    head = bytes(data[:148]) + b" " * 8 + bytes(data[156:512])
    data[148:156] = b"%06o\0 " % sum(head)
    with pytest.raises(BundleRefusedError):
        take(bytes(data))


LINKS = [
    ("link", "/etc/passwd"),
    ("link", "../out"),
    ("a/b/link", "../../.."),
    ("link", ""),
    ("loop", "loop"),
]


@pytest.mark.parametrize(("name", "target"), LINKS)
def test_links_that_lead_out_are_refused(
    take: Callable[..., Unpacked], name: str, target: str
) -> None:
    link = member(name, type=tarfile.SYMTYPE, linkname=target)
    for data in (tar(link), zipped((name, target.encode(), 0o120777))):
        with pytest.raises(BundleRefusedError):
            take(data)
        _clean(take)


def _clean(take: Callable[..., Unpacked]) -> None:
    """A refused archive's folder is thrown away by `fetch`; here by the test."""
    root: Path = take.__closure__[0].cell_contents / "root"  # type: ignore[index]
    for path in sorted(root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def test_links_that_lead_out_together_are_refused(take: Callable[..., Unpacked]) -> None:
    """Each alone stays inside as it is written: a/b/up is the top, and `..` of that is not."""
    with pytest.raises(BundleRefusedError, match="leads out"):
        take(
            tar(
                member("a/b/up", type=tarfile.SYMTYPE, linkname="../.."),
                member("out", type=tarfile.SYMTYPE, linkname="a/b/up/../secret"),
            )
        )


def test_nothing_is_written_through_a_link(take: Callable[..., Unpacked], tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    with pytest.raises(BundleRefusedError):
        take(
            tar(
                member("d", type=tarfile.SYMTYPE, linkname="../outside"),
                member("d/file", b"x"),
            )
        )
    assert not list((tmp_path / "outside").iterdir())


@pytest.mark.parametrize("target", ["/etc/passwd", "../x", "missing", "a", "s"])
def test_a_second_name_is_for_files_of_the_archive_alone(
    take: Callable[..., Unpacked], target: str
) -> None:
    with pytest.raises(BundleRefusedError):
        take(
            tar(
                member("a", type=tarfile.DIRTYPE),
                member("s", type=tarfile.SYMTYPE, linkname="a"),
                member("hard", type=tarfile.LNKTYPE, linkname=target),
            )
        )


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"S", b"V"])
def test_devices_and_the_like_are_refused(take: Callable[..., Unpacked], kind: bytes) -> None:
    with pytest.raises(BundleRefusedError):
        take(tar(member("device", type=kind, devmajor=1, devminor=1)))


def test_a_device_in_a_zip_is_refused(take: Callable[..., Unpacked]) -> None:
    with pytest.raises(BundleRefusedError, match="no file, folder or link"):
        take(zipped(("device", b"", 0o060644)))


PAIRS = [
    ("a", "a"),
    ("README", "readme"),
    ("é", "e\u0301"),
    ("a", "a/b"),
    ("a/b", "a"),
    ("ß", "SS"),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_names_that_are_the_same_or_look_so_are_refused(
    take: Callable[..., Unpacked], one: str, other: str
) -> None:
    with pytest.raises(BundleRefusedError, match="same name"):
        take(tar(member(one, b"x"), member(other, b"y")))


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz"])
def test_a_bomb_stops_early(take: Callable[..., Unpacked], tmp_path: Path, kind: str) -> None:
    """In bytes written and in memory: 32 MiB of zeros, in a few KiB."""
    data = PACKERS[kind](tar(member("zeros", bytes(32 << 20))))
    assert len(data) < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(BundleRefusedError, match="would become more"):
            take(data)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 16 << 20
    assert (tmp_path / "root/zeros").stat().st_size <= 16 << 20


def test_a_bomb_in_a_zip_stops_early(take: Callable[..., Unpacked], tmp_path: Path) -> None:
    with pytest.raises(BundleRefusedError, match="would become more"):
        take(zipped(("zeros", bytes(32 << 20), 0)))
    assert (tmp_path / "root/zeros").stat().st_size <= 16 << 20


def test_a_bomb_of_a_header_stops_early(take: Callable[..., Unpacked]) -> None:
    """A long name is read as a whole: this one says that it has 100 MiB."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 100 << 20
    data = gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(100 << 20), 1)
    tracemalloc.start()
    try:
        with pytest.raises(BundleRefusedError):
            take(data)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 8 << 20


def test_sizes_are_counted_not_believed(take: Callable[..., Unpacked]) -> None:
    """A zip whose directory says that a file has one byte."""
    data = bytearray(zipped(("file", bytes(100_000), 0)))
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<L", 1)
    with pytest.raises(BundleRefusedError):
        take(bytes(data), max_unpacked_bytes=50_000)


def test_the_number_of_files_and_folders_is_bounded(take: Callable[..., Unpacked]) -> None:
    many = [member(f"{number}", b"") for number in range(60)]
    with pytest.raises(BundleRefusedError, match="more than 50"):
        take(tar(*many), max_files=50)
    with pytest.raises(BundleRefusedError, match="more than 50"):
        take(zipped(*((f"z{number}", b"", 0) for number in range(60))), max_files=50)
    with pytest.raises(BundleRefusedError, match="more than 50"):
        take(tar(*(member(f"d{number}/f", b"") for number in range(30))), max_files=50)


def test_folders_are_bounded_in_depth(take: Callable[..., Unpacked]) -> None:
    take(tar(member("a/b/c", b"")), max_depth=3)
    with pytest.raises(BundleRefusedError, match="deeper than 2"):
        take(tar(member("d/b/c", b"")), max_depth=2)


def test_an_encrypted_or_oddly_packed_zip_is_refused(take: Callable[..., Unpacked]) -> None:
    data = bytearray(zipped(("file", b"x", 0)))
    at = data.rindex(b"PK\x01\x02")
    data[at + 8] |= 1
    with pytest.raises(BundleRefusedError, match="encrypted"):
        take(bytes(data))
    with pytest.raises(BundleRefusedError, match="packed in a way"):
        take(zipped(("file", b"x", 0), compress_type=zipfile.ZIP_LZMA))


@pytest.mark.parametrize("data", [b"", b"<html>", b"\x7fELF" + bytes(600), b"MZ", b"Rar!\x1a\x07"])
def test_what_is_no_archive_is_refused(take: Callable[..., Unpacked], data: bytes) -> None:
    with pytest.raises(BundleRefusedError, match="neither"):
        take(data)


@pytest.mark.parametrize("kind", [*PACKERS, "zip"])
def test_a_damaged_archive_is_refused_or_unpacked_and_nothing_else(
    take: Callable[..., Unpacked], kind: str
) -> None:
    """150 archives with a few bytes changed or cut off: no other error, nothing outside."""
    chance = Random(kind)  # noqa: S311
    content = bytes(range(256)) * 8
    good = (
        zipped(("a/b", content, 0), ("c", content, 0o100755))
        if kind == "zip"
        else PACKERS[kind](tar(member("a/b", content), member("c", content)))
    )
    for _ in range(150):
        data = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(6, len(data))] = chance.randrange(256)
        cut = len(data) if chance.random() < 0.5 else chance.randrange(8, len(data))
        with suppress(BundleRefusedError):
            take(bytes(data[:cut]))
        _clean(take)
