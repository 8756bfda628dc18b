"""Coverage of calibrated uncertainties in each cell of energy and event type.

    python benchmarks/calibration.py models/dom_transformer_S --data 'accuracy_data/test/*.hdf5'

Fits the calibration of a model folder to the events, each of which is judged by corrections that
were fitted without it (five-fold cross-fitting), and prints coverage and pull widths before and
after in each cell of reconstructed energy and event type with at least 300 events: of true types
(--coverage-by class), or of reconstructed ones (--coverage-by reconstruction). The model folder is
not changed. The model needs the class labels p_entering, p_starting and p_is_track.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dnn_reco.evaluation.calibration import LEVEL, CalibrationEvents, cross_fitted, fit_calibration
from dnn_reco.evaluation.coverage import CoverageCell, coverage_cell, coverage_test, pull_width_test
from dnn_reco.evaluation.credible_levels import direction_level, label_deviations
from dnn_reco.evaluation.event_groups import energy_and_type_cells
from dnn_reco.evaluation.held_out_events import (
    calibration_events,
    open_held_out_events,
    reconstruction_of,
)
from dnn_reco.evaluation.reconstruction import Evaluation, Reconstruction, TrueEvents
from dnn_reco.files import find_files
from dnn_reco.inference.model_folder import load_model_folder
from dnn_reco.inference.prediction_table import PredictionTable
from dnn_reco.inference.trained_model import TrainedModel

LEAST_EVENTS = 300
TYPES = ("p_entering", "p_starting", "p_is_track")
ENERGY = "EnergyVisible"


def reconstruction(model: TrainedModel, events: CalibrationEvents) -> Reconstruction:
    """What a model reconstructs of the events."""
    log = model.spec.transformation.settings.log_label_bins
    table = PredictionTable(model.label_names, log, events.labels, events.uncertainty)
    return reconstruction_of(model, table)


def cells_of(
    evaluation: Evaluation, grouped: Evaluation
) -> dict[str, tuple[CoverageCell, CoverageCell]]:
    """Cells of direction and energy, where the types are those of `grouped`."""
    model = evaluation.reconstructions[0]
    level = direction_level(model, evaluation.events)
    deviation = label_deviations(model, evaluation.events)[ENERGY]
    assert level is not None
    masks = energy_and_type_cells(grouped, model)
    return {
        name: (
            coverage_cell(level[mask], percents=(68,)),
            coverage_cell(deviation.level()[mask], deviation.pull[mask], percents=(68,)),
        )
        for name, mask in masks.items()
        if mask.sum() >= LEAST_EVENTS
    }


def is_right(value: float, error: float, expected: float) -> str:
    """Mark of a value that is within two per cent or two standard errors."""
    return "  " if abs(value - expected) <= max(0.02, 2 * error) else " !"


def show(title: str, cells: dict[str, tuple[CoverageCell, CoverageCell]]) -> None:
    """Print the cells and their χ²."""
    print(f"\n{title}\n{'cell':<42}{'events':>7}{'direction':>17}{'energy':>17}{'pull width':>17}")
    for name, (direction, energy) in cells.items():
        error = math.sqrt(LEVEL * (1 - LEVEL) / direction.number)
        line = f"{name:<42}{direction.number:>7.0f}"
        for cell in (direction, energy):
            share = float(cell.shares[68].value)
            line += f"{share:>9.3f} ± {error:.3f}{is_right(share, error, 0.68)}"
        assert energy.pull_width is not None
        width, of_width = map(float, energy.pull_width)
        print(line + f"{width:>9.3f} ± {of_width:.3f}{is_right(width, of_width, 1)}")
    directions, energies = zip(*cells.values(), strict=True)
    tests = {
        "direction": coverage_test(directions, 68),
        "energy": coverage_test(energies, 68),
        "pull width": pull_width_test(energies),
    }
    for what, test in tests.items():
        chi = f"χ² = {test.chi_square:.1f} of {test.num_cells} cells"
        print(f"  {what}: {chi}, p = {test.p_value:.2g}")


def with_predicted_types(events: TrueEvents, model: Reconstruction) -> TrueEvents:
    """The events with the types that a model gives them."""
    predicted = {name: (model.table[name] > 0.5).astype(np.float64) for name in TYPES}
    return replace(events, labels={**events.labels, **predicted})


def main() -> None:
    """Predict, calibrate, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--cache-dir", default="event_store")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = load_model_folder(arguments.model, torch.device("cpu"))
    files = find_files(arguments.data, "--data")
    data = open_held_out_events(model.config, files, arguments.cache_dir, arguments.threads)
    events = calibration_events(model, data)
    labels = {name: events.true[:, i] for i, name in enumerate(model.label_names)}
    truth = TrueEvents(np.zeros(len(events), "V16"), labels, {}, events.num_hits)
    print(f"{len(events):,} events")
    for by in ("class", "reconstruction"):
        true_classes = by == "class"
        calibration = fit_calibration(events, true_classes)
        corrected = cross_fitted(events, calibration, true_classes)
        for when, each in (("before", events), ("after", corrected)):
            found = reconstruction(model, each)
            of_types = truth if true_classes else with_predicted_types(truth, found)
            cells = cells_of(Evaluation(truth, (found,)), Evaluation(of_types, (found,)))
            kind = "true" if true_classes else "reconstructed"
            show(f"--coverage-by {by}: {when}, {kind} event types", cells)


if __name__ == "__main__":
    main()
