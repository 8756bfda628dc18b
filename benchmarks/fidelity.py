"""How well simulated events can be told from traced ones, and by what.

A small network classifies events by about twenty observables; each event is judged by one that was
trained without it (:mod:`dnn_reco.evaluation.classifier_test`). The area under its ROC curve is 0.5
if the two do not differ, and 1 if every event is recognised::

    dnn-reco simulate configs/simulation/starting_and_entering.yaml --events 20000 --out simulated
    python benchmarks/accuracy/convert.py ../shared/data/ppc --out accuracy_data
    python benchmarks/fidelity.py 'simulated/*.hdf5' 'accuracy_data/validation/*.hdf5'

Any event files with the nine features of the format pulse_summmary_clipped will do. Listed are all
observables, with their median in both samples, the area with this one alone, and by how much the
area of all of them shrinks if its values are shuffled.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.hdf5 import InputTables, read_events
from dnn_reco.data.hits import Hits
from dnn_reco.detector.constants import SPEED_OF_LIGHT
from dnn_reco.detector.geometry import dom_positions, string_and_om
from dnn_reco.evaluation.classification import area_under_curve
from dnn_reco.evaluation.classifier_test import ClassifierTest, classifier_test
from dnn_reco.files import find_files

Numbers = NDArray[np.float64]

NUM_FEATURES = 9
CHARGE, CHARGE_500, CHARGE_100, FIRST, TIME_20, TIME_50, LAST, MEAN, WIDTH = range(NUM_FEATURES)

BRIGHT = 3.0
"""Charge in PE from which the times in a DOM are those of several photons."""

NEIGHBOUR, COINCIDENT = 150.0, 1000.0
"""A hit DOM is isolated if no other one within this distance [m] has its first pulse within this
time [ns]: mostly noise."""

EARLY, LATE = 2000.0, 4000.0
"""First times are early or late by so much [ns] before or after the middle of the light."""

NEAR = 200.0
"""Distance in m from the brightest DOM up to which times of light are compared."""

GROUP_INDEX = 1.356  # of ice at the wavelengths that DOMs see best
FIRST_DEEP_CORE_STRING = 79


def observables(hits: Hits) -> dict[str, Numbers]:
    """Observables [n] of n events by name; NaN where an event has none.

    Parameters
    ----------
    hits
        Hit DOMs with the features of pulse_summmary_clipped.
    """
    events = [
        _of_event(hits.features[start:stop].astype(np.float64), hits.dom[start:stop])
        for start, stop in zip(hits.offsets[:-1], hits.offsets[1:], strict=True)
    ]
    return {name: np.array([event[name] for event in events]) for name in events[0]}


def _of_event(features: Numbers, dom: NDArray[np.integer]) -> dict[str, float]:
    charge, first = features[:, CHARGE], features[:, FIRST]
    place, string = dom_positions()[dom], string_and_om(dom)[0]
    middle = _weighted_median(features[:, TIME_50], charge)
    centre = charge @ place / charge.sum()
    bright, brightest = charge >= BRIGHT, int(np.argmax(charge))
    isolated = _is_isolated(place, first)
    light = features[bright]
    distance = np.linalg.norm(place - place[brightest], axis=1)
    straight = distance * GROUP_INDEX / SPEED_OF_LIGHT
    near = (distance < NEAR) & (charge >= 1) & (distance > 0) & ~isolated
    spread = np.sqrt(charge @ (first - charge @ first / charge.sum()) ** 2 / charge.sum())
    return {
        "log10 charge [PE]": np.log10(charge.sum()),
        "log10 hit DOMs": np.log10(len(dom)),
        "log10 largest charge of a DOM [PE]": np.log10(charge.max()),
        "hit strings / hit DOMs": len(np.unique(string)) / len(dom),
        "share of DOMs in DeepCore": np.mean(string >= FIRST_DEEP_CORE_STRING),
        "median charge of a DOM [PE]": np.median(charge),
        "90 % quantile of charges [PE]": np.quantile(charge, 0.9),
        "share of DOMs below 0.5 PE": np.mean(charge < 0.5),
        "share of DOMs with one pulse": np.mean(features[:, WIDTH] == 0),
        "isolated DOMs": float(isolated.sum()),
        "share of early DOMs": np.mean(first < middle - EARLY),
        "share of late DOMs": np.mean(first > middle + LATE),
        "log10 spread of first times [ns]": np.log10(spread + 1),
        "median width of bright DOMs [ns]": _median(light[:, WIDTH]),
        "median length of bright DOMs [ns]": _median(light[:, LAST] - light[:, FIRST]),
        "median time to half of their charge [ns]": _median(light[:, TIME_50] - light[:, FIRST]),
        "share of their charge after 100 ns": _late_share(light, CHARGE_100),
        "share of their charge after 500 ns": _late_share(light, CHARGE_500),
        "median delay behind the brightest DOM [ns]": _median(
            (first - first[brightest] - straight)[near]
        ),
        "median charge of its neighbourhood [PE]": _median(charge[near]),
        "median distance from the centre [m]": _median(
            np.linalg.norm(place - centre, axis=1)[~isolated]
        ),
        "radius of the centre [m]": float(np.hypot(centre[0], centre[1])),
        "height of the centre [m]": centre[2],
    }


def _is_isolated(place: Numbers, first: Numbers) -> NDArray[np.bool_]:
    apart = np.linalg.norm(place[:, None] - place[None], axis=-1) > NEIGHBOUR
    other = apart | (np.abs(first[:, None] - first[None]) > COINCIDENT)
    np.fill_diagonal(other, True)
    isolated: NDArray[np.bool_] = other.all(axis=1)
    return isolated


def _median(values: Numbers) -> float:
    return float(np.median(values)) if len(values) else np.nan


def _weighted_median(values: Numbers, weights: Numbers) -> float:
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])


def _late_share(light: Numbers, early: int) -> float:
    """Share of the charge of some DOMs that comes later than what feature `early` counts."""
    return float(1 - light[:, early].sum() / light[:, CHARGE].sum()) if len(light) else np.nan


def sample(pattern: str, num_events: int) -> dict[str, Numbers]:
    """Observables of the first events of the files that match a pattern."""
    parts: list[dict[str, Numbers]] = []
    for path in find_files([pattern], pattern):
        found = read_events(Path(path), InputTables(), NUM_FEATURES, dtype=np.float64)
        parts.append(observables(found.hits))
        if sum(len(next(iter(part.values()))) for part in parts) >= num_events:
            break
    return {name: np.concatenate([part[name] for part in parts])[:num_events] for name in parts[0]}


def area_alone(first: Numbers, second: Numbers) -> float:
    """Area under the ROC curve of one observable, of whichever direction; NaN is left out."""
    values = np.concatenate([first, second])
    is_second = np.repeat([False, True], [len(first), len(second)])
    known = np.isfinite(values)
    area = area_under_curve(values[known], is_second[known], np.ones(int(known.sum()))).value
    return max(area, 1 - area)


def _print_report(
    test: ClassifierTest, first: dict[str, Numbers], second: dict[str, Numbers]
) -> None:
    print(f"{'observable':44s} {'simulated':>10s} {'traced':>10s} {'alone':>7s} {'shuffled':>9s}")
    for name, decrease in test.importance.items():
        medians = [np.nanmedian(values[name]) for values in (first, second)]
        alone = area_alone(first[name], second[name])
        print(f"{name:44s} {medians[0]:10.3f} {medians[1]:10.3f} {alone:7.3f} {-decrease:9.3f}")
    charge = np.concatenate([values["log10 charge [PE]"] for values in (first, second)])
    edges = np.quantile(charge, [0, 1 / 3, 2 / 3, 1])
    print()
    for number, name in enumerate(("third of the events with the least", "middle", "most")):
        which = (charge >= edges[number]) & (charge <= edges[number + 1])
        area = area_under_curve(test.score[which], test.is_second[which], test.weight[which])
        print(f"area, {name} charge: {area.value:.3f} ± {area.error:.3f}")
    print(f"area, all events: {test.area.value:.4f} ± {test.area.error:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("simulated", help="event files of the simulation, a pattern")
    parser.add_argument("traced", help="event files to compare with, a pattern")
    parser.add_argument("--events", type=int, default=2000, help="of each sample")
    parser.add_argument("--seed", type=int, default=1, help="of the classifier")
    options = parser.parse_args()
    first, second = (
        sample(pattern, options.events) for pattern in (options.simulated, options.traced)
    )
    columns = [np.stack(list(values.values()), axis=1) for values in (first, second)]
    weights = (np.ones(len(columns[0])), np.ones(len(columns[1])))
    test = classifier_test(tuple(first), columns[0], columns[1], weights, options.seed)
    if test is None:
        parser.error("too few events")
    print(f"{len(columns[0])} simulated and {len(columns[1])} traced events")
    _print_report(test, first, second)


if __name__ == "__main__":
    main()
