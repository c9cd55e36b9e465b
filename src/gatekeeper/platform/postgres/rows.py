"""Statements whose answer is one row, or some, as dictionaries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, LiteralString

from psycopg.rows import dict_row

from gatekeeper.kernel.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg import AsyncConnection

Row = dict[str, Any]


async def one(
    connection: AsyncConnection, query: LiteralString, values: Mapping[str, object]
) -> Row | None:
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(query, values)
    return await cursor.fetchone()


async def every(
    connection: AsyncConnection, query: LiteralString, values: Mapping[str, object]
) -> Sequence[Row]:
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(query, values)
    return await cursor.fetchall()


async def only(
    connection: AsyncConnection, query: LiteralString, values: Mapping[str, object]
) -> Row:
    """Return the row that there must be."""
    row = await one(connection, query, values)
    if row is None:
        msg = "the store gave no answer where there is always one"
        raise IntegrityError(msg)
    return row
