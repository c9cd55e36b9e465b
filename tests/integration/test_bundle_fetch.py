"""Bundles over real connections on loopback: what is fetched, what is refused, and what is left."""
# one test, one loop: nobody is kept waiting

from __future__ import annotations

import asyncio
import gc
import hashlib
import io
import os
import ssl
import tarfile
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gatekeeper.terminals.errors import BundleRefusedError
from gatekeeper.terminals.model import Bundle, Stage
from gatekeeper.terminals.runner.bundles import Fetched, Network, fetch
from gatekeeper.terminals.settings import BundleSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    Answering = Callable[[str, asyncio.StreamWriter], Awaitable[None]]

LONG_AGO: Final = datetime(2020, 1, 1, tzinfo=UTC)


def archive(**files: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for name, text in files.items():
            info = tarfile.TarInfo(f"app-1.0/{name}")
            info.size = len(text)
            packed.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


GOOD: Final = archive(main="print('hello')", readme="read me")
HASH: Final = hashlib.sha256(GOOD).hexdigest()


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    length = (
        ()
        if any(line.startswith("Content-Length") for line in headers)
        else (f"Content-Length: {len(body)}",)
    )
    head = "\r\n".join([f"HTTP/1.1 {status}", *headers, *length, "Connection: close"])
    return f"{head}\r\n\r\n".encode() + body


class Origin:
    """A server whose every answer a test writes byte by byte."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.heads: list[str] = []
        self.answers: dict[str, bytes | Answering] = {"/app.tar.gz": answer(GOOD)}
        self.port = 0
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/app.tar.gz"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ")[1]
            self.asked.append(path)
            self.heads.append(head)
            given = self.answers.get(path, answer(b"", status="404 Not Found"))
            if isinstance(given, bytes):
                writer.write(given)
                await writer.drain()
            else:
                await given(path, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Origin]:
    origin = Origin()
    server = await asyncio.start_server(origin.serve, "127.0.0.1", 0, ssl=tls)
    origin.port = server.sockets[0].getsockname()[1]
    async with server:
        yield origin
    if origin.tasks:  # each notices that its client has gone
        await asyncio.wait(origin.tasks, timeout=5)


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with serving() as one:
        yield one
    # A download that was given up holds half-read generators of httpx until they are collected.
    gc.collect()
    await asyncio.sleep(0.01)


class Runner:
    """What fetches, with settings that a test changes."""

    def __init__(self, folder: Path) -> None:
        self.cache, self.into = folder / "cache", folder / "into"
        self.lines: list[str] = []
        self.stages: list[Stage] = []

    async def fetch(
        self, url: str, sha256: str | None = HASH, network: Network | None = None, **changes: Any
    ) -> Fetched:
        settings = BundleSettings(
            **{"allowed_hosts": ("127.0.0.1",), "allow_http_on_loopback": True, **changes}
        )
        return await fetch(
            Bundle(url=url, sha256=sha256),
            settings=settings,
            cache=self.cache,
            progress=self.lines.append,
            reached=self.stages.append,
            into=self.into,
            network=network,
        )

    def nothing_left(self) -> bool:
        left = [*self.cache.parent.glob(".unpacking-*"), *self.cache.glob(".new-*")]
        return not left and not self.into.exists()


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


# What goes well.


async def test_a_bundle_is_fetched_verified_and_unpacked_in_view(
    origin: Origin, runner: Runner
) -> None:
    fetched = await runner.fetch(origin.url)
    assert fetched == Fetched(sha256=HASH, files=2, bytes=len(GOOD))
    assert (runner.into / "main").read_text() == "print('hello')"  # its one folder is entered
    assert runner.lines == [
        f"Fetched {len(GOOD)} bytes from 127.0.0.1:{origin.port}",
        "SHA-256 verified",
        "Unpacked 2 files",
    ]
    assert runner.stages == [Stage.FETCHED, Stage.VERIFIED]
    assert f"Host: 127.0.0.1:{origin.port}\r\n" in origin.heads[0]


async def test_what_was_fetched_before_is_taken_from_the_cache_and_verified_again(
    origin: Origin, runner: Runner, tmp_path: Path
) -> None:
    await runner.fetch(origin.url)
    runner.into = tmp_path / "second"
    await runner.fetch(origin.url)
    assert len(origin.asked) == 1
    assert "Found in the cache, SHA-256 verified" in runner.lines
    (runner.cache / HASH).write_bytes(b"changed on the disk")
    runner.into = tmp_path / "third"
    await runner.fetch(origin.url)
    assert len(origin.asked) == 2
    assert (runner.into / "main").exists()


async def test_the_cache_is_bounded_and_keeps_what_was_used_last(
    origin: Origin, runner: Runner, tmp_path: Path
) -> None:
    hashes_ = []
    for number in range(4):
        data = archive(main=os.urandom(2_000).hex())
        hashes_.append(hashlib.sha256(data).hexdigest())
        origin.answers["/app.tar.gz"] = answer(data)
        runner.into = tmp_path / f"into-{number}"
        await runner.fetch(origin.url, hashes_[-1], cache_bytes=9_000)
        if number == 2:
            runner.into = tmp_path / "again"
            await runner.fetch(origin.url, hashes_[0], cache_bytes=9_000)
    assert {path.name for path in runner.cache.iterdir()} >= {hashes_[0], hashes_[3]}
    assert sum(path.stat().st_size for path in runner.cache.iterdir()) <= 9_000


async def test_over_tls_the_name_is_what_is_verified(tmp_path: Path, runner: Runner) -> None:
    server, client = certificates(tmp_path)

    async def resolve(host: str, port: int) -> Sequence[str]:
        del host, port
        return ["127.0.0.1"]

    async with serving(server) as origin:
        url = f"https://localhost:{origin.port}/app.tar.gz"
        allowed: dict[str, Any] = {"allowed_hosts": ("localhost",)}
        await runner.fetch(url, network=Network(resolve=resolve, tls=client), **allowed)
        runner.into = tmp_path / "second"
        runner.cache = tmp_path / "empty"
        with pytest.raises(BundleRefusedError):
            await runner.fetch(url, network=Network(resolve=resolve), **allowed)
    assert origin.asked == ["/app.tar.gz"]


async def test_an_exempt_host_needs_no_hash(origin: Origin, runner: Runner) -> None:
    with pytest.raises(BundleRefusedError, match="needs its SHA-256"):
        await runner.fetch(origin.url, None)
    assert (await runner.fetch(origin.url, None, hosts_without_hash=("127.0.0.1",))).sha256 == HASH


# From where.


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://files.example/a", ("files.example",)),
        ("ftp://files.example/a", ("files.example",)),
        ("https://other.example/a", ("files.example",)),
        ("https://files.example.evil.example/a", ("files.example",)),
        ("https://evilfiles.example/a", ("*.files.example", "files.example")),
        ("https://files.example/a", ("*.files.example",)),
        ("https://files.example:8443/a", ("files.example",)),
        ("https://files.example/a", ("files.example:8443",)),
        ("https://user@files.example/a", ("files.example",)),
        ("https://evil.example\\@files.example/a", ("files.example", "evil.example")),
        ("https://files.example./a", ("files.example", "files.example.")),
        ("https://files.exämple/a", ("files.example",)),
        ("https://files.example/a b", ("files.example",)),
        ("https://[::1/a", ("files.example",)),
        ("https://files.example:99999/a", ("files.example",)),
        ("file:///etc/passwd", ()),
        ("", ()),
    ],
)
async def test_urls_outside_the_list_are_refused_unasked(
    runner: Runner, url: str, allowed: tuple[str, ...]
) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        pytest.fail(f"{host}:{port} was asked for")

    with pytest.raises(BundleRefusedError):
        await runner.fetch(url, network=Network(resolve=resolve), allowed_hosts=allowed)


ADDRESSES: Final = [
    *("127.0.0.1", "::1", "10.0.0.5", "192.168.1.1", "172.16.0.1", "169.254.169.254"),
    *("0.0.0.0", "100.64.0.1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "fd00::1", "fe80::1"),  # noqa: S104
    *("64:ff9b::a00:1", "2002:a00:1::", "224.0.0.1", "255.255.255.255", "192.0.2.1", "not one"),
]


@pytest.mark.parametrize("address", ADDRESSES)
async def test_a_name_that_leads_inside_is_not_connected_to(
    runner: Runner, origin: Origin, address: str
) -> None:
    """Not even with the setting for loopback: no name elsewhere leads there."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        del host, port
        return [address]

    with pytest.raises(BundleRefusedError, match="leads to an address"):
        await runner.fetch(
            f"https://files.example:{origin.port}/a",
            network=Network(resolve=resolve),
            allowed_hosts=(f"files.example:{origin.port}",),
        )
    assert origin.asked == []


async def test_a_name_that_changes_its_mind_is_asked_once(runner: Runner, origin: Origin) -> None:
    """DNS rebinding: first an address that may be, then this machine."""
    answers = [["203.0.113.1", "2001:db8::1"], ["127.0.0.1"]]

    async def resolve(host: str, port: int) -> Sequence[str]:
        del host, port
        return answers.pop(0)

    with pytest.raises(BundleRefusedError):
        await runner.fetch(
            f"https://files.example:{origin.port}/a",
            network=Network(resolve=resolve),
            allowed_hosts=(f"files.example:{origin.port}",),
        )
    assert len(answers) == 1
    assert origin.asked == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a", "https://127.0.0.1/a", "https://[::1]/a"])
async def test_this_machine_is_refused_without_the_setting(runner: Runner, url: str) -> None:
    with pytest.raises(BundleRefusedError):
        await runner.fetch(url, allow_http_on_loopback=False, allowed_hosts=("127.0.0.1",))


# Redirects.


def redirect(location: str) -> bytes:
    return answer(b"", f"Location: {location}", status="302 Found")


async def test_redirects_are_followed_inside_the_list(origin: Origin, runner: Runner) -> None:
    origin.answers["/start"] = redirect("/app.tar.gz")
    await runner.fetch(f"http://127.0.0.1:{origin.port}/start")
    assert origin.asked == ["/start", "/app.tar.gz"]


@pytest.mark.parametrize(
    "location",
    [
        "https://elsewhere.example/app.tar.gz",
        "http://localhost:1/app.tar.gz",
        "file:///etc/passwd",
        "//elsewhere.example/",
        "http://[::1]:80/",
        "",
    ],
)
async def test_a_redirect_out_of_the_list_is_refused(
    origin: Origin, runner: Runner, location: str
) -> None:
    origin.answers["/start"] = redirect(location)
    with pytest.raises(BundleRefusedError):
        await runner.fetch(f"http://127.0.0.1:{origin.port}/start")
    assert origin.asked == ["/start"]


async def test_a_redirect_to_a_host_that_is_not_exempt_needs_the_hash(
    origin: Origin, runner: Runner
) -> None:
    async with serving() as other:
        origin.answers["/start"] = redirect(other.url)
        with pytest.raises(BundleRefusedError, match="needs its SHA-256"):
            await runner.fetch(
                f"http://127.0.0.1:{origin.port}/start",
                None,
                hosts_without_hash=(f"127.0.0.1:{origin.port}",),
            )
        assert other.asked == []


async def test_a_loop_of_redirects_ends(origin: Origin, runner: Runner) -> None:
    origin.answers["/loop"] = redirect("/loop")
    with pytest.raises(BundleRefusedError, match="more than 5 redirects"):
        await runner.fetch(f"http://127.0.0.1:{origin.port}/loop")
    assert len(origin.asked) == 6


# What comes.


async def test_a_wrong_hash_is_refused_and_nothing_is_kept(origin: Origin, runner: Runner) -> None:
    with pytest.raises(BundleRefusedError, match=f"SHA-256 is {HASH}"):
        await runner.fetch(origin.url, "0" * 64)
    assert runner.nothing_left()
    assert list(runner.cache.iterdir()) == []
    assert runner.stages == []


async def _drip(path: str, writer: asyncio.StreamWriter) -> None:
    del path
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def _flood(path: str, writer: asyncio.StreamWriter) -> None:
    del path
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        await writer.drain()


ANSWERS: Final[dict[str, tuple[bytes | Answering, str]]] = {
    "it announces too much": (
        answer(b"x", "Content-Length: 99999999999"),
        "more than 200000 bytes",
    ),
    "it announces nonsense": (answer(b"x", "Content-Length: -5"), "not HTTP|more than"),
    "it sends less than it announced": (answer(GOOD, "Content-Length: 5000"), "broke"),
    "it sends too much": (_flood, "more than 200000 bytes"),
    "it never ends": (_drip, "within 1 seconds"),
    "it is a page": (answer(GOOD, "Content-Type: text/html; charset=utf-8"), "call itself"),
    "it is packed twice": (answer(GOOD, "Content-Encoding: gzip"), "call itself"),
    "it is missing": (answer(b"", status="404 Not Found"), "answered 404"),
    "it is partial": (answer(GOOD, status="206 Partial Content"), "answered 206"),
    "it is not HTTP": (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
    "it is silent": (b"", "broke"),
}


@pytest.mark.parametrize("case", ANSWERS)
async def test_answers_that_are_not_a_bundle_are_refused(
    origin: Origin, runner: Runner, case: str
) -> None:
    given, words = ANSWERS[case]
    origin.answers["/app.tar.gz"] = given
    with pytest.raises(BundleRefusedError, match=words) as refused:
        await runner.fetch(origin.url, max_bytes=200_000, max_seconds=1)
    assert refused.value.detail.isprintable()
    assert runner.nothing_left()


async def test_nobody_there_is_told_as_that(runner: Runner) -> None:
    async with serving() as gone:
        pass
    with pytest.raises(BundleRefusedError, match="cannot be connected to"):
        await runner.fetch(gone.url)


async def test_the_right_hash_of_no_archive_is_still_refused(
    origin: Origin, runner: Runner
) -> None:
    page = b"<html>" + bytes(1000)
    origin.answers["/app.tar.gz"] = answer(page)
    with pytest.raises(BundleRefusedError, match="neither a zip nor a tar"):
        await runner.fetch(origin.url, hashlib.sha256(page).hexdigest())
    assert runner.nothing_left()


# The scanner.


@asynccontextmanager
async def clamd(path: Path, says: bytes | None) -> AsyncIterator[list[bytes]]:
    """A daemon that reads a stream as clamd(8) has it, and says this; None: nothing, ever."""
    scanned: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readuntil(b"\0") == b"zINSTREAM\0"
        data = b""
        while length := int.from_bytes(await reader.readexactly(4), "big"):
            data += await reader.readexactly(length)
        scanned.append(data)
        if says is not None:
            writer.write(says + b"\0")
            await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(serve, str(path)):
        yield scanned


async def test_a_scanner_sees_every_byte(origin: Origin, runner: Runner, tmp_path: Path) -> None:
    async with clamd(tmp_path / "clamd", b"stream: OK") as scanned:
        await runner.fetch(origin.url, clamd_socket=tmp_path / "clamd")
    assert scanned == [GOOD]
    assert "The scanner found nothing" in runner.lines


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (b"stream: Eicar-Signature FOUND", "found something"),
        (b"INSTREAM size limit exceeded. ERROR", "did not say"),
        (b"stream: OK FOUND", "found something"),
        (b"", "did not say"),
        (None, "did not say"),
        (b"x" * 100_000, "did not say"),
    ],
)
async def test_without_a_clean_answer_no_bundle_is_taken(
    origin: Origin, runner: Runner, tmp_path: Path, says: bytes | None, words: str
) -> None:
    async with clamd(tmp_path / "clamd", says):
        with pytest.raises(BundleRefusedError, match=words):
            await runner.fetch(origin.url, clamd_socket=tmp_path / "clamd")
    assert runner.nothing_left()


async def test_no_scanner_where_one_is_set_is_no_bundle(
    origin: Origin, runner: Runner, tmp_path: Path
) -> None:
    with pytest.raises(BundleRefusedError, match="did not say"):
        await runner.fetch(origin.url, clamd_socket=tmp_path / "nobody")


def certificates(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make a certificate for localhost; return what serves with it, and what trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.2"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(LONG_AGO)
        .not_valid_after(LONG_AGO + timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, private)
    return server, ssl.create_default_context(cafile=str(certificate))
