"""Attempts to get out of a terminal, each really made from inside.

docs/explanation/sandbox.md has a row for each. `boxes` runs a test in both tiers.
"""
# ruff: noqa: ASYNC240, S108  # one test, one loop: nobody is kept waiting; the paths are attacked

from __future__ import annotations

import asyncio
import ctypes
import os
import platform
import resource
import socket
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from sandbox_cases import CALLS, MEBIBYTE, PYTHON, Sandboxes, make_tier

from gatekeeper.terminals.runner.sandbox import accounting, discard, folders, held
from gatekeeper.terminals.runner.sandbox.seccomp import REFUSED
from waiting import settled

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="only for root are there limits and other users")
pytestmark = pytest.mark.skipif(
    not Path(PYTHON).exists(), reason="the attacks are made with the machine's own Python"
)


@pytest.fixture(scope="module")
def tiers() -> dict[str, object]:
    return {}


@pytest.fixture(params=["bubblewrap", "landlock"])
def boxes(request: pytest.FixtureRequest, tmp_path: Path, tiers: dict[str, object]) -> Sandboxes:
    name = request.param
    if name not in tiers:
        tiers[name] = make_tier(name)
    return Sandboxes(tiers[name], tmp_path)  # type: ignore[arg-type]


@pytest.fixture
def secret_on_host() -> Iterator[Path]:
    """Make a file that anybody on the host may read."""
    path = Path("/var/tmp") / f"gatekeeper-host-secret-{os.getpid()}"
    path.write_text("host-secret")
    path.chmod(0o644)
    yield path
    path.unlink()


# Files and processes of others.


async def test_files_of_other_terminals_cannot_be_read(boxes: Sandboxes) -> None:
    hide = 'echo other-secret | tee "$HOME/secret" "$TMPDIR/secret" "/tmp/secret"; sleep 60'
    async with boxes.running("sh", "-c", hide, environment={"TMPDIR": "/tmp"}) as other:
        await other.until("other-secret")
        found = await boxes.shell(
            'for file in "$HOME/secret" /tmp/secret /run/gatekeeper-sandbox/home/secret '
            "/proc/[0-9]*/root/home/user/secret /proc/[0-9]*/cwd/secret; do "
            'cat "$file" 2>/dev/null; done; echo end'
        )
    assert found.words == ["end"]


async def test_processes_of_other_terminals_cannot_be_ended(boxes: Sandboxes) -> None:
    async with boxes.running("sh", "-c", "echo up; read line; echo got $line") as other:
        await other.until("up")
        victims = accounting.descendants(other.held._process.pid)
        tried = await boxes.shell('kill -9 "$@" -1; echo tried', *map(str, victims))
        assert "tried" in tried.text or tried.exit.signal == 9
        other.type("on\n")
        await other.until("got on")


@pytest.mark.parametrize("path", ["/root", "/etc/shadow", "/etc/ssh", "/boot", "/sys/fs/cgroup"])
async def test_folders_of_the_host_are_not_there(boxes: Sandboxes, path: str) -> None:
    found = await boxes.shell('ls "$1/" 2>/dev/null; head -c 9 "$1" 2>/dev/null', path)
    assert found.text == ""


async def test_a_file_of_the_host_cannot_be_read(boxes: Sandboxes, secret_on_host: Path) -> None:
    here = Path(__file__)
    found = await boxes.shell('cat "$@" 2>/dev/null; echo end', str(secret_on_host), str(here))
    assert found.text == "end\n"


async def test_the_runners_folder_and_socket_cannot_be_reached(
    boxes: Sandboxes, tmp_path: Path
) -> None:
    path = tmp_path / "runner.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen()
        tried = await boxes.python(
            "import socket, sys\n"
            "s = socket.socket(socket.AF_UNIX)\n"
            "try: s.connect(sys.argv[1]); print('connected')\n"
            "except OSError as error: print(errno.errorcode[error.errno])",
            str(path),
        )
    assert tried.words in (["ENOENT"], ["EACCES"])


