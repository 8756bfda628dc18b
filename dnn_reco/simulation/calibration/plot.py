"""The figure of the documentation: points are the reference, lines our simulation."""

from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dnn_reco.simulation.calibration.tables import TableEntry

_SHOWER_CHARGE = "showers: charge per DOM and TeV, "


def plot(entries: list[TableEntry], path: Path) -> None:
    """Draw six panels to a PNG file.

    Parameters
    ----------
    entries
        Of `dnn_reco.simulation.calibration.tables.compare`.
    path
        Where to write.
    """
    figure = Figure(figsize=(13, 8), layout="constrained")
    panels = figure.subplots(2, 3).ravel()
    _draw(panels[0], entries, "charge of showers, all depths [PE/TeV]", _charge_by_angle, "log")
    _draw(panels[1], entries, "charge of showers, forward [PE/TeV]", _charge_by_depth, "log")
    _draw(panels[2], entries, "showers: median charge [PE/TeV]", _depth, "linear")
    _draw(panels[3], entries, "charge of tracks [PE]", _tracks, "log")
    for panel, kind in ((panels[4], "showers"), (panels[5], "tracks")):
        title = f"{kind}: delay quantiles, all charge [ns]"
        _draw(panel, entries, title, _times(kind), "log")
    for number, panel in enumerate(panels):
        panel.set_xlabel("depth z [m]" if number == 2 else "distance [m]")
        panel.legend(fontsize="x-small")
    figure.savefig(path, dpi=110)


def _draw(
    panel: Axes,
    entries: list[TableEntry],
    title: str,
    label: Callable[[TableEntry], str],
    scale: str,
) -> None:
    """One colour for each label; entries with an empty label are skipped."""
    panel.set_title(title, fontsize="medium")
    panel.set_yscale(scale)
    labels = [label(entry) for entry in entries]
    for number, name in enumerate(dict.fromkeys(name for name in labels if name)):
        chosen = [entry for entry, its in zip(entries, labels, strict=True) if its == name]
        rows = [entry.row for entry in chosen]
        panel.plot(rows, [entry.reference for entry in chosen], "o", color=f"C{number}", ms=4)
        panel.plot(rows, [entry.model for entry in chosen], color=f"C{number}", label=name)


def _charge_by_angle(entry: TableEntry) -> str:
    return f"cos θ in {entry.column}" if entry.table == _SHOWER_CHARGE + "all" else ""


def _charge_by_depth(entry: TableEntry) -> str:
    table = entry.table.removeprefix(_SHOWER_CHARGE)
    forward = table != entry.table and entry.column == "[1/3,1]" and table != "all"
    return table if forward else ""


def _depth(entry: TableEntry) -> str:
    return "1-10 TeV" if entry.table == "showers: charge per TeV" else ""


def _tracks(entry: TableEntry) -> str:
    return entry.column if entry.table == "tracks: charge per DOM" else ""


def _times(kind: str) -> Callable[[TableEntry], str]:
    def label(entry: TableEntry) -> str:
        in_table = entry.table == f"{kind}: residual time, charge weighted"
        return entry.column.removeprefix("all ") if in_table and "all" in entry.column else ""

    return label
