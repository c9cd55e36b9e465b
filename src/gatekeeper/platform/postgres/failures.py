"""Why something failed, as it is kept in the columns `error_code`, `_message`, `_retryable`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatekeeper.kernel.errors import Failure

if TYPE_CHECKING:
    from gatekeeper.platform.postgres.rows import Row


def failure_values(failure: Failure | None) -> Row:
    if failure is None:
        return {"code": None, "message": None, "retryable": None}
    return {"code": failure.code, "message": failure.message, "retryable": failure.retryable}


def failure_of(row: Row) -> Failure | None:
    if row["error_code"] is None:
        return None
    return Failure(
        code=row["error_code"],
        message=row["error_message"],
        retryable=bool(row["error_retryable"]),
    )