async def test_the_runners_environment_is_not_seen(
    boxes: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEKEEPER_CANARY", "environment-canary")
    seen = await boxes.shell("env; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'")
    assert "HOME=" in seen.text
    assert "canary" not in seen.text.lower()


async def test_no_descriptor_is_handed_down(boxes: Sandboxes) -> None:
    open_ = await boxes.python(
        "for fd in range(1024):\n    try: os.fstat(fd); print(fd)\n    except OSError: pass"
    )
    assert open_.words == ["0", "1", "2"]


async def test_what_other_processes_are_cannot_be_read(boxes: Sandboxes) -> None:
    """In tier 2 the folders of others are named, and nothing in them opens."""
    seen = await boxes.shell(
        "for file in /proc/$1/cmdline /proc/$1/environ /proc/$1/maps /proc/$1/fd /proc/$1/status; "
        'do cat "$file" 2>/dev/null; ls "$file/" 2>/dev/null; done; echo end',
        str(os.getpid()),
    )
    assert seen.text == "end\n"


async def test_processes_of_the_host_cannot_be_signalled(boxes: Sandboxes) -> None:
    """Not even asked whether they live: the runner's own, and the first."""
    tried = await boxes.python(
        "import sys\n"
        "for pid in map(int, sys.argv[1:]):\n"
        "    try: os.kill(pid, 0); print('heard', pid)\n"
        "    except OSError as error: print(errno.errorcode[error.errno])",
        str(os.getpid()),
        *(() if boxes.is_bubblewrap else ("1",)),
    )
    assert set(tried.words) <= {"ESRCH", "EPERM"}


# The network.


async def test_a_listener_on_the_hosts_loopback_cannot_be_reached(boxes: Sandboxes) -> None:
    """So neither can the control plane's port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        tried = await boxes.python(
            "import socket, sys\n"
            "try: socket.create_connection(('127.0.0.1', int(sys.argv[1])), 3); print('connected')\n"
            "except OSError as error: print(errno.errorcode[error.errno])",
            str(listener.getsockname()[1]),
        )
    assert tried.words in (["ECONNREFUSED"], ["EAFNOSUPPORT"])


async def test_an_abstract_socket_of_the_host_cannot_be_reached(boxes: Sandboxes) -> None:
    name = f"gatekeeper-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        tried = await boxes.python(
            "import socket, sys\n"
            "s = socket.socket(socket.AF_UNIX)\n"
            "try: s.connect('\\0' + sys.argv[1]); print('connected')\n"
            "except OSError as error: print(errno.errorcode[error.errno])",
            name,
        )
    assert tried.words in (["ECONNREFUSED"], ["EPERM"])


async def test_a_terminal_that_may_have_the_network_has_the_machines(boxes: Sandboxes) -> None:
    """The counter-check: what the tests above see is the sandbox, not a machine without one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        tried = await boxes.python(
            "import socket, sys\n"
            "socket.create_connection(('127.0.0.1', int(sys.argv[1])), 3); print('connected')",
            str(listener.getsockname()[1]),
            network=True,
        )
    assert tried.words == ["connected"]


async def test_no_name_and_no_address_outside_can_be_asked(boxes: Sandboxes) -> None:
    tried = await boxes.python(
        "import socket\n"
        "try: socket.getaddrinfo('localhost.example', 80); print('resolved')\n"
        "except OSError: print('no name')\n"
        "for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):\n"
        "    try:\n"
        "        s = socket.socket(socket.AF_INET, kind); s.settimeout(3)\n"
        "        s.connect(('192.0.2.1', 53)); print('sent')\n"
        "    except OSError as error: print(errno.errorcode[error.errno])"
    )
    assert tried.words[:2] == ["no", "name"]
    assert set(tried.words[2:]) <= {"ENETUNREACH", "EAFNOSUPPORT"}


async def test_families_of_sockets_that_know_no_namespace_are_refused(boxes: Sandboxes) -> None:
    tried = await boxes.python(
        "import socket\n"
        "for family in (17, 29, 31, 38, 40, 44, 70):\n"  # packet, CAN, Bluetooth, ALG, VSOCK, XDP
        "    try: socket.socket(family, socket.SOCK_RAW); print('made', family)\n"
        "    except OSError as error: print(errno.errorcode[error.errno])\n"
        "print(call(41, (1 << 32) | 40, 1, 0))"  # the kernel looks at the lower half
        if platform.machine() == "x86_64"
        else "print('EAFNOSUPPORT')"
    )
    assert set(tried.words) == {"EAFNOSUPPORT"}


# The kernel.


async def test_system_calls_that_nobody_needs_are_refused(boxes: Sandboxes) -> None:
    """Every one of the filter's list, with arguments that would be refused otherwise too."""
    sc = pytest.importorskip("pyseccomp")
    numbers = {name: sc.resolve_syscall(sc.Arch.NATIVE, name) for name in REFUSED}
    known = [str(number) for number in numbers.values() if number >= 0]
    assert len(known) > 50
    tried = await boxes.python(
        "import sys\nfor number in map(int, sys.argv[1:]): print(call(number, -1, -1, -1, -1, -1))",
        *known,
    )
    assert set(tried.words) == {"EPERM"}
    assert len(tried.words) == len(known)


@pytest.mark.parametrize(
    "flag", [0x80, 0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000]
)
async def test_no_namespace_can_be_made(boxes: Sandboxes, flag: int) -> None:
    tried = await boxes.python(
        "import sys\n"
        "flag = int(sys.argv[1])\n"
        "def name(result): return errno.errorcode[ctypes.get_errno()] if result < 0 else 'done'\n"
        "print(name(libc.unshare(flag)))\n"
        "print(call(435, ctypes.create_string_buffer(88), 88))\n"  # clone3
        "if flag > 255: print(call(56, flag | 17, 0, 0, 0, 0))",  # clone, SIGCHLD
        str(flag),
    )
    assert tried.words == ["EPERM", "ENOSYS", "EPERM"][: len(tried.words)]
    assert "done" not in tried.words


async def test_user_namespaces_cannot_be_nested(boxes: Sandboxes) -> None:
    tried = await boxes.shell("unshare --user --map-root-user id -u; bwrap --bind / / id -u; id -u")
    assert "0" not in tried.words


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the code is of that architecture")
@pytest.mark.parametrize(
    "code",
    ["b8140000 00cd80 c3", "b827000040 0f05 c3"],
    ids=["int 0x80: the 32-bit calls", "x32: the calls with a bit set"],
)
async def test_calls_of_another_architecture_end_the_process(boxes: Sandboxes, code: str) -> None:
    """They would go past a filter that knows the calls of one alone."""
    tried = await boxes.python(
        "import mmap, sys\n"
        "code = bytes.fromhex(sys.argv[1])\n"
        "page = mmap.mmap(-1, 4096, prot=7); page.write(code)\n"
        "address = ctypes.addressof(ctypes.c_char.from_buffer(page))\n"
        "print('answer', ctypes.CFUNCTYPE(ctypes.c_int)(address)())",
        code,
    )
    assert "answer" not in tried.text
    assert tried.exit.signal == 31  # SIGSYS


async def test_input_cannot_be_pushed_into_the_terminal(boxes: Sandboxes) -> None:
    """TIOCSTI, also with bits set that the kernel does not look at (CVE-2019-10063)."""
    tried = await boxes.python(
        "buffer = ctypes.create_string_buffer(b'x')\n"
        "for command in (0x5412, 0x541C, 0x5423, (1 << 32) | 0x5412):\n"
        "    ctypes.set_errno(0)\n"
        "    result = libc.ioctl(0, ctypes.c_ulong(command), buffer)\n"
        "    print(errno.errorcode[ctypes.get_errno()] if result < 0 else 'done')"
    )
    assert tried.words == ["EPERM"] * 4


async def test_nothing_can_be_traced_or_read_from_outside(boxes: Sandboxes) -> None:
    tried = await boxes.python(
        "print(libc.ptrace(16, os.getppid(), 0, 0), errno.errorcode[ctypes.get_errno()])\n"
        "print(libc.ptrace(0, 0, 0, 0), errno.errorcode[ctypes.get_errno()])\n"
        "print(call(310, os.getppid(), 0, 0, 0, 0, 0))"
    )
    assert tried.words == ["-1", "EPERM", "-1", "EPERM", "EPERM"]


async def test_the_first_process_of_a_sandbox_is_as_confined_as_the_rest(
    boxes: Sandboxes,
) -> None:
    """Its memory can be written, as it has the same user: so it must be worth nothing."""
    if not boxes.is_bubblewrap:
        pytest.skip("tier 2 has no first process inside")
    status = await boxes.shell("grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/1/status")
    values = dict(line.split(":\t") for line in status.text.splitlines())
    assert values.pop("NoNewPrivs") == "1"
    assert values.pop("Seccomp") == "2"
    assert {int(value, 16) for value in values.values()} == {0}


async def test_other_processes_cannot_be_slowed_or_lowered(boxes: Sandboxes) -> None:
    """Limits, priorities and processors, by number: they may be of the runner's user."""
    pid = str(os.getpid()) if boxes.is_bubblewrap else "os.getpid()"
    tried = await boxes.python(
        f"pid = {pid}\n"
        "def tell(what, *arguments):\n"
        "    try: what(*arguments); print('done')\n"
        "    except OSError as error: print(errno.errorcode[error.errno])\n"
        "import resource\n"
        "own = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "tell(resource.prlimit, pid, resource.RLIMIT_NOFILE, own)\n"
        "tell(os.setpriority, os.PRIO_PROCESS, pid, 5)\n"
        "tell(os.sched_setaffinity, pid, os.sched_getaffinity(0))\n"
        "tell(os.sched_setscheduler, pid, os.SCHED_BATCH, os.sched_param(0))\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, own); os.nice(1); print('own')"
    )
    refused = "ESRCH" if boxes.is_bubblewrap else "EPERM"  # there by the filter, its own too
    assert tried.words == [refused] * 4 + ["own"]


async def test_shared_memory_and_queues_end_with_their_terminal(boxes: Sandboxes) -> None:
    """They outlive their process: the next terminal of this user could read them."""
    key = 0x676B_0000 | (os.getpid() & 0xFFFF)
    queue = f"gatekeeper-test-{os.getpid()}".encode()
    made = await boxes.python(
        "import sys\n"
        "key, queue = int(sys.argv[1]), sys.argv[2].encode()\n"
        "made = (libc.shmget(key, 4096, 0o1666), libc.msgget(key, 0o1666),"
        " libc.semget(key, 1, 0o1666), call(240, queue, 0o102, 0o666, 0) == 'done')\n"  # mq_open
        "print(*(number >= 0 for number in made[:3]), made[3])",
        str(key),
        queue.decode(),
    )
    assert made.words == ["True" if boxes.is_bubblewrap else "False"] * 4
    libc = ctypes.CDLL(None, use_errno=True)
    found = (libc.shmget(key, 0, 0), libc.msgget(key, 0), libc.semget(key, 0, 0))
    assert found == (-1, -1, -1)
    assert libc.syscall(240, queue, 0, 0, 0) == -1


async def test_namespaces_of_others_cannot_be_entered(boxes: Sandboxes) -> None:
    tried = await boxes.python(
        "for name in ('net', 'mnt', 'pid', 'user'):\n"
        "    for pid in (1, os.getppid()):\n"
        "        try: fd = os.open(f'/proc/{pid}/ns/{name}', os.O_RDONLY)\n"
        "        except OSError: print('closed'); continue\n"
        "        print(errno.errorcode[ctypes.get_errno()] if libc.setns(fd, 0) < 0 else 'entered')"
    )
    assert set(tried.words) <= {"closed", "EPERM"}


async def test_settings_of_the_kernel_cannot_be_written(boxes: Sandboxes) -> None:
    tried = await boxes.shell(
        "for file in /proc/sys/kernel/hostname /proc/sys/kernel/core_pattern /proc/sysrq-trigger "
        "/proc/sys/user/max_user_namespaces /proc/sys/vm/drop_caches /sys/kernel/uevent_helper; "
        'do (echo 1 > "$file") 2>/dev/null && echo "wrote $file"; done; echo end'
    )
    assert tried.text == "end\n"


async def test_nothing_can_be_mounted(boxes: Sandboxes) -> None:
    """With the programs for it; the calls themselves are in the filter's list."""
    tried = await boxes.shell(
        'mkdir c; for what in "mount -t tmpfs none c" "mount -t proc none c" "umount $HOME" '
        '"mount -t cgroup2 none c" "mount -t cgroup none c" "mount -o remount,rw /" '
        '"mount --bind / c" "chroot . /bin/sh" "pivot_root . c" "losetup -f c"; do '
        "$what >/dev/null 2>&1 && echo $what; done; ls c; echo end"
    )
    assert tried.text == "end\n"


async def test_no_device_can_be_made_or_opened(boxes: Sandboxes) -> None:
    tried = await boxes.python(
        "for kind in (0o60000, 0o20000):\n"
        "    try: os.mknod('device', kind | 0o600, os.makedev(1, 1)); print('made')\n"
        "    except OSError as error: print('refused')\n"
        "for name in ('mem', 'kmem', 'port', 'kmsg', 'vda', 'sda', 'kvm', 'fuse', 'net/tun', 'vsock'):\n"
        "    try: os.open('/dev/' + name, os.O_RDWR); print('opened', name)\n"
        "    except OSError as error: print('refused')"
    )
    assert set(tried.words) == {"refused"}


async def test_there_are_no_capabilities_and_no_way_to_new_ones(boxes: Sandboxes) -> None:
    status = await boxes.python(
        "print(libc.prctl(39, 0, 0, 0, 0), libc.prctl(21, 0, 0, 0, 0), os.getuid() != 0)\n"
        "print(sum(libc.prctl(47, 1, cap, 0, 0) for cap in range(41)))\n"
        "class H(ctypes.Structure): _fields_ = [('v', ctypes.c_uint32), ('p', ctypes.c_int)]\n"
        "header, data = H(0x20080522, 0), (ctypes.c_uint32 * 6)()\n"
        "print(libc.capget(ctypes.byref(header), data), list(data))"
    )
    assert status.text == "1 2 True\n0\n0 [0, 0, 0, 0, 0, 0]\n"


@pytest.mark.skipif(not Path("/usr/bin/su").exists(), reason="there is no setuid program here")
async def test_setuid_programs_gain_nothing(boxes: Sandboxes) -> None:
    assert Path("/usr/bin/su").stat().st_mode & stat.S_ISUID
    async with boxes.running("su", "-c", "id") as screen:
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                while "assword" not in screen.text and screen.text == "":
                    await asyncio.sleep(0.02)
        owners = {
            uid
            for pid in accounting.descendants(screen.held._process.pid)
            for uid in accounting._owners(pid)
        }
    assert owners <= {screen.held.uid}
    assert "uid=0" not in screen.text


# Limits.


async def test_a_fork_bomb_ends_with_its_terminal_alone(boxes: Sandboxes) -> None:
    if not ROOT and not boxes.is_bubblewrap:
        pytest.skip("without a user or a namespace of its own nothing counts its processes")
    async with boxes.running("bash", "-c", ":(){ :|:& };: ; sleep 60", processes=40) as screen:
        await screen.until("fork")
        running = await asyncio.to_thread(screen.held._scan)
        assert len(running) <= 45
        ended = await asyncio.wait_for(screen.held.end(), 10)
        assert ended > 2
        assert screen.held.left() == ()


@needs_root
async def test_memory_is_bounded_and_what_takes_more_is_killed(boxes: Sandboxes) -> None:
    outcome = await boxes.python(
        "data = []\nwhile True: data.append(bytearray(1 << 20))", memory_bytes=48 * MEBIBYTE
    )
    assert outcome.exit.signal == 9


@needs_root
async def test_files_in_memory_count_as_memory(boxes: Sandboxes) -> None:
    outcome = await boxes.shell(
        "head -c 100M /dev/zero > $HOME/file; echo end",
        memory_bytes=24 * MEBIBYTE,
        disk_bytes=200 * MEBIBYTE,
    )
    assert outcome.exit.signal == 9 or "Killed" in outcome.text


@needs_root
async def test_the_home_and_temporary_files_are_bounded(boxes: Sandboxes) -> None:
    outcome = await boxes.shell(
        'for folder in "$HOME" /tmp /dev/shm; do for n in 1 2 3; do '
        'head -c 3M /dev/zero > "$folder/$n"; done; done 2>/dev/null; '
        'du -smc "$HOME" /tmp /dev/shm 2>/dev/null | tail -1'
    )
    assert int(outcome.words[0]) <= 4 + 4 + 1


async def test_one_file_is_bounded_wherever_it_is(boxes: Sandboxes, tmp_path: Path) -> None:
    """In /work too, which is a folder of the host."""
    work = tmp_path / "work"
    work.mkdir()
    outcome = await boxes.shell(
        'cd "$WORK" && head -c 9M /dev/zero > file; echo end',
        work=work,
        environment={"WORK": "/work"},
    )
    assert "end" in outcome.words
    assert (work / "file").stat().st_size <= 4 * MEBIBYTE


async def test_many_files_in_the_work_folder_end_the_terminal(
    boxes: Sandboxes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "WATCH_SECONDS", 0.05)
    work = tmp_path / "work"
    work.mkdir()
    (work / "bundle").write_bytes(bytes(3 * MEBIBYTE))
    fill = 'cd "$WORK"; n=0; while :; do n=$((n+1)); head -c 1M /dev/zero > $n; sleep 0.01; done'
    async with boxes.running("sh", "-c", fill, work=work, environment={"WORK": "/work"}) as screen:
        await asyncio.wait_for(screen.held.wait(), 10)
        assert screen.held.complaint == "There is too much in the work folder"
    assert folders.measure(work).bytes >= 7 * MEBIBYTE


@pytest.mark.parametrize("kept", ["files.append(file)", "maps.append(mmap.mmap(file.fileno(), 0))"])
async def test_files_without_a_name_count_in_the_work_folder(
    boxes: Sandboxes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    """A file that was removed takes its room for as long as it is open, or mapped."""
    if not ROOT and "mmap" in kept:
        pytest.skip("only root sees what another process has mapped")
    monkeypatch.setattr(held, "WATCH_SECONDS", 0.05)
    work = tmp_path / "work"
    work.mkdir()
    fill = (
        "import os, time, mmap\nfiles, maps = [], []\nos.chdir(os.environ['WORK'])\n"
        "for _ in range(8):\n"
        "    file = open('f', 'w+b'); file.write(bytes(1 << 20)); file.flush(); os.unlink('f')\n"
        f"    {kept}\n"
        "del file; time.sleep(60)"
    )
    command = (PYTHON, "-I", "-c", fill)
    async with boxes.running(*command, work=work, environment={"WORK": "/work"}) as screen:
        await asyncio.wait_for(screen.held.wait(), 10)
        assert "too much" in screen.held.complaint


@pytest.mark.parametrize("levels", [5_000])
async def test_a_folder_too_deep_for_paths_ends_the_terminal_and_can_be_removed(
    boxes: Sandboxes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, levels: int
) -> None:
    """What walks it by paths sees nothing below 4,096 bytes; what does by recursion fails."""
    monkeypatch.setattr(held, "WATCH_SECONDS", 0.05)
    work = tmp_path / "work"
    work.mkdir()
    dig = (
        "import sys, time\nos.chdir(os.environ['WORK'])\n"
        "for _ in range(int(sys.argv[1])): os.mkdir('d'); os.chdir('d')\n"
        "time.sleep(60)"
    )
    command = (PYTHON, "-I", "-c", CALLS + dig, str(levels))
    async with boxes.running(*command, work=work, environment={"WORK": "/work"}) as screen:
        await asyncio.wait_for(screen.held.wait(), 10)
        assert "too much" in screen.held.complaint
    assert discard(work)


async def test_a_flood_that_nobody_reads_stands_still(boxes: Sandboxes) -> None:
    """The terminal holds a few KiB; who writes more waits."""
    running = await boxes.tier.start(boxes.wanted(("yes",)))
    await settled(lambda: _written(running))
    await running.end()
    os.close(running.terminal_fd)
    assert running.left() == ()


def _written(running: object) -> str:
    pids = accounting.descendants(running._process.pid)  # type: ignore[attr-defined]
    return "".join(Path(f"/proc/{pid}/io").read_text().split("wchar")[1] for pid in pids[-1:])


async def test_a_crash_leaves_no_core(boxes: Sandboxes) -> None:
    """Not in a file, and not in a pipe to a program of the host (which a limit of 0 would not
    stop)."""
    outcome = await boxes.shell("ulimit -c; sh -c 'kill -SEGV $$'; ls; echo end")
    assert outcome.words[0] == "0"
    assert not any(line.startswith("core") for line in outcome.text.splitlines())
    limit = await boxes.python("import resource; print(*resource.getrlimit(resource.RLIMIT_CORE))")
    assert limit.words == ["1", "1"]
    assert resource.getrlimit(resource.RLIMIT_CORE)[1] != 1


# What is handed in.


async def test_doors_can_be_read_and_not_written(boxes: Sandboxes, tmp_path: Path) -> None:
    doors = tmp_path / "doors"
    doors.mkdir()
    (doors / "service").write_text("handed in")
    outcome = await boxes.shell(
        'cat "$DOORS/service"; echo; (echo x > "$DOORS/new") 2>/dev/null && echo wrote; '
        '(echo x >> "$DOORS/service") 2>/dev/null && echo wrote; rm -f "$DOORS/service" 2>/dev/null '
        '&& echo removed; mv "$DOORS" "$DOORS.old" 2>/dev/null && echo moved; echo end',
        doors=doors,
        environment={"DOORS": "/run/gatekeeper"},
    )
    assert outcome.text == "handed in\nend\n"
    assert (doors / "service").read_text() == "handed in"


async def test_a_socket_among_the_doors_can_be_used(boxes: Sandboxes, tmp_path: Path) -> None:
    doors = tmp_path / "doors"
    doors.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(doors / "s"))
        listener.listen()
        answering = threading.Thread(target=_welcome, args=(listener,))
        answering.start()
        outcome = await boxes.python(
            "import socket\ns = socket.socket(socket.AF_UNIX)\n"
            "s.connect(os.environ['DOORS'] + '/s'); print(s.recv(100))",
            doors=doors,
            environment={"DOORS": "/run/gatekeeper"},
        )
        answering.join()
    assert outcome.text == "b'welcome'\n"


def _welcome(listener: socket.socket) -> None:
    listener.settimeout(10)
    with listener.accept()[0] as connection:
        connection.sendall(b"welcome")


async def test_links_in_the_work_folder_lead_nowhere(
    boxes: Sandboxes, tmp_path: Path, secret_on_host: Path
) -> None:
    """Neither for what runs, nor for the runner that hands the folder over.

    They lead to what the test made: where they were followed, nothing of the machine is changed.
    """
    work, outside = tmp_path / "work", tmp_path / "outside"
    work.mkdir()
    outside.mkdir()
    (outside / "secret").write_text("host-secret")
    (work / "link").symlink_to(secret_on_host)
    (work / "folder").symlink_to(outside)
    before = [(path.stat().st_uid, path.stat().st_mode) for path in (secret_on_host, outside)]
    outcome = await boxes.shell(
        'cd "$WORK" && cat link 2>/dev/null; cat folder/secret 2>/dev/null; '
        "(echo x > link) 2>/dev/null; ln -s /etc/shadow shadow; cat shadow 2>/dev/null; echo end",
        work=work,
        environment={"WORK": "/work"},
    )
    assert outcome.text == "end\n"
    after = [(path.stat().st_uid, path.stat().st_mode) for path in (secret_on_host, outside)]
    assert after == before
    assert secret_on_host.read_text() == "host-secret"


@needs_root
async def test_every_terminal_has_a_user_of_its_own(boxes: Sandboxes) -> None:
    async with boxes.running("cat") as one, boxes.running("cat") as other:
        assert 0 != one.held.uid != other.held.uid != 0
        for screen in (one, other):
            pids = accounting.descendants(screen.held._process.pid)
            assert {uid for pid in pids for uid in accounting._owners(pid)} == {screen.held.uid}
