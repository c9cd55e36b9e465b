"""A program that keeps what bubblewrap does not: it starts one terminal, and ends all of it.

Run by itself (`python -I -S keeper.py PARENT`), so it imports nothing of ours. Standard input is
a plan (JSON) that arrives when control group and limits hold; standard output is the terminal;
standard error is the status pipe. What it starts is confined; the keeper is not. Orphans come to
it (PR_SET_CHILD_SUBREAPER), so it finds them. When the runner is gone, the kernel tells it.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import signal
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_SECCOMP: Final = 22
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38
SECCOMP_MODE_FILTER: Final = 2
CLONE_NEWNS: Final = 0x0002_0000
MS_NOSUID_NODEV: Final = 0x2 | 0x4
MS_BIND: Final = 0x1000
MS_REMOUNT_BIND_RDONLY: Final = 0x20 | 0x1000 | 0x1
MS_REC_PRIVATE: Final = 0x4000 | 0x4_0000
LANDLOCK_CREATE_RULESET: Final = 444
LANDLOCK_ADD_RULE: Final = 445
LANDLOCK_RESTRICT_SELF: Final = 446
RULE_PATH_BENEATH: Final = 1
FILE_RIGHTS: Final = 0x1 | 0x2 | 0x4 | 0x4000 | 0x8000
"""Execute, write, read, truncate, ioctl: what a rule for a file may hold."""
RULESET_SIZES: Final = ((6, 24), (4, 16), (1, 8))
"""From which version of Landlock on the attributes have which size."""
MAX_PLAN_BYTES: Final = 4_194_304

libc: Final = ctypes.CDLL(None, use_errno=True)


class RulesetAttr(ctypes.Structure):
    """struct landlock_ruleset_attr of <linux/landlock.h>."""

    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


class SockFprog(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def main() -> None:
    _call("prctl", PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    _call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
    signal.signal(signal.SIGTERM, lambda *_: _give_up(None))
    text = sys.stdin.buffer.read(MAX_PLAN_BYTES)
    if not text:
        sys.exit(1)
    plan = json.loads(text)
    signal.signal(signal.SIGTERM, lambda *_: _give_up(plan["remove"]))
    if plan["mounts"]:
        _mount(plan["mounts"])
    child = os.fork()
    if child == 0:
        _become(plan)
    os.close(1)
    ended = _wait_for(child)
    end_all()
    _end_like(ended)


def _call(name: str, *arguments: object) -> int:
    result: int = getattr(libc, name)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def _mount(mounts: list[dict[str, Any]]) -> None:
    """Make a mount namespace, and what the plan says in it."""
    _call("unshare", CLONE_NEWNS)
    _call("mount", b"none", b"/", None, ctypes.c_ulong(MS_REC_PRIVATE), None)
    for mount in mounts:
        at = os.fsencode(mount["at"])
        if mount["from"] is None:
            flags, options = ctypes.c_ulong(MS_NOSUID_NODEV), mount["options"].encode()
            _call("mount", b"tmpfs", at, b"tmpfs", flags, options)
            continue
        _call("mount", os.fsencode(mount["from"]), at, None, ctypes.c_ulong(MS_BIND), None)
        if mount["read_only"]:
            _call("mount", None, at, None, ctypes.c_ulong(MS_REMOUNT_BIND_RDONLY), None)


def _become(plan: dict[str, Any]) -> None:
    """Confine this process, and become the first step. What fails is told on the status pipe."""
    try:
        _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        _take_terminal()
        for kind, value in plan["limits"]:
            resource.setrlimit(kind, (value, value))
        rules = None if plan["landlock"] is None else _ruleset(plan["landlock"])
        os.chdir(plan["folder"])
        if plan["uid"] is not None:
            os.setgroups([])
            os.setresgid(plan["uid"], plan["uid"], plan["uid"])
            os.setresuid(plan["uid"], plan["uid"], plan["uid"])
            _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        _call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if rules is not None:
            _call("syscall", LANDLOCK_RESTRICT_SELF, rules, 0)
        os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        if plan["seccomp"] is not None:
            _filter(bytes.fromhex(plan["seccomp"]))
        os.execve(plan["command"][0], plan["command"], plan["environment"])  # noqa: S606
    except BaseException as error:  # noqa: BLE001 - whatever it was: nothing unconfined may run
        os.write(2, f"{error}\n".encode())
        os._exit(126)


def _take_terminal() -> None:
    """Lead a session of its own, whose terminal is standard output; hear every signal."""
    os.setsid()
    fcntl.ioctl(1, termios.TIOCSCTTY, 0)
    os.dup2(1, 0)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _ruleset(plan: dict[str, Any]) -> int:
    """Make a Landlock ruleset. Paths that are not there are left out."""
    attributes = RulesetAttr(plan["handled_fs"], plan["handled_net"], plan["scoped"])
    size = next(size for version, size in RULESET_SIZES if plan["version"] >= version)
    rules = _call(
        "syscall", LANDLOCK_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), 0
    )
    for path, rights in plan["paths"]:
        with suppress(FileNotFoundError):
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            allowed = rights if Path(path).is_dir() else rights & FILE_RIGHTS
            rule = PathBeneathAttr(allowed & plan["handled_fs"], fd)
            _call("syscall", LANDLOCK_ADD_RULE, rules, RULE_PATH_BENEATH, ctypes.byref(rule), 0)
            os.close(fd)
    return rules


def _filter(program: bytes) -> None:
    """Load a BPF program of 8-byte instructions."""
    buffer = ctypes.create_string_buffer(program, len(program))
    prog = SockFprog(len(program) // 8, ctypes.addressof(buffer))
    _call("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(prog), 0, 0)


def _wait_for(child: int) -> int:
    """Reap whatever ends, until that one does; return its status."""
    while True:
        pid, status = os.wait()
        if pid == child:
            return status


def end_all() -> None:
    """Stop everything below this process so that nothing multiplies, then kill it, until none is
    left.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        known: set[int] = set()
        while new := [pid for pid in _below() if pid not in known]:
            _signal(new, signal.SIGSTOP)
            known.update(new)
        _signal(known, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.001)


def _below() -> list[int]:
    found, open_ = [], [os.getpid()]
    while open_:
        with suppress(OSError):
            pid = open_.pop()
            below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            found += [int(child) for child in below]
            open_ += [int(child) for child in below]
    return found


def _signal(pids: list[int] | set[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _give_up(home: str | None) -> None:
    """Do what is left to do when the runner is gone, or says so."""
    end_all()
    if home is not None:
        os.execv("/bin/rm", ["rm", "-rf", "--", home])  # noqa: S606 - of any depth
    os._exit(1)


def _end_like(status: int) -> None:
    """End with the command's exit code, or say that it was a signal and end with its number."""
    if os.WIFSIGNALED(status):
        os.write(2, b"signalled\n")
        os._exit(os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))


if __name__ == "__main__":
    main()
