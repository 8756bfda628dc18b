"""A comparison of models written to a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from dnn_reco.evaluation.comparison import Comparison
from dnn_reco.evaluation.comparison_report import TrainingCost, as_plain, markdown_report
from dnn_reco.figure_style import save_figure
from dnn_reco.files import OTHER_FOLDER, write_atomically, writing


def write_tables(comparison: Comparison, costs: Mapping[str, TrainingCost], folder: Path) -> None:
    """Write ``comparison.json`` and ``comparison.md``.

    Parameters
    ----------
    comparison
        The comparison.
    costs
        What it took to train each model, by name.
    folder
        The folder to write to.

    Raises
    ------
    DataError
        If they cannot be written, such as on a full disk.
    """
    with writing("the comparison", folder, OTHER_FOLDER):
        numbers = json.dumps(as_plain(comparison, costs), indent=1)
        write_atomically(folder / "comparison.json", numbers.encode())
        write_atomically(folder / "comparison.md", markdown_report(comparison, costs).encode())


def write_report(comparison: Comparison, costs: Mapping[str, TrainingCost], folder: Path) -> None:
    """Write ``comparison.json``, ``comparison.md`` and the figures; see :func:`write_tables`.

    Figures of an earlier report in the folder that this one does not have are removed.
    """
    from dnn_reco.evaluation.comparison_plots import FIGURES, comparison_figures  # slow to import

    write_tables(comparison, costs, folder)
    with writing("the comparison", folder, OTHER_FOLDER):
        figures = comparison_figures(comparison)
        for name in set(FIGURES) - figures.keys():
            (folder / f"{name}.png").unlink(missing_ok=True)
        for name, figure in figures.items():
            save_figure(figure, folder, name, ["png"])
