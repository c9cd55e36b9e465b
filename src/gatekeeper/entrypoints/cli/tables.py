"""Tables: aligned text, in colour only on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

COLOURS: Final = {
    "ready": "green", "allowed": "green", "ok": "green", "pending": "yellow",
    "warning": "yellow", "failed": "red", "denied": "red", "expired": "yellow",
    "revoked": "yellow",
}  # fmt: skip


def plain(text: str, *, lines: bool = False) -> str:
    """Take out what would speak to the terminal: others wrote this, or may have."""
    return "".join(c if c.isprintable() or (lines and c == "\n") else "?" for c in text)


def words(value: object) -> str:
    """Write a value on one line: a list by its words, an object by its names."""
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {inner}" for name, inner in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write rows under their heads, each column as wide as its widest cell."""
    rows = [[plain(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    typer.echo(typer.style(_line(heads, widths), bold=True))
    for row in rows:
        typer.echo(_line(row, widths, coloured=True))


def _line(cells: Sequence[str], widths: Sequence[int], *, coloured: bool = False) -> str:
    shown = []
    for cell, width in zip(cells, widths, strict=True):
        text = cell.ljust(width)
        colour = COLOURS.get(cell) if coloured else None
        shown.append(text if colour is None else typer.style(text, fg=colour))
    return "  ".join(shown).rstrip()
