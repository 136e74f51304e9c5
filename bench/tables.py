"""Tables of results: numbers with their ratio to ByteChat's, for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Form = Callable[[Any], str]


def count(value: float) -> str:
    """1,234,567; three digits are enough of a large number."""
    if value >= 1000:
        digits = len(str(int(value))) - 3
        value = round(value, -digits)
    return f"{value:,.0f}"


def milliseconds(value: float) -> str:
    if value >= 1000:
        return f"{value / 1000:.3g} s"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.3g} ms"


def small(value: float) -> str:
    """Three digits of a number that may be under 1."""
    return f"{value:,.3g}" if value < 1000 else count(value)


def percent(value: float) -> str:
    return f"{value * 100:.0f} %"


def plain(value: object) -> str:
    return str(value)


@dataclass(frozen=True)
class Column:
    title: str
    #: Of the row's values.
    key: str
    form: Form = count
    #: Whether to say how many times ByteChat's it is.
    ratio: bool = False


@dataclass
class Row:
    name: str
    values: dict[str, Any] = field(default_factory=dict)
    note: str = ""


@dataclass
class Table:
    """One kind of measurement; the first row is what the others are compared with."""

    title: str
    text: str
    columns: list[Column]
    rows: list[Row] = field(default_factory=list)

    def cells(self) -> list[list[str]]:
        """The table as text, with its head; a last column for notes if there are any."""
        notes = any(row.note for row in self.rows)
        head = ["", *(column.title for column in self.columns), *(["note"] if notes else [])]
        return [head, *(self._cells(row, notes=notes) for row in self.rows)]

    def _cells(self, row: Row, *, notes: bool) -> list[str]:
        cells = [row.name]
        for column in self.columns:
            value = row.values.get(column.key)
            text = "-" if value is None else column.form(value)
            if column.ratio and value is not None and row is not self.rows[0]:
                text += self._ratio(column, value)
            cells.append(text)
        return [*cells, row.note] if notes else cells

    def _ratio(self, column: Column, value: float) -> str:
        first = self.rows[0].values.get(column.key)
        return f" (x{value / first:.2g})" if first else ""


def terminal(table: Table) -> str:
    """With aligned columns."""
    cells = table.cells()
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            text.ljust(width) if place in (0, len(table.columns) + 1) else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([table.title, "", *lines, ""])


def markdown(table: Table) -> str:
    """Under a heading, with what the table is about."""
    head, *rows = table.cells()
    rule = ["---", *("---:" for _ in table.columns), *["---"][: len(head) - 1 - len(table.columns)]]
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, rule, *rows)]
    return "\n".join([f"### {table.title}", "", table.text, "", *lines, ""])
