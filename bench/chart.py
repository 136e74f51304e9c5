"""The chart of docs/performance.md: bars, drawn as SVG, on light and on dark pages."""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

from .tables import Form

#: In units of the picture.
WIDTH, LABEL, BAR, GAP, HEAD, SPACE = 760, 190, 22, 8, 46, 24

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600; font-size: 15px }
  .bar { fill: #8c959f }
  .ours { fill: #1f6feb }
  .floor { fill: none; stroke: #8c959f; stroke-dasharray: 4 3 }
  @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .bar { fill: #6e7681 } }
"""


@dataclass
class Panel:
    """Bars under a title: (name, value), as they come."""

    title: str
    bars: list[tuple[str, float]]
    form: Form


def svg(panels: list[Panel]) -> str:
    """The panels one under the other."""
    parts, top = [], 0
    for panel in panels:
        parts += _panel(panel, top)
        top += HEAD + len(panel.bars) * (BAR + GAP) + SPACE
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img">\n'
        f"<title>{escape('; '.join(panel.title for panel in panels))}</title>\n"
        f"<style>{STYLE}</style>\n{body}\n</svg>\n"
    )


def _panel(panel: Panel, top: int) -> list[str]:
    longest = max((value for _, value in panel.bars), default=1) or 1
    room = WIDTH - LABEL - 110  # for the number at the end of the longest
    parts = [f'<text class="title" x="0" y="{top + 26}">{escape(panel.title)}</text>']
    for number, (name, value) in enumerate(panel.bars):
        y = top + HEAD + number * (BAR + GAP)
        length = max(1.0, value / longest * room)
        box = f'x="{LABEL}" y="{y}" width="{length:.0f}" height="{BAR}"'
        parts += [
            f'<text x="{LABEL - 10}" y="{y + 16}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{_kind(name)}" {box}/>',
            f'<text x="{LABEL + length + 8:.1f}" y="{y + 16}">{escape(panel.form(value))}</text>',
        ]
    return parts


def _kind(name: str) -> str:
    if name.startswith("ByteChat"):
        return "ours"
    return "floor" if name == "kernel floor" else "bar"
