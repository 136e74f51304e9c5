"""Writes a run's figures into a page of docs/, between two marks, and a chart beside it."""

from __future__ import annotations

from pathlib import Path

from .chart import Panel, svg
from .tables import Column, Table, count, markdown, small

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "performance.md"
#: Has what is measured with several workers.
SCALING = DOCS / "scaling.md"
CHART = DOCS / "performance.svg"

#: Who has written what stands between the marks.
BY_BENCH = "make bench"


def begin(by: str = BY_BENCH) -> str:
    """The mark before what this has written; as ``end`` after it, on a line of its own."""
    return f"<!-- figures: written by {by} -->"


def end(by: str = BY_BENCH) -> str:
    return "<!-- end of figures -->" if by == BY_BENCH else f"<!-- end of {by} -->"


def place(page: Path, by: str, text: str) -> None:
    """Put this between its marks; the words around them stay."""
    before, _, rest = page.read_text().partition(begin(by))
    _, _, after = rest.partition(end(by))
    page.write_text(f"{before}{begin(by)}\n\n{text}\n{end(by)}{after}")


def placed(page: Path, by: str) -> str:
    """What stands between the marks."""
    _, _, rest = page.read_text().partition(f"{begin(by)}\n\n")
    return rest.partition(f"\n{end(by)}")[0]


def write(tables: list[Table], machine: dict[str, str], page: Path) -> None:
    """Replace the figures on the page; the words around them stay."""
    place(page, BY_BENCH, figures(tables, machine))
    if panels := charted(tables):
        CHART.write_text(svg(panels))


def figures(tables: list[Table], machine: dict[str, str]) -> str:
    """All that is written by a run, as Markdown."""
    about = ["| measured on | |", "| --- | --- |"]
    about += [f"| {name} | {value} |" for name, value in machine.items()]
    parts = ["\n".join(about), ""]
    if charted(tables):
        parts += [f"![Deliveries and their cost, as in the tables below]({CHART.name})", ""]
    return "\n".join([*parts, *(markdown(table) for table in tables)])


def charted(tables: list[Table]) -> list[Panel]:
    """The chart's two panels: how much, and at what cost."""
    panels = []
    for words, key, unit, form in (
        ("open throttle", "deliveries_per_s", "deliveries/s", count),
        ("20 messages/s", "cpu_us_each", "CPU us per delivery (less is better)", small),
    ):
        for table in tables:
            if table.title.startswith("One room") and table.title.endswith(words):
                bars = _bars(table, Column(unit, key))
                panels.append(Panel(f"{table.title}: {unit}", bars, form))
    return [panel for panel in panels if panel.bars]


def _bars(table: Table, column: Column) -> list[tuple[str, float]]:
    return [
        (row.name, row.values[column.key])
        for row in table.rows
        if row.values.get(column.key) is not None
    ]
