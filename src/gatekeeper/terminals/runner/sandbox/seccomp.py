"""System calls that nothing in a terminal has business with: a filter in front of the kernel.

A deny-list in the style of container runtimes' defaults. Namespaces and missing capabilities
refuse most of these as well; the filter keeps the code behind them out of reach.
"""

from __future__ import annotations

import errno
import functools
import os
from typing import Any, BinaryIO, Final, Protocol

from gatekeeper.terminals.errors import SandboxUnavailableError

REFUSED: Final = (
    # Mounts and roots.
    *("mount", "umount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree"),
    *("fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "listmount", "statmount"),
    *("swapon", "swapoff", "quotactl", "quotactl_fd", "open_by_handle_at", "fanotify_init"),
    # Other processes' memory and files.
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp"),
    *("pidfd_getfd", "setns", "move_pages", "migrate_pages"),
    # Wide and deep parts of the kernel.
    *("bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter"),
    *("io_uring_register", "add_key", "request_key", "keyctl", "lookup_dcookie"),
    *("init_module", "finit_module", "delete_module", "create_module", "query_module"),
    *("get_kernel_syms", "kexec_load", "kexec_file_load", "nfsservctl", "vmsplice"),
    *("uselib", "ustat", "sysfs", "_sysctl", "afs_syscall", "remap_file_pages"),
    # The machine.
    *("reboot", "acct", "syslog", "settimeofday", "stime", "clock_settime", "clock_adjtime"),
    *("adjtimex", "sethostname", "setdomainname", "vhangup", "iopl", "ioperm", "vm86"),
    *("vm86old", "modify_ldt"),
)
_NEW_NAMESPACES: Final = (
    0x0000_0080,  # CLONE_NEWTIME
    0x0002_0000,  # CLONE_NEWNS
    0x0200_0000,  # CLONE_NEWCGROUP
    0x0400_0000,  # CLONE_NEWUTS
    0x0800_0000,  # CLONE_NEWIPC
    0x1000_0000,  # CLONE_NEWUSER
    0x2000_0000,  # CLONE_NEWPID
    0x4000_0000,  # CLONE_NEWNET
)
_SHARED_MEMORY: Final = (
    *("shmget", "shmat", "shmctl", "msgget", "msgsnd", "msgrcv", "msgctl"),
    *("semget", "semop", "semtimedop", "semctl", "mq_open", "mq_unlink"),
)
"""System V's and POSIX's, with queues: they are the machine's, and outlive who made them."""
_OF_OTHERS: Final = (
    *(("prlimit64", 0), ("sched_setaffinity", 0), ("sched_setscheduler", 0), ("sched_setparam", 0)),
    *(("sched_setattr", 0), ("setpriority", 1), ("ioprio_set", 1)),
)
"""Calls that change a process, and which argument names it: 0 is whoever calls."""
_EXIT_SIGNAL: Final = 0xFF
"""`clone` keeps a signal in its low byte, where CLONE_NEWTIME would be."""
_TIOCSTI: Final = 0x5412
"""Types into a terminal."""
_TIOCLINUX: Final = 0x541C
"""Pastes into a console."""
_TIOCSETD: Final = 0x5423
"""Puts a line discipline in, for which the kernel may load a module."""
_LOW_HALF: Final = 0xFFFF_FFFF
"""The kernel looks at 32 bits of a command; comparing 64 was CVE-2019-10063."""
_PERSONALITY_QUERY: Final = 0xFFFF_FFFF
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_FAMILIES: Final = frozenset((_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK))
_LAST_FAMILY: Final = 63
"""Far above every family there is (45); families above are refused together."""


class _Filters(Protocol):
    """What of pyseccomp's filter is used; the library has no types."""

    def add_rule(self, action: int, syscall: str, *arguments: object) -> None: ...

    def export_bpf(self, file: BinaryIO) -> None: ...


@functools.cache
def program(*, internet: bool, shared: bool = False) -> bytes:
    """Return the filter as a BPF program for this machine's architecture; others are killed.

    Without `internet`, sockets are local ones alone: for tiers without a network of their own.
    `shared`: other processes of this machine are met, and none is to be changed, or talked to.
    """
    sc = _library()
    filters = sc.SyscallFilter(sc.ALLOW)
    refuse = sc.ERRNO(errno.EPERM)
    for name in REFUSED:
        _add(filters, refuse, name)
    _add(filters, sc.ERRNO(errno.ENOSYS), "clone3")
    for flag in _NEW_NAMESPACES:
        _add(filters, refuse, "unshare", sc.Arg(0, sc.MASKED_EQ, flag, flag))
        if flag > _EXIT_SIGNAL:
            _add(filters, refuse, "clone", sc.Arg(0, sc.MASKED_EQ, flag, flag))
    for command in (_TIOCSTI, _TIOCLINUX, _TIOCSETD):
        _add(filters, refuse, "ioctl", sc.Arg(1, sc.MASKED_EQ, _LOW_HALF, command))
    _add(filters, refuse, "personality", sc.Arg(0, sc.NE, _PERSONALITY_QUERY))
    if shared:
        for name in _SHARED_MEMORY:
            _add(filters, refuse, name)
        for name, argument in _OF_OTHERS:
            _add(filters, refuse, name, sc.Arg(argument, sc.NE, 0))
    _refuse_families(filters, _FAMILIES if internet else frozenset((_AF_UNIX,)))
    return _export(filters)


def _library() -> Any:  # noqa: ANN401 - as above
    """Load libseccomp, which a machine may lack."""
    try:
        import pyseccomp  # noqa: PLC0415
    except (ImportError, RuntimeError, OSError):
        message = "There is no libseccomp on this machine"
        raise SandboxUnavailableError(message) from None
    return pyseccomp


def _refuse_families(filters: _Filters, kept: frozenset[int]) -> None:
    sc = _library()
    refuse = sc.ERRNO(errno.EAFNOSUPPORT)
    for family in range(_LAST_FAMILY + 1):
        if family not in kept:
            _add(filters, refuse, "socket", sc.Arg(0, sc.MASKED_EQ, _LOW_HALF, family))
    _add(filters, refuse, "socket", sc.Arg(0, sc.GT, _LAST_FAMILY))


def _add(filters: _Filters, action: int, name: str, *arguments: object) -> None:
    """Add a rule, where this architecture and this library have such a call."""
    sc = _library()
    try:
        number = sc.resolve_syscall(sc.Arch.NATIVE, name)
    except (OSError, ValueError):
        return
    if number >= 0:
        filters.add_rule(action, name, *arguments)


def _export(filters: _Filters) -> bytes:
    fd = os.memfd_create("seccomp")
    with os.fdopen(fd, "r+b") as file:
        filters.export_bpf(file)
        file.seek(0)
        return file.read()
