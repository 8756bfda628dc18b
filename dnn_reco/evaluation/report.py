"""A comparison of models written to a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from dnn_reco.errors import DataError
from dnn_reco.evaluation.comparison import Comparison
from dnn_reco.evaluation.comparison_report import TrainingCost, as_plain, markdown_report
from dnn_reco.files import temporary_beside, write_atomically


def write_report(comparison: Comparison, costs: Mapping[str, TrainingCost], folder: Path) -> None:
    """Write ``comparison.json``, ``comparison.md`` and the figures.

    Figures of an earlier report in the folder that this one does not have are removed.

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
    from dnn_reco.evaluation.comparison_plots import FIGURES, comparison_figures  # slow to import

    try:
        numbers = json.dumps(as_plain(comparison, costs), indent=1)
        write_atomically(folder / "comparison.json", numbers.encode())
        write_atomically(folder / "comparison.md", markdown_report(comparison, costs).encode())
        figures = comparison_figures(comparison)
        for name in set(FIGURES) - figures.keys():
            (folder / f"{name}.png").unlink(missing_ok=True)
        for name, figure in figures.items():
            path = folder / f"{name}.png"
            with temporary_beside(path) as temporary:
                figure.savefig(temporary / path.name, dpi=150)
                (temporary / path.name).replace(path)
    except OSError as error:
        raise DataError(
            f"the comparison cannot be written to '{folder}' ({error}): choose another --out"
        ) from error
