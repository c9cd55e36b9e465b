"""Which archive it is, by its first bytes, and what is in it: zip and tar, packed or not."""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from typing import TYPE_CHECKING, BinaryIO, Final

from gatekeeper.terminals.errors import BundleRefusedError
from gatekeeper.terminals.runner.bundles.unpack import CHUNK_BYTES, Budget, Tree, Unpacked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gatekeeper.terminals.runner.bundles.unpack import Readable

_TAR_MAGIC: Final = b"ustar"
_TAR_MAGIC_AT: Final = 257
_HEAD_BYTES: Final = 512
XZ_MEMORY_BYTES: Final = 134_217_728
"""The strongest usual setting (`xz -9`) takes 65 MiB."""
MAX_HEADER_BYTES: Final = 1_048_576
"""Of one header of a tar archive, such as a long name: it is read as a whole."""
_TAR_BYTES_AN_ENTRY: Final = 3 * 512
_DIRECTORY_ENTRY: Final = b"PK\x01\x02"
_END_OF_DIRECTORY: Final = b"PK\x05\x06"
_LENGTH_AT: Final = 12
_END_BYTES: Final = 22 + 65_535
_MAX_DIRECTORY_BYTES: Final = 33_554_432
_ENCRYPTED: Final = 0x1
_BROKEN: Final = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, ValueError, RuntimeError, NotImplementedError, IndexError, KeyError),
    *(OverflowError, MemoryError),
)
"""What the standard library raises when it reads what is no archive."""


def unpack(archive: Path, root: Path, budget: Budget) -> Unpacked:
    """Unpack an archive into an empty folder. Raises `BundleRefusedError`."""
    tree = Tree(root, budget)
    try:
        with archive.open("rb") as file:
            kind = kind_of(file)
            if kind == "zip":
                _unzip(file, tree, budget)
            else:
                _untar(_UNPACKERS[kind](file), tree, budget)
        tree.finish()
    except BundleRefusedError:
        raise
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:
            message = f"The bundle cannot be unpacked here: {error.strerror}"
        else:
            message = "The bundle is damaged, or not the archive that it begins like"
        raise BundleRefusedError(message) from None
    return Unpacked(files=tree.files, bytes=budget.bytes)


def kind_of(file: BinaryIO) -> str:
    """Tell the kind by the first bytes: what a server calls it does not matter."""
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    for kind, magic in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if head[_TAR_MAGIC_AT:].startswith(_TAR_MAGIC):
        return "tar"
    message = "The bundle is neither a zip nor a tar archive"
    raise BundleRefusedError(message)


class _Xz:
    """Reads xz within a bound of memory, which `lzma.open` does not offer."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES)

    def read(self, size: int, /) -> bytes:
        while not self._unpacker.eof:
            packed = self._file.read(CHUNK_BYTES) if self._unpacker.needs_input else b""
            if self._unpacker.needs_input and not packed:
                raise EOFError
            if data := self._unpacker.decompress(packed, size):
                return data
        return b""


_MAGIC: Final = {
    "zip": b"PK\x03\x04",
    "tar.gz": b"\x1f\x8b\x08",
    "tar.bz2": b"BZh",
    "tar.xz": b"\xfd7zXZ\x00",
}
_UNPACKERS: Final[dict[str, Callable[[BinaryIO], Readable]]] = {
    "tar": lambda file: file,
    "tar.gz": lambda file: gzip.GzipFile(fileobj=file),
    "tar.bz2": bz2.BZ2File,
    "tar.xz": _Xz,
}


class _Counted:
    """What `tarfile` reads from: forwards only, never much at once, never more than budgeted."""

    def __init__(self, source: Readable, budget: Budget) -> None:
        self._source = source
        self._budget = budget
        self._at = 0
        self._most = budget.max_bytes + budget.max_files * _TAR_BYTES_AN_ENTRY + CHUNK_BYTES

    def tell(self) -> int:
        return self._at

    def seek(self, position: int, whence: int = 0) -> int:
        if whence or position < self._at:
            raise ValueError
        while self._at < position and self.read(min(CHUNK_BYTES, position - self._at)):
            pass
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise ValueError
        parts, left = [], size
        while left and (data := self._source.read(left)):
            parts.append(data)
            left -= len(data)
        self._at += size - left
        if self._at > self._most:
            message = f"The bundle would become more than {self._budget.max_bytes} bytes"
            raise BundleRefusedError(message)
        self._budget.in_time()
        return b"".join(parts)


def _untar(source: Readable, tree: Tree, budget: Budget) -> None:
    counted = _Counted(source, budget)
    with tarfile.open(fileobj=counted, mode="r:", encoding="utf-8") as tar:  # type: ignore[call-overload]
        for member in tar:
            tar.members = []  # or it keeps them all
            _take_member(tar, member, tree)


def _take_member(tar: tarfile.TarFile, member: tarfile.TarInfo, tree: Tree) -> None:
    if member.isdir():
        tree.folder(member.name)
    elif member.issym():
        tree.symbolic_link(member.name, member.linkname)
    elif member.islnk():
        tree.hard_link(member.name, member.linkname)
    elif member.isreg() and not member.issparse():
        content = tar.extractfile(member)
        if content is None:
            raise ValueError
        tree.file(member.name, content, mode=member.mode)
    else:
        message = "The bundle holds something that is no file, folder or link"
        raise BundleRefusedError(message)


def _unzip(file: BinaryIO, tree: Tree, budget: Budget) -> None:
    _check_directory(file, budget)
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            _take_zipped(archive, member, tree)


def _check_directory(file: BinaryIO, budget: Budget) -> None:
    """Count the entries before the library reads all of them into memory."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _END_BYTES))
    tail = file.read()
    at = tail.rfind(_END_OF_DIRECTORY)
    if at < 0:
        raise ValueError
    length = struct.unpack_from("<L", tail, at + _LENGTH_AT)[0]
    if length > _MAX_DIRECTORY_BYTES:  # also what zip64 writes there: none that we take is so large
        message = "The bundle's directory is larger than any that is taken"
        raise BundleRefusedError(message)
    file.seek(max(0, size - len(tail) + at - length))
    if file.read(length).count(_DIRECTORY_ENTRY) > budget.max_files:
        message = f"The bundle holds more than {budget.max_files} files and folders"
        raise BundleRefusedError(message)
    file.seek(0)


def _take_zipped(archive: zipfile.ZipFile, member: zipfile.ZipInfo, tree: Tree) -> None:
    if member.flag_bits & _ENCRYPTED:
        message = "The bundle is encrypted"
        raise BundleRefusedError(message)
    if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        message = "The bundle is packed in a way that is not taken"
        raise BundleRefusedError(message)
    name, mode = member.orig_filename, member.external_attr >> 16
    if name.endswith("/"):
        tree.folder(name)
        return
    kind = stat.S_IFMT(mode)
    with archive.open(member) as content:
        if kind == stat.S_IFLNK:
            tree.symbolic_link(name, content.read(CHUNK_BYTES).decode())
        elif kind in {0, stat.S_IFREG}:
            tree.file(name, content, mode=mode)
        else:
            message = "The bundle holds something that is no file, folder or link"
            raise BundleRefusedError(message)
