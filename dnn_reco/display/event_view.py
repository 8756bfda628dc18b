"""Event display: the hit DOMs of an event in the detector, from the top and from the side."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from dnn_reco.data.hits import Hits
from dnn_reco.detector.geometry import NUM_DOMS_PER_STRING, NUM_STRINGS
from dnn_reco.display.drawing import (
    SIDE,
    STYLES,
    TOP,
    draw_detector,
    draw_markers,
    draw_particle,
    plain_text,
)
from dnn_reco.display.label_table import Row, label_rows
from dnn_reco.display.particle import (
    Columns,
    Particle,
    opening_angle,
    reconstructed_particle,
    true_particle,
)
from dnn_reco.display.scales import ShownHits, marker_area, shown_hits, time_range
from dnn_reco.inference.prediction_table import PredictionTable

TIME_COLORS = "RdYlBu"  # red is early, blue is late, as in IceCube's own event displays
_SIZE = (11.0, 5.3)  # inches
_ROW_HEIGHT = 0.17  # of the table [inch]
_COLUMN_WIDTHS = [0.39, 0.13, 0.4, 0.08]
_MAX_NAME = 25  # letters
_MAX_ROWS = 14  # in each of its two halves
_LEGEND_CHARGES = (1, 10, 100, 1000)


class NotebookFigure(Figure):
    """A figure that notebooks show as a picture, without pyplot."""

    def _repr_png_(self) -> bytes:
        png = BytesIO()
        self.savefig(png, format="png", dpi=100)
        return png.getvalue()


def plot_event(
    hits: Hits,
    event: int = 0,
    charge_feature: int = 0,
    time_feature: int | None = None,
    *,
    truth: Columns | None = None,
    reconstruction: PredictionTable | None = None,
    title: str = "",
) -> Figure:
    """Draw the hit strings of an event from the top, and its hit DOMs from the side.

    The area of a marker is proportional to the square root of the charge, its colour is the time of
    the first pulse; that of a string is the one of its DOM with the highest charge. Where they are
    given, the true and the reconstructed vertex and direction are drawn, with the cones that hold
    68 % and 90 % of the probability of the direction, and all labels are listed in a table. The
    direction starts at the vertex; if that is far outside of the detector, at the point of its
    line that is nearest to the centre of the charge; if it is unknown, at this centre.

    Parameters
    ----------
    hits
        Hits of n events.
    event
        Number of the event, 0 … n - 1.
    charge_feature
        Feature that holds the charge of a DOM [PE].
    time_feature
        Feature that holds the time of its first pulse [ns]; None: that of the data formats with 9
        and with 3 features.
    truth
        True labels [n] by name, such as `events.labels`.
    reconstruction
        Predictions of the n events.
    title
        Title of the figure.

    Raises
    ------
    DataError
        If the hits are invalid, there is no such event or feature, or truth or reconstruction are
        those of another number of events.

    Examples
    --------
    >>> from dnn_reco import plot_event, simulate_events
    >>> events = simulate_events(1, flavor="numu", energy=(1e5, 1e6))
    >>> plot_event(events.hits, truth=events.labels).savefig("event.png")
    """
    shown = shown_hits(hits, event, charge_feature, time_feature)
    particles = particles_of(hits.num_events, event, truth, reconstruction)
    return draw_event(shown, *particles, label_rows(*particles), title)


def particles_of(
    num_events: int,
    event: int,
    truth: Columns | None,
    reconstruction: PredictionTable | None,
) -> tuple[Particle | None, Particle | None]:
    """The true and the reconstructed particle of an event; None where they are not given.

    Raises
    ------
    DataError
        If truth or reconstruction are those of another number of events.
    """
    return (
        None if truth is None else true_particle(truth, event, num_events),
        None
        if reconstruction is None
        else reconstructed_particle(reconstruction, event, num_events),
    )


def draw_event(
    hits: ShownHits,
    truth: Particle | None,
    reconstruction: Particle | None,
    rows: Sequence[Row] = (),
    title: str = "",
) -> Figure:
    """The figure of :func:`plot_event`, with rows of the label table."""
    height = _table_height(rows)
    figure = NotebookFigure(figsize=(_SIZE[0], _SIZE[1] + height), layout="constrained")
    grid = GridSpec(2 if rows else 1, 2, figure, height_ratios=[_SIZE[1], height][: 1 + bool(rows)])
    top, side = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
    text = ": ".join(part for part in (title, hits.summary) if part)
    figure.suptitle(plain_text(text + _angle_text(truth, reconstruction)), fontsize="medium")
    colors = ScalarMappable(Normalize(*time_range(hits)), TIME_COLORS)
    draw_detector(top, side)
    position, charge = hits.position, hits.charge
    color = colors.to_rgba(hits.time)
    draw_markers(side, position[:, SIDE], charge, color)
    brightest, string_charge = brightest_of_strings(hits.dom, charge)
    draw_markers(top, position[brightest][:, TOP], string_charge, color[brightest])
    for particle, style in zip((truth, reconstruction), STYLES, strict=True):
        if particle is not None:
            draw_particle(top, TOP, particle, hits.centre, style)
            draw_particle(side, SIDE, particle, hits.centre, style, in_legend=False)
    figure.colorbar(
        colors, ax=side, extend="both", shrink=0.85, label="time of the first pulse [ns]"
    )
    if rows:
        _draw_table(figure, grid, rows)
    _add_legend(figure, side, string_charge)
    return figure


def _angle_text(truth: Particle | None, reconstruction: Particle | None) -> str:
    if truth is None or reconstruction is None:
        return ""
    angle = np.degrees(opening_angle(truth, reconstruction))
    return f", {angle:.3g}° between true and reconstructed direction" if angle >= 0 else ""


def brightest_of_strings(
    dom: NDArray[np.integer], charge: NDArray[np.floating]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The hit of the highest charge of each hit string [s], and the charge of the string [s]."""
    string = dom // NUM_DOMS_PER_STRING
    order = np.lexsort((charge, string))
    is_last = np.diff(string[order], append=-1) != 0
    total = np.bincount(string, charge, NUM_STRINGS)
    return order[is_last], total[string[order[is_last]]]


