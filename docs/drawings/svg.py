"""Drawings as SVG text. They have a background of their own, and follow light and dark settings."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_STYLE = """
.background { fill: #ffffff }
.box { fill: #e8eef7; stroke: #3d5a80; stroke-width: 1.2 }
.strong { fill: #cfe0f5 }
.warm { fill: #fde8d0; stroke: #a5662a }
.empty { fill: none; stroke: #b5bcc8; stroke-width: 1 }
.line { fill: none; stroke: #3d5a80; stroke-width: 1.6 }
.tip { fill: #3d5a80 }
text { font-family: system-ui, "Helvetica Neue", Arial, sans-serif; font-size: 14px; fill: #1d2733 }
.small { font-size: 12px; fill: #4a5766 }
.title { font-weight: 600 }
@media (prefers-color-scheme: dark) {
  .background { fill: #16191e }
  .box { fill: #26323f; stroke: #8fb3dd }
  .strong { fill: #2f4660 }
  .warm { fill: #4a3521; stroke: #e0a868 }
  .empty { stroke: #4b5563 }
  .line { stroke: #8fb3dd }
  .tip { fill: #8fb3dd }
  text { fill: #e6eaf0 }
  .small { fill: #b3bdc9 }
}
"""


def drawing(width: float, height: float, title: str, parts: Iterable[str]) -> str:
    """A whole file; the title is its description for screen readers."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}"'
            f' width="{width:g}" height="{height:g}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            f'<rect class="background" width="{width:g}" height="{height:g}" rx="8"/>',
            *parts,
            "</svg>\n",
        ]
    )


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "middle") -> str:
    """A line of text; y is that of its middle."""
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
        f' dominant-baseline="central">{escape(words)}</text>'
    )


def box(x: float, y: float, width: float, height: float, kind: str = "") -> str:
    """A rectangle with round corners."""
    return (
        f'<rect class="box {kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}"'
        f' height="{height:.1f}" rx="4"/>'
    )


def labelled_box(
    x: float, y: float, width: float, height: float, lines: tuple[str, ...], kind: str = ""
) -> str:
    """A box with a title, and smaller lines below it."""
    first = y + height / 2 - 8 * (len(lines) - 1)
    words = [
        text(x + width / 2, first + 16 * number, line, "small" if number else "title")
        for number, line in enumerate(lines)
    ]
    return "\n".join([box(x, y, width, height, kind), *words])


def polygon(points: Iterable[tuple[float, float]], kind: str) -> str:
    """A closed polygon."""
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polygon class="{kind}" points="{corners}"/>'


def arrow(x0: float, y0: float, x1: float, y1: float) -> str:
    """A straight horizontal or vertical arrow."""
    length = abs(x1 - x0) + abs(y1 - y0)
    dx, dy = (x1 - x0) / length, (y1 - y0) / length
    back = (x1 - 7 * dx, y1 - 7 * dy)
    tip = [(x1, y1), (back[0] - 4 * dy, back[1] + 4 * dx), (back[0] + 4 * dy, back[1] - 4 * dx)]
    line = f'<path class="line" d="M{x0:.1f},{y0:.1f} L{back[0]:.1f},{back[1]:.1f}"/>'
    return line + polygon(tip, "tip")
