"""Driver errors to ours: once, here. The cause is kept; its payload is dropped.

A driver's error can carry the failing statement and its context, so its text is
never shown: only its SQLSTATE, and words of our own.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg_pool import PoolTimeout

from gatekeeper.databases.errors import (
    TargetBusyError,
    TargetMisconfiguredError,
    TargetRefusedError,
    TargetUnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatekeeper.kernel.errors import GatekeeperError

REFUSED: Final = "GK001"
ENDED: Final = "GK002"
_BUSY: Final = frozenset({"40001", "40P01", "55P03", "XX000"})
_EXHAUSTED: Final = frozenset({"53100", "53200", "53300", "53400", "54000"})
_NOT_SET_UP: Final = frozenset({"42501", "3F000", "42883", "42P01", "42704", "28000", "28P01"})


@contextmanager
def translated() -> Iterator[None]:
    """Raise only errors of this plane."""
    try:
        yield
    except PoolTimeout as error:
        msg = "the target has no connection to give"
        raise TargetUnreachableError(msg) from error
    except psycopg.Error as error:
        raise _ours(error) from _without_payload(error)


def error_of(state: str) -> GatekeeperError:
    """Say an SQLSTATE in this plane's words; an empty one means that nothing was answered."""
    if state in _BUSY:
        return TargetBusyError(f"another transaction was in the way ({state})")
    if state in _EXHAUSTED:
        return TargetUnreachableError(f"the target is out of resources ({state})")
    if state in _NOT_SET_UP:
        return TargetMisconfiguredError(
            f"the target is not set up for this ({state}); gk target doctor names what is missing"
        )
    if not state or state.startswith(("08", "57")):
        return TargetUnreachableError(f"the target does not answer ({state or 'no connection'})")
    return TargetMisconfiguredError(f"the target answered with SQLSTATE {state}")


def _ours(error: psycopg.Error) -> GatekeeperError:
    if error.sqlstate in (REFUSED, ENDED):
        return TargetRefusedError(str(error.diag.message_primary))  # our helpers' own words
    return error_of(error.sqlstate or "")


def _without_payload(error: psycopg.Error) -> Exception:
    return type(error)(f"SQLSTATE {error.sqlstate}")
