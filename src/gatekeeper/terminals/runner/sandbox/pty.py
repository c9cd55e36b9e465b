"""Pseudo-terminals: one side for the runner, one for what it runs."""

from __future__ import annotations

import os
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
        termios.tcsetwinsize(master, (rows, columns))
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
