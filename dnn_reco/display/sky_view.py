"""Picture of the density of a direction: the whole sky, and the part with the probability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from dnn_reco.detector.directions import SQUARE_DEGREE, Plane, Vectors, vector_of
from dnn_reco.display.drawing import plain_text
from dnn_reco.figure_style import color, legend_below, panels
from dnn_reco.inference.sky import SkyDensity, Values
from dnn_reco.inference.sky_frame import Frame, area_text

_PANEL = (5.2, 4.6)  # inches
_GRID = 241  # points across the picture
_MARGIN = 1.25  # around what is shown, in units of its largest distance from the centre
_FARTHEST = 3.0  # a true direction is shown as far away, in units of the largest contour
_LONGITUDES, _LATITUDES = (-120, -60, 0, 60, 120), (-60, -30, 0, 30, 60)  # of lines, in degrees
_DENSITY = "Greys"  # colour map on which the lines are seen
_FILLED: dict[str, dict[str, Any]] = {
    marker: {"markerfacecolor": fill, "markeredgecolor": "black", "zorder": 5}
    for marker, fill in (("o", "white"), ("*", color(4)))
}
_STYLES = ("-", "--", ":", "-.")


def plot_sky(
    density: SkyDensity,
    levels: Sequence[float],
    frame: Frame,
    title: str,
    truth: Vectors | None = None,
) -> Figure:
    """Draw a density with the contours of regions of highest density.

    Parameters
    ----------
    density
        The density.
    levels
        Probabilities inside of the contours, such as 0.5 and 0.9.
    frame
        The coordinates.
    title
        Title of the figure.
    truth
        True direction, a vector [3]; None: it is not known.
    """
    figure, (whole, part) = panels(1, 2, _PANEL)
    whole.remove()
    whole = figure.add_subplot(1, 2, 1, projection="mollweide")
    figure.suptitle(plain_text(title), fontsize="medium")
    lines = {level: density.contour_dir(level) for level in sorted(levels)}
    points = {f"predicted: {frame.shown(density.best)}": (density.best, "o")}
    if truth is not None:
        points[f"true: {frame.shown(truth)}"] = (truth, "*")
    _draw_whole(whole, frame, lines, points)
    _draw_part(figure, part, density, frame, lines, points)
    areas = density.contour_area(list(lines))
    for number, (level, area) in enumerate(zip(lines, areas, strict=True)):
        style = _STYLES[number % len(_STYLES)]
        part.plot([], [], style, color=color(number), label=f"{100 * level:g} %: {area_text(area)}")
    legend_below(figure, part, columns=2)
    return figure


def _draw_whole(
    panel: Axes,
    frame: Frame,
    lines: dict[float, list[Vectors]],
    points: dict[str, tuple[Vectors, str]],
) -> None:
    """Contours and directions on the whole sky."""
    for number, contours in enumerate(lines.values()):
        for line in contours:
            x, y = _on_map(frame, line)
            jumps = np.abs(np.diff(x, append=x[-1:])) > np.pi
            style = _STYLES[number % len(_STYLES)]
            panel.plot(np.where(jumps, np.nan, x), y, style, color=color(number))
    for vector, marker in points.values():
        panel.plot(*_on_map(frame, vector), marker, markersize=7, **_FILLED[marker])
    is_local = frame.mjd is None
    names = [f"{180 + each if is_local else 180 - each}°" for each in _LONGITUDES]
    panel.set_xticks(np.radians(_LONGITUDES), names)
    names = [f"{90 - each if is_local else each}°" for each in _LATITUDES]
    panel.set_yticks(np.radians(_LATITUDES), names)
    panel.tick_params(labelsize="small")
    panel.grid(visible=True, alpha=0.4, linewidth=0.5)
    panel.set(xlabel=f"{frame.names[0]} [°]", ylabel=f"{frame.names[1]} [°]", title="Whole sky")


def _draw_part(
    figure: Figure,
    panel: Axes,
    density: SkyDensity,
    frame: Frame,
    lines: dict[float, list[Vectors]],
    points: dict[str, tuple[Vectors, str]],
) -> None:
    """Density, contours and directions as angles from the predicted direction, in degrees."""
    plane = Plane.at(_frame_vectors(frame, density.best))
    contours = [_on_plane(plane, frame, line) for each in lines.values() for line in each]
    radius = max((float(np.hypot(x, y).max()) for x, y in contours), default=180.0)
    places = {name: _on_plane(plane, frame, vector) for name, (vector, _) in points.items()}
    farthest = max(float(np.hypot(*place)) for place in places.values())
    if farthest < _FARTHEST * radius:
        radius = max(radius, farthest)
    radius = min(_MARGIN * radius, 180.0)
    side = np.linspace(-radius, radius, _GRID)
    x, y = np.meshgrid(side, side)
    values = np.exp(density.log_prob_dir(_from_plane(plane, frame, x, y))) * SQUARE_DEGREE
    mesh = panel.pcolormesh(
        x, y, np.where(np.hypot(x, y) > 180, np.nan, values), cmap=_DENSITY, rasterized=True, vmin=0
    )
    figure.colorbar(mesh, ax=panel, label="probability per square degree", shrink=0.85)
    for number, each in enumerate(lines.values()):
        for line in each:
            style = _STYLES[number % len(_STYLES)]
            panel.plot(*_on_plane(plane, frame, line), style, color=color(number))
    for name, (_, marker) in points.items():
        inside = float(np.hypot(*places[name])) <= radius
        label = name if inside else f"{name} (outside of the right picture)"
        panel.plot(
            *places[name], marker, markersize=10, linestyle="none", label=label, **_FILLED[marker]
        )
    panel.set(xlim=(-radius, radius), ylim=(-radius, radius), aspect="equal")
    panel.set(title="Around the predicted direction")
    if frame.mjd is None:
        panel.set(xlabel="along the azimuth [°]", ylabel="towards the zenith [°]")
    else:
        panel.set(xlabel="east [°]", ylabel="north [°]")
        panel.invert_xaxis()


def _frame_vectors(frame: Frame, vector: ArrayLike) -> Vectors:
    """The vectors [..., 3] whose angles are the coordinates in the frame."""
    longitude, latitude = frame.coordinates(vector)
    return vector_of(np.pi / 2 - latitude, longitude)


def _on_plane(plane: Plane, frame: Frame, vector: ArrayLike) -> tuple[Values, Values]:
    """Points [...] in degrees: along the longitude, and along the latitude."""
    x, y = plane.points(_frame_vectors(frame, vector))
    return np.degrees(x), -np.degrees(y)


def _from_plane(plane: Plane, frame: Frame, x: Values, y: Values) -> Vectors:
    """Direction vectors [..., 3] of points [...] in degrees."""
    longitude, latitude = Frame().coordinates(plane.vectors(np.radians(x), -np.radians(y)))
    return frame.vectors(longitude, latitude)


def _on_map(frame: Frame, vector: ArrayLike) -> tuple[Values, Values]:
    """Points [...] of the map of the whole sky, in radian."""
    longitude, latitude = frame.coordinates(vector)
    x = np.remainder(longitude, 2 * np.pi) - np.pi
    return (x if frame.mjd is None else -x), latitude
