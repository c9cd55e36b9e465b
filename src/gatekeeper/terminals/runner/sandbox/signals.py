"""Signals that a process ignores are ignored by what it starts, which could not end it then."""

from __future__ import annotations

import signal
import threading
from contextlib import suppress
from typing import Final

_MATTER: Final = (
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1),
    *(signal.SIGUSR2, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGALRM),
)


def let_children_hear_signals() -> None:
    r"""Handle by doing nothing what is ignored: a new program then starts with the default.

    `nohup` and a shell's `&` start programs that ignore signals; without this, Ctrl-C and
    Ctrl-\ would do nothing in their terminals. Only the main thread can; elsewhere: nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in _MATTER:
        if signal.getsignal(number) is signal.SIG_IGN:
            with suppress(OSError):
                signal.signal(number, lambda *_: None)
