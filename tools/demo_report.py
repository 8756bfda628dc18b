"""What the network of the demo has learnt, beside the model of the package and a line fit.

    python tools/demo_report.py [--model FOLDER] [--picture FILE]

reads the held-out events and the trained network in the folder of the demo, and prints the table
and draws the picture at its end.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from demo_picture import write_picture
from line_fit import TABLE
from numpy.typing import NDArray

from dnn_reco import EventTable, load_model, open_events, predict
from dnn_reco.data.hdf5 import read_table
from dnn_reco.detector.directions import opening_angle, vector_of
from dnn_reco.errors import DnnRecoError
from dnn_reco.evaluation.coverage import coverage, credible_level
from dnn_reco.evaluation.event_types import CASCADE, THROUGH_GOING_TRACK, event_types
from dnn_reco.evaluation.metrics import angle_metrics, energy_residual, root_mean_square
from dnn_reco.files import find_files
from dnn_reco.inference.cone import vector_concentration
from dnn_reco.inference.prediction_table import PredictionTable
from dnn_reco.inference.trained_model import TrainedModel

Numbers = NDArray[np.floating]

ENERGY = "EnergyVisible"
DIRECTION = tuple(f"PrimaryDirection{axis}" for axis in "XYZ")
PRETRAINED = "pretrained:dom_transformer_S"
NOTE = """\
Chance is 90°. Cascades have no line; the arrival times and charges around them depend on their
direction only weakly. "pretrained" is a model of the package, trained for hours on other events.
The events are simulated with a simple model of the ice. Networks for real events are trained with
millions of events, for hours or days, on a GPU."""
NAMES = {THROUGH_GOING_TRACK: "tracks", CASCADE: "cascades"}


@dataclass(frozen=True)
class Results:
    """The held-out events of one type, and what is reconstructed of them.

    Attributes
    ----------
    events, predictions
        The n events, and what the network predicts.
    true_energy, energy, pretrained_energy
        Visible energy [n] in GeV: true, of the network, and of the model of the package.
    angle, pretrained_angle, line_fit_angle
        Angle [n] in degrees between the true direction and that of the network, of the model of
        the package, and of the line fit.
    line_fit
        Direction [n, 3] of the line fit.
    level
        Credible level [n] of the true direction.
    """

    events: EventTable
    predictions: PredictionTable
    true_energy: Numbers
    energy: Numbers
    pretrained_energy: Numbers
    angle: Numbers
    pretrained_angle: Numbers
    line_fit_angle: Numbers
    level: Numbers
    line_fit: Numbers


def results_by_type(
    model: TrainedModel, pretrained: TrainedModel, files: Sequence[Path]
) -> dict[str, Results]:
    """Results for tracks and cascades."""
    events = open_events(files)
    predictions = [predict(each, events.hits) for each in (model, pretrained)]
    rows = np.concatenate([read_table(path, TABLE) for path in files])
    fitted = vector_of(rows["zenith"], rows["azimuth"])
    types = event_types({name: events.labels[name] for name in events.labels}, len(events))
    return {
        name: _results(events, predictions, fitted, types[event_type])
        for event_type, name in NAMES.items()
    }


def _results(
    events: EventTable,
    predictions: Sequence[PredictionTable],
    fitted: Numbers,
    of_type: NDArray[np.bool_],
) -> Results:
    events = events[of_type]
    of_network, of_pretrained = (each.rows(np.flatnonzero(of_type)) for each in predictions)
    true = np.stack([events.labels[name] for name in DIRECTION], axis=1)
    direction = of_network.select(DIRECTION)
    angle, pretrained_angle, line_fit_angle = (
        np.degrees(opening_angle(vector, true))
        for vector in (direction.labels, of_pretrained.select(DIRECTION).labels, fitted[of_type])
    )
    return Results(
        events,
        of_network,
        events.labels[ENERGY],
        of_network[ENERGY],
        of_pretrained[ENERGY],
        angle,
        pretrained_angle,
        line_fit_angle,
        credible_level(angle, vector_concentration(direction.uncertainty)),
        fitted[of_type],
    )


def table(results: dict[str, Results]) -> str:
    """The figures of merit as text."""
    lines = [
        f"{'held-out':>18}{'opening angle, median':>36}{'energy: RMS of log10':>25}"
        f"{'68 % cones':>12}",
        f"{'events':>18}{'network':>14}{'pretrained':>14}{'line fit':>14}{'network':>10}"
        f"{'pretrained':>12}{'contain':>11}",
    ]
    for name, found in results.items():
        angles = found.angle, found.pretrained_angle, found.line_fit_angle
        spreads = (
            root_mean_square(energy_residual(energy, found.true_energy)).value
            for energy in (found.energy, found.pretrained_energy)
        )
        share = coverage(found.level, [68])[68].value
        lines.append(
            f"  {name:<9}{len(found.angle):>7,}{''.join(f'{_median(a):>14}' for a in angles)}"
            f"{''.join(f'{rms:>11.2f}' for rms in spreads)}{share:>11.0%}"
        )
    return "\n".join(lines)


def _median(angle: Numbers) -> str:
    """The median of opening angles with its error."""
    value, error = angle_metrics(angle[np.isfinite(angle)])["50"]
    return f"{value:.1f} ± {error:.1f}°"


def verdict(results: dict[str, Results]) -> str:
    """For which events the network finds directions better than the line fit does."""
    better = [
        name
        for name, found in results.items()
        if np.median(found.angle) < np.nanmedian(found.line_fit_angle)
    ]
    worse = [name for name in results if name not in better]
    sentences = []
    if better:
        sentences.append(f"The network is better than the line fit on {' and '.join(better)}.")
    if worse:
        sentences.append(
            f"The line fit is still better on {' and '.join(worse)}: a longer training of the "
            "network changes that."
        )
    return " ".join(sentences)


def main() -> None:
    """Print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("models/dom_transformer"))
    parser.add_argument("--picture", type=Path, default=Path("report.png"))
    options = parser.parse_args()
    model = load_model(options.model, device="cpu")
    files = find_files(model.config.data_files.test_data_file, "test_data_file")
    results = results_by_type(model, load_model(PRETRAINED, device="cpu"), files)
    print(f"How well does it work? On events that the network has never seen:\n\n{table(results)}")
    print(f"\n{verdict(results)}\n{NOTE}")
    write_picture(results, options.picture)
    print(f"\nPicture: {options.picture}")


if __name__ == "__main__":
    try:
        main()
    except DnnRecoError as error:
        sys.exit(f"Error: {error}")
