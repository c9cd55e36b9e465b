"""The system's keyring, asked with an end: a locked or hung one must not hang a command."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any, Final

import keyring

from gatekeeper.kernel.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

SERVICE: Final = "gatekeeper"
ANSWER_SECONDS: Final = 20.0
"""Long enough to type the password that unlocks it."""
RECOMMENDED: Final = 1
"""From this priority on a backend is one of the system's (the keyring library's own rule)."""


def save(account: str, text: str, *, patience: float = ANSWER_SECONDS) -> bool:
    """Keep a text; False when there is no keyring, or it does not take it."""

    def work() -> bool:
        backend = keyring.get_keyring()
        if backend.priority < RECOMMENDED:
            return False
        backend.set_password(SERVICE, account, text)
        return True

    try:
        return bool(_ask(work, patience))
    except UnavailableError:
        return False


def load(account: str, *, patience: float = ANSWER_SECONDS) -> str | None:
    """Return a text, or None. Raises `UnavailableError` when the keyring does not answer."""
    found = _ask(lambda: keyring.get_password(SERVICE, account), patience)
    return found if isinstance(found, str) else None


def forget(account: str, *, patience: float = ANSWER_SECONDS) -> None:
    """Remove a text. Raises `UnavailableError` when the keyring does not answer."""

    def work() -> None:
        if keyring.get_password(SERVICE, account) is not None:
            keyring.delete_password(SERVICE, account)

    _ask(work, patience)


def _ask(work: Callable[[], object], patience: float) -> object:
    """Run in a thread that does not keep the process from ending."""
    answers: queue.Queue[tuple[bool, Any]] = queue.Queue()

    def run() -> None:
        try:
            answers.put((True, work()))
        except Exception as error:  # noqa: BLE001  # a backend may raise anything
            answers.put((False, error))

    threading.Thread(target=run, daemon=True, name="keyring").start()
    try:
        worked, answer = answers.get(timeout=patience)
    except queue.Empty:
        msg = f"the system's keyring did not answer in {patience:.0f} s; is it locked?"
        raise UnavailableError(msg) from None
    if not worked:
        msg = f"the system's keyring refused ({type(answer).__name__}); is it locked?"
        raise UnavailableError(msg) from answer
    return answer
