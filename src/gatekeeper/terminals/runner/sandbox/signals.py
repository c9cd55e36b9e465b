"""Signals that a process ignores are ignored by what it starts, which could not end it then."""

from __future__ import annotations

import signal
import threading
from typing import Final

_OF_PYTHON: Final = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
"""Python ignores these itself, and `subprocess` gives its children the default again."""
_BY_DEFAULT_NOTHING: Final = frozenset(
    {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}
)


def let_children_hear_signals() -> None:
    r"""Handle by doing nothing what is ignored: a new program then starts with the default.

    `nohup`, a shell's `&` and some supervisors start programs that ignore or block signals;
    without this, Ctrl-C and Ctrl-\ would do nothing in their terminals. Only the main thread
    can; elsewhere: nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - _OF_PYTHON:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(
                number, signal.SIG_DFL if number in _BY_DEFAULT_NOTHING else lambda *_: None
            )
