"""One style for all figures: colours that colour-blind readers can distinguish, and print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from dnn_reco.files import write_atomically

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours of lines (Okabe & Ito, Color Universal Design, 2008), in the order of their use."""
MARKERS = "osD^vPX"
GREY = "0.55"
"""Of reference lines."""
TOO_FEW = "too few events"
"""Text in panels that have nothing to show."""
COUNTS = "viridis_r"
"""Colour map of histograms: the darker, the more events."""

_FONT_SIZE = 9.5
_EMS_A_CHARACTER = 0.6  # of DejaVu Sans, rather too wide
_LEGEND_EMS = 4.5  # of a line and the space around it
_STYLE: Any = {
    "font.size": _FONT_SIZE,
    "axes.titlesize": "medium",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "pdf.fonttype": 42,  # text stays text
}
_PANEL = (3.6, 3.0)  # inches
_DPI = 130


def color(number: int) -> str:
    """Colour of the line of a number, from 0."""
    return COLORS[number % len(COLORS)]


def marker(number: int) -> str:
    """Marker of the line of a number, from 0."""
    return MARKERS[number % len(MARKERS)]


def panels(
    rows: int, columns: int, panel_size: tuple[float, float] = _PANEL, share: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with rows × columns panels, row by row.

    Parameters
    ----------
    rows, columns
        How many there are.
    panel_size
        Width and height of each [inch].
    share
        Whether all have the same axes.
    """
    with rc_context(_STYLE):
        size = (columns * panel_size[0], rows * panel_size[1])
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share)
    return figure, list(axes.ravel())


def panel_grid(
    number: int, columns: int, panel_size: tuple[float, float] = _PANEL
) -> tuple[Figure, list[Axes]]:
    """A figure with a number of panels, in rows of at most so many columns."""
    columns = max(min(number, columns), 1)
    figure, axes = panels(max(math.ceil(number / columns), 1), columns, panel_size)
    for unused in axes[number:]:
        unused.set_axis_off()
    return figure, axes[:number]


def first_column(axes: Sequence[Axes]) -> list[Axes]:
    """The panels at the left of a figure."""
    places = [(panel, panel.get_subplotspec()) for panel in axes]
    return [panel for panel, place in places if place is not None and place.is_first_col()]


def log_axis(axis: Axis, few_decades: bool = False) -> None:
    """Make an axis logarithmic, with labels at 1, 2, 5, 10, … where it spans a few decades only."""
    panel = axis.axes
    (panel.set_xscale if axis is panel.xaxis else panel.set_yscale)("log")
    if few_decades:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_formatter(NullFormatter())


def say_too_few(panel: Axes) -> None:
    """Write into a panel that has nothing to show why it is empty."""
    panel.text(
        0.5, 0.5, TOO_FEW, transform=panel.transAxes, ha="center", va="center", color="0.3"
    )  # fmt: skip
    panel.grid(visible=False)


def legend_below(
    figure: Figure,
    panels: Axes | Sequence[Axes],
    columns: int = 4,
    order: Sequence[str] = (),
) -> None:
    """The legend of panels for the whole figure, below it, where it hides nothing.

    Names are read in rows: those of `order` first, as they stand there, then the others in the
    order in which they were drawn.

    Parameters
    ----------
    figure
        The figure.
    panels
        The panels whose lines it names, each name once.
    columns
        How many names stand side by side, at most: fewer where they are too wide for the figure.
    order
        Names of the curves in the order of their colours, where not every panel has all of them.
    """
    handles: dict[str, Any] = {}
    for panel in [panels] if isinstance(panels, Axes) else panels:
        for handle, name in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    if not handles:
        return
    names = [name for name in dict.fromkeys(order) if name in handles]
    names += [name for name in handles if name not in order]
    width = _text_width(max(handles, key=len), _FONT_SIZE) + _LEGEND_EMS * _FONT_SIZE / 72
    room = figure.get_figwidth()
    side_by_side = max(1, min(columns, int(room / width), len(names)))
    # a legend is filled column by column
    names = [name for first in range(side_by_side) for name in names[first::side_by_side]]
    figure.legend(
        [handles[name] for name in names],
        names,
        loc="outside lower center",
        ncols=side_by_side,
        fontsize=_FONT_SIZE * min(1.0, room / width),
        frameon=False,
    )


def title_above(figure: Figure, title: str) -> None:
    """The title of a figure, small enough to fit its width."""
    fitting = min(1.0, figure.get_figwidth() / _text_width(title, _FONT_SIZE))
    figure.suptitle(title, fontsize=_FONT_SIZE * fitting)


def _text_width(text: str, font_size: float) -> float:
    """About how wide a text is [inch]."""
    return max(len(text), 1) * _EMS_A_CHARACTER * font_size / 72


def figure_bytes(figure: Figure, suffix: str) -> bytes:
    """A figure as the content of a file of type "png", "pdf" or "svg"."""
    content = BytesIO()
    with rc_context(_STYLE):
        figure.savefig(content, format=suffix, dpi=_DPI, metadata=_without_date(suffix))
    return content.getvalue()


def fix_layout(figure: Figure) -> None:
    """Arrange a figure now, once for all files that are written of it."""
    with rc_context(_STYLE):
        figure.draw_without_rendering()
    figure.set_layout_engine("none")


def with_few_colors(png: bytes) -> bytes:
    """A PNG with at most 256 colours, a third as large: enough for lines and histograms."""
    from PIL import Image

    content = BytesIO()
    with Image.open(BytesIO(png)) as image:
        few = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(content, format="png", optimize=True)
    return content.getvalue()


def save_figure(figure: Figure, folder: Path, name: str, suffixes: Sequence[str]) -> None:
    """Write a figure as `folder/name.<suffix>` for each type of file."""
    for suffix in suffixes:
        write_atomically(folder / f"{name}.{suffix}", figure_bytes(figure, suffix))


def _without_date(suffix: str) -> dict[str, None]:
    """What keeps the date out of a file, so that the same figure gives the same file."""
    return {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[suffix]
