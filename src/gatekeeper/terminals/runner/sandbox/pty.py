"""Pseudo-terminals: one side for the runner, one for what it runs."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from typing import Final, NamedTuple

_IFLAG: Final = 0
_IUTF8: Final = 0o40000
"""Of <asm-generic/termbits.h>, which `termios` lacks: erase whole characters."""


class Pty(NamedTuple):
    """Neither is inherited unless handed over."""

    master: int
    slave: int


def open_pty(*, columns: int, rows: int, owner: int | None = None) -> Pty:
    """Open a pair of this size whose slave side belongs to `owner` alone."""
    master, slave = os.openpty()
    try:
        os.set_blocking(master, False)
        set_size(master, columns=columns, rows=rows)
        attributes = termios.tcgetattr(slave)
        attributes[_IFLAG] |= _IUTF8
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        if owner is not None and owner != os.geteuid():
            os.fchown(slave, owner, -1)
        os.fchmod(slave, 0o600)
    except BaseException:
        os.close(master)
        os.close(slave)
        raise
    return Pty(master, slave)


def set_size(fd: int, *, columns: int, rows: int) -> None:
    """Tell the size; what is in the foreground gets SIGWINCH when it changed."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
