"""What event displays draw into panels: strings, hit DOMs, vertices, directions and cones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from numpy.typing import NDArray

from dnn_reco.detector.geometry import NUM_DOMS_PER_STRING, NUM_STRINGS, dom_positions
from dnn_reco.display.particle import Particle
from dnn_reco.display.scales import marker_area
from dnn_reco.display.shapes import (
    ARROW_LENGTH,
    Points,
    chord,
    cone_rim,
    drawn_box,
    is_drawn,
    outline,
    start,
)

TOP, SIDE = [0, 1], [0, 2]
"""Coordinates that the top and the side view show."""
STRING_COLOR = "0.75"
_CONE_ALPHA = {68: 0.2, 90: 0.12}


@dataclass(frozen=True)
class Style:
    """How a particle is drawn.

    Attributes
    ----------
    name
        Its name in legends.
    color
        Its colour.
    dashes
        Style of its line, "-" or "--".
    marker, marker_size
        Marker of its vertex, and its size in points.
    """

    name: str
    color: str
    dashes: str
    marker: str
    marker_size: float


STYLES = Style("true", "#000000", "-", "*", 14), Style("reconstructed", "#AA00AA", "--", "D", 8)
"""Of the true and the reconstructed particle."""


def plain_text(text: str) -> str:
    """Text as matplotlib can draw it.

    Dollar signs mark no mathematics, and bytes of file names that are not UTF-8 become escape
    sequences.
    """
    return text.encode(errors="backslashreplace").decode().replace("$", r"\$")


def draw_detector(top: Axes, side: Axes) -> None:
    """All strings in grey."""
    draw_strings_from_top(top)
    draw_strings_from_side(side)


def draw_strings_from_top(panel: Axes) -> None:
    """All strings as dots."""
    strings = _strings()
    panel.scatter(strings[:, 0, 0], strings[:, 0, 1], 8, color=STRING_COLOR, zorder=1)
    panel.set(title="Top view: strings", xlabel="x [m]", ylabel="y [m]", aspect="equal")
    _limit(panel, TOP)


def draw_strings_from_side(panel: Axes) -> None:
    """All strings as lines from their first to their last DOM."""
    lines = _strings()[:, [0, -1]][:, :, SIDE]
    panel.add_collection(LineCollection(list(lines), colors=STRING_COLOR, linewidths=0.6))
    panel.set(title="Side view: DOMs", xlabel="x [m]", ylabel="z [m]", aspect="equal")
    _limit(panel, SIDE)


def _strings() -> Points:
    return dom_positions().reshape(NUM_STRINGS, NUM_DOMS_PER_STRING, 3)


def _limit(panel: Axes, shown: list[int]) -> None:
    low, high = (corner[shown] for corner in drawn_box())
    panel.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))


def draw_markers(
    panel: Axes,
    place: NDArray[np.floating],
    charge: NDArray[np.floating],
    color: NDArray[np.floating],
) -> None:
    """Markers at places [k, 2] in colours [k, 4], the faint ones on top of the bright ones."""
    order = np.argsort(-charge, kind="stable")
    x, y = place[order].T
    panel.scatter(
        x,
        y,
        marker_area(charge[order]),
        c=color[order],
        edgecolors="black",
        linewidths=0.3,
        zorder=3,
    )


def draw_particle(
    panel: Axes,
    shown: list[int],
    particle: Particle,
    centre: Points,
    style: Style,
    in_legend: bool = True,
) -> None:
    """Vertex, direction and cones of a particle.

    Parameters
    ----------
    panel
        Where to draw.
    shown
        The two coordinates that it shows.
    particle
        The particle.
    centre
        Centre of the charge [3]: see :func:`dnn_reco.display.shapes.start`.
    style
        How to draw it.
    in_legend
        Whether the legend of the panel names it.
    """
    hidden = "" if in_legend else "_"  # names of matplotlib's that no legend shows
    if particle.has_direction:
        apex = start(particle, centre)
        for percent, angle in sorted(particle.cones.items(), reverse=True):
            points = np.vstack([apex, cone_rim(apex, particle.direction, angle)])
            corners = outline(points[:, shown])
            label = f"{hidden}{percent} % cone"
            panel.fill(
                *corners.T,
                color=style.color,
                alpha=_CONE_ALPHA[percent],
                linewidth=0,
                zorder=2,
                label=label,
            )
        _draw_direction(panel, shown, apex, particle.direction, style)
        panel.plot([], [], style.dashes, color=style.color, label=f"{hidden}{style.name} direction")
    if is_drawn(particle.vertex):
        place = particle.vertex[shown]
        label = f"{hidden}{style.name} vertex"
        panel.plot(
            *place,
            style.marker,
            color=style.color,
            markersize=style.marker_size,
            markeredgecolor="white",
            zorder=6,
            label=label,
        )


def _draw_direction(
    panel: Axes, shown: list[int], apex: Points, direction: Points, style: Style
) -> None:
    """A thin line through the whole detector, and an arrow along the motion."""
    line = chord(apex, direction)
    if line is not None:
        panel.plot(*line[:, shown].T, style.dashes, color=style.color, linewidth=0.7, zorder=4)
    tip = apex + ARROW_LENGTH * direction
    panel.plot(
        *np.array([apex, tip])[:, shown].T,
        style.dashes,
        color=style.color,
        linewidth=1.8,
        zorder=5,
    )
    panel.annotate(
        "",
        _pair(tip, shown),
        _pair(apex + 0.9 * ARROW_LENGTH * direction, shown),
        arrowprops={"arrowstyle": "-|>", "color": style.color, "linewidth": 1.8},
        annotation_clip=True,
        zorder=5,
    )


def _pair(point: Points, shown: list[int]) -> tuple[float, float]:
    first, second = point[shown]
    return float(first), float(second)