def _add_legend(figure: Figure, panel: Axes, charge: NDArray[np.floating]) -> None:
    """The particles, and sizes of some charges up to the largest one."""
    for value in _LEGEND_CHARGES:
        if value <= charge.max(initial=1.0):
            area = float(marker_area(np.array([value]))[0])
            panel.scatter([], [], area, color="0.5", label=f"{value:,} PE")
    figure.legend(loc="outside lower center", ncols=7, frameon=False, fontsize=9)


def _halves(rows: Sequence[Row]) -> list[Sequence[Row]]:
    """The rows that are shown, in two columns; the last one counts those that are left out."""
    if len(rows) > 2 * _MAX_ROWS:
        left_out = len(rows) - 2 * _MAX_ROWS + 1
        rows = [*rows[: 2 * _MAX_ROWS - 1], Row(f"… and {left_out} more labels", "", "", "")]
    half = -(-len(rows) // 2)
    return [rows[:half], rows[half:]]


def _table_height(rows: Sequence[Row]) -> float:
    """Its height in inches, with the line of the titles."""
    return (len(_halves(rows)[0]) + 1.5) * _ROW_HEIGHT if rows else 0.0


def _draw_table(figure: Figure, grid: GridSpec, rows: Sequence[Row]) -> None:
    halves = _halves(rows)
    for column, half in enumerate(halves):
        panel = figure.add_subplot(grid[1, column])
        panel.set_axis_off()
        if not half:
            continue
        height = (len(half) + 1) / (len(halves[0]) + 1)
        table = panel.table(
            cellText=[
                [_shortened(row.name), row.truth, row.reconstruction, row.unit] for row in half
            ],
            colLabels=["label", "true", "reconstructed", "unit"],
            colWidths=_COLUMN_WIDTHS,
            cellLoc="left",
            colLoc="left",
            edges="horizontal",
            bbox=Bbox.from_bounds(0, 1 - height, 1, height),
        )
        table.auto_set_font_size(False)
        for (row, _), cell in table.get_celld().items():
            cell.set_edgecolor("0.85")
            cell.PAD = 0.02
            text = cell.get_text()
            text.set_parse_math(False)
            text.set(fontsize=7.5, fontweight="bold" if row == 0 else "normal")


def _shortened(name: str) -> str:
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"
