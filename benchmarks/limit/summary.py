"""Tables and figure of the information limit.

They are made of the results of measure.py, limit_network.py and posterior.py:

    python benchmarks/limit/summary.py --out limit --figure docs/explanation/information_limit.png
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from bound import opening_angles
from events import KINDS
from limit_network import PREDICTIONS
from matplotlib.axes import Axes
from measure import PASSES, load
from numpy.typing import NDArray
from posterior import POSTERIOR, divergence, fitted_vmf, single_component

from dnn_reco.detector.directions import opening_angle
from dnn_reco.figure_style import color, figure_bytes, marker, panels, with_few_colors
from dnn_reco.files import write_atomically

REPLICAS = 300
"""Samples of the bootstrap."""

NAMES = ("network", "fit", "bound")
"""What is compared."""

_SEED = 3
_NUM_DRAWS = 400
_MIN_EVENTS = 8  # of a bin
_FAILED = 0.5  # ln L below the maximum near the truth
_MANY_HITS = 100

Values = NDArray[np.float64]
Errors = Mapping[str, Values]
"""Errors [n, d] of n events by `NAMES`, several draws d for the bound; NaN where there is none."""


@dataclass(frozen=True)
class Quantity:
    """What is reconstructed: its name and unit, and how wide a distribution of errors is."""

    name: str
    unit: str
    width: Callable[[Values], float]


@dataclass(frozen=True)
class Row:
    """A bin: its edges (log10), number of events, and values with bootstrap errors by name."""

    low: float
    high: float
    num: int
    values: dict[str, tuple[float, float]]


def half_width(errors: Values) -> float:
    """Half of the central 68 % of all events and draws."""
    low, high = np.quantile(errors, [0.16, 0.84])
    return float(high - low) / 2


DIRECTION = Quantity("opening angle", "°", lambda angles: float(np.median(angles)))
ENERGY = Quantity("error of log10(energy)", "", half_width)


def rows(errors: Errors, variable: Values, edges: Values, quantity: Quantity) -> list[Row]:
    """Widths in bins of a variable [n], and their efficiencies: bound / width."""
    found = []
    for low, high in pairwise(edges.tolist()):
        chosen = np.flatnonzero((variable >= low) & (variable < high))
        if len(chosen) < _MIN_EVENTS:
            continue
        values: dict[str, tuple[float, float]] = {}
        for name in errors:
            values |= _widths(errors, name, chosen, quantity)
        found.append(Row(low, high, len(chosen), dict(sorted(values.items()))))
    return found


def _widths(
    errors: Errors, name: str, chosen: NDArray[np.int64], quantity: Quantity
) -> dict[str, tuple[float, float]]:
    """Width of the errors of some events and its efficiency, where there are enough of them.

    The efficiency is of the bound for the same events.
    """
    known = chosen[np.isfinite(errors[name][chosen, 0])]
    if len(known) < _MIN_EVENTS:
        return {}
    rng = np.random.default_rng(_SEED)
    draws = [known, *(rng.choice(known, len(known)) for _ in range(REPLICAS))]
    table = {name: np.array([quantity.width(errors[name][draw]) for draw in draws])}
    if name != "bound":
        bounds = np.array([quantity.width(errors["bound"][draw]) for draw in draws])
        table[f"η of the {name}"] = bounds / table[name]
    return {key: (float(v[0]), float(v[1:].std())) for key, v in table.items()}


def errors_of(results: Mapping[str, Values]) -> list[tuple[Quantity, Errors]]:
    """Errors of direction and energy of the n events with a bound, from results by name."""
    true = results["direction"]
    num = len(true)
    draws = np.random.default_rng(_SEED).standard_normal(_NUM_DRAWS)
    angles = {"bound": np.degrees(opening_angles(results["bound_direction"]))}
    energies = {"bound": results["bound_log_energy"][:, None] * draws}
    for name in ("fit", "network"):
        angle, energy = np.full((2, num, 1), np.nan)
        known = min(num, len(results.get(f"{name}_direction", ())))
        if known:
            found = results[f"{name}_direction"][:known]
            angle[:known, 0] = np.degrees(opening_angle(found, true[:known]))
            found = results[f"{name}_log_energy"][:known]
            energy[:known, 0] = found - results["log_energy"][:known]
            angles[name], energies[name] = angle, energy
    return [(DIRECTION, angles), (ENERGY, energies)]


def results_of(folder: Path) -> dict[str, Values]:
    """All results [n, ...] in a folder by name."""
    found = {}
    for name in PASSES:
        found |= load(folder / f"{name}.npz")
    predictions = load(folder / PREDICTIONS)
    return found | {f"network_{name}": values for name, values in predictions.items()}


def table(head: str, lines: list[Row], unit: str) -> str:
    """A table in Markdown."""
    names = sorted({name for row in lines for name in row.values})
    text = [f"| {head} | events | {' | '.join(names)} |", "| --- " * (len(names) + 2) + "|"]
    for row in lines:
        values = [_cell(name, row.values.get(name), unit) for name in names]
        edges = f"{10**row.low:,.0f} – {10**row.high:,.0f}"
        text.append(f"| {edges} | {row.num} | {' | '.join(values)} |")
    return "\n".join(text)


def _cell(name: str, value: tuple[float, float] | None, unit: str) -> str:
    if value is None:
        return "–"
    if name.startswith("η"):
        return f"{value[0]:.2f} ± {value[1]:.2f}"
    return f"{value[0]:.3g} ± {value[1]:.2g}{unit}"


def failures(results: Mapping[str, Values]) -> str:
    """How often the fit misses the maximum that is found from the truth."""
    missed = results["fit_gain"] < results["near_gain"] - _FAILED
    many = results["num_hits"][: len(missed)] >= _MANY_HITS
    return (
        f"{missed.sum()} of {len(missed)} fits miss the maximum near the truth; of those with "
        f"{_MANY_HITS} photo-electrons or more, {(missed & many).sum()} of {many.sum()}"
    )


def posteriors(sampled: Mapping[str, Values], results: Mapping[str, Values]) -> str:
    """Sampled posteriors of single events and the prediction of the network, as Markdown."""
    text = [
        "| photo-electrons | 1/√κ of the sample | of the network | angle of the mean to the truth "
        "| of the network | KL of the best vMF | of the network |",
        "| --- " * 7 + "|",
    ]
    for i, number in enumerate(sampled["number"].astype(int)):
        directions, truth = sampled["directions"][i], sampled["truth"][i]
        own = fitted_vmf(directions)
        network = results["network_direction"][number], results["network_concentration"][number]
        columns = [f"{sampled['num_hits'][i]:.0f}"]
        columns += [
            f"{np.degrees(concentration**-0.5):.0f}°" for _, concentration in (own, network)
        ]
        columns += [f"{np.degrees(opening_angle(mean, truth)):.0f}°" for mean, _ in (own, network)]
        densities = single_component(*own), results["network_direction_components"][number]
        columns += [f"{divergence(directions, density):.2f}" for density in densities]
        text.append(f"| {' | '.join(columns)} |")
    return "\n".join(text)


def draw(panel: Axes, lines: list[Row], title: str, head: str, quantity: Quantity) -> None:
    """Network, fit and bound against the variable, in the middle of the bins."""
    for number, name in enumerate(NAMES):
        known = [row for row in lines if name in row.values]
        if known:
            middle = [10 ** ((row.low + row.high) / 2) for row in known]
            value, error = zip(*(row.values[name] for row in known), strict=True)
            style = {"color": color(number), "marker": marker(number), "label": name}
            panel.errorbar(middle, value, error, **style)
    panel.set(xscale="log", yscale="log", title=title, xlabel=head)
    panel.set_ylabel(f"{quantity.name} [{quantity.unit}]" if quantity.unit else quantity.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("limit"))
    parser.add_argument("--figure", type=Path, default=Path("information_limit.png"))
    options = parser.parse_args()
    results = {name: results_of(options.out / name) for name in KINDS}
    kinds = [kind for name, kind in KINDS.items() if "bound_direction" in results[name]]
    if not kinds:
        parser.error(f"there is no bound.npz in '{options.out}': run measure.py first")
    figure, axes = panels(len(kinds), 4)
    free = iter(axes)
    for kind in kinds:
        found = results[kind.name]
        low, high = kind.log_energy
        by_energy = np.linspace(low, high, round(2 * (high - low)) + 1)
        by_hits = np.log10([8, 50, 150, 500, 1500, 5000, 50_000])
        print(f"\n## {kind.name}")
        if "fit_gain" in found:
            print(f"\n{failures(found)}")
        for quantity, errors in errors_of(found):
            for head, variable, edges in (
                ("energy [GeV]", found["log_energy"], by_energy),
                ("photo-electrons", np.log10(found["num_hits"]), by_hits),
            ):
                lines = rows(errors, variable, edges, quantity)
                print(f"\n{quantity.name}\n\n{table(head, lines, quantity.unit)}")
                draw(next(free), lines, kind.name, head, quantity)
        sampled = load(options.out / kind.name / POSTERIOR)
        if sampled and "network_direction" in found:
            print(f"\n{posteriors(sampled, found)}")
    axes[0].legend()
    write_atomically(options.figure, with_few_colors(figure_bytes(figure, "png")))


if __name__ == "__main__":
    main()
