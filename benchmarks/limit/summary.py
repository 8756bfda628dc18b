"""Tables and figure of the information limit, from the results of measure.py, network.py, posterior.py.

python benchmarks/limit/summary.py --out limit --figure docs/explanation/information_limit.png
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from bound import opening_angles
from events import KINDS
from measure import MEASURED, load
from network import PREDICTIONS
from numpy.typing import NDArray

from dnn_reco.detector.directions import opening_angle
from dnn_reco.figure_style import color, marker, panels

REPLICAS = 300
"""Samples of the bootstrap."""

_SEED = 3
_MIN_EVENTS = 8  # of a bin
_FAILED = 0.5  # ln L below the maximum near the truth

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Errors:
    """Errors of n events.

    Attributes
    ----------
    variable
        Values [n] that the events are divided by: log10 of energy, or number of photo-electrons.
    network, fit, bound
        Angles [n, d] in degrees, or errors of log10 of the energy; several draws for the bound.
    """

    variable: Values
    network: Values
    fit: Values
    bound: Values


@dataclass(frozen=True)
class Row:
    """A bin: its edges, number of events, and values with bootstrap errors by name."""

    low: float
    high: float
    num: int
    values: dict[str, tuple[float, float]]


def median(values: Values) -> float:
    """Median of all events and draws."""
    return float(np.median(values))


def half_width(values: Values) -> float:
    """Half of the central 68 % of all events and draws."""
    low, high = np.quantile(values, [0.16, 0.84])
    return float(high - low) / 2


def rows(errors: Errors, edges: Values, width: Callable[[Values], float]) -> list[Row]:
    """Widths of network, fit and bound in bins, and the efficiency bound / network."""
    found = []
    for low, high in pairwise(edges):
        chosen = np.flatnonzero((errors.variable >= low) & (errors.variable < high))
        if len(chosen) < _MIN_EVENTS:
            continue
        rng = np.random.default_rng(_SEED)
        draws = [chosen, *(rng.choice(chosen, len(chosen)) for _ in range(REPLICAS))]
        names = ("network", "fit", "bound")
        table = np.array([[width(getattr(errors, n)[d]) for n in names] for d in draws])
        table = np.column_stack([table, table[:, 2] / table[:, 0], table[:, 2] / table[:, 1]])
        columns = (*names, "η network", "η fit")
        values = {
            name: (float(table[0, i]), float(table[1:, i].std())) for i, name in enumerate(columns)
        }
        found.append(Row(float(low), float(high), len(chosen), values))
    return found


def errors_of(folder: Path) -> dict[str, Errors]:
    """Errors of direction and energy, by energy and by photo-electrons; events with a network."""
    found, predictions = load(folder / MEASURED), load(folder / PREDICTIONS)
    if not found:
        raise SystemExit(f"there is no '{folder / MEASURED}': run measure.py first")
    num = len(found["num_hits"])
    if not predictions:
        print(f"there is no '{folder / PREDICTIONS}': the fit stands in for the network")
        predictions = {"direction": found["fit_direction"], "log_energy": found["fit_log_energy"]}
    true = found["direction"]
    angles = (
        np.degrees(opening_angle(predictions["direction"][:num], true))[:, None],
        np.degrees(opening_angle(found["fit_direction"], true))[:, None],
        np.degrees(opening_angles(found["bound_direction"])),
    )
    draws = np.random.default_rng(_SEED).standard_normal(400)
    energies = (
        (predictions["log_energy"][:num] - found["log_energy"])[:, None],
        (found["fit_log_energy"] - found["log_energy"])[:, None],
        found["bound_log_energy"][:, None] * draws,
    )
    by = {"energy": found["log_energy"], "hits": np.log10(found["num_hits"])}
    return {
        f"{quantity} by {name}": Errors(variable, *values)
        for quantity, values in (("direction", angles), ("energy", energies))
        for name, variable in by.items()
    }


def table(title: str, lines: list[Row], unit: str) -> str:
    """A table in Markdown; edges are powers of ten."""
    names = list(lines[0].values) if lines else []
    text = [f"| {title} | events | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for row in lines:
        values = [
            f"{value:.2f} ± {error:.2f}" if "η" in name else f"{value:.3g} ± {error:.2g}{unit}"
            for name, (value, error) in row.values.items()
        ]
        edges = f"{10**row.low:,.0f} – {10**row.high:,.0f}"
        text.append(f"| {edges} | {row.num} | {' | '.join(values)} |")
    return "\n".join(text)


def edges_of(name: str, kind: str) -> Values:
    """Edges of the bins in log10 of the energy or of the photo-electrons."""
    if name == "hits":
        return np.log10([8, 50, 150, 500, 1500, 1e5])
    low, high = KINDS[kind].log_energy
    return np.linspace(low, high, round((high - low) / 0.5) + 1)


def failures(folder: Path) -> str:
    """How often the fit misses the maximum that is found from the truth."""
    found = load(folder / MEASURED)
    missed = found["fit_gain"] < found["near_gain"] - _FAILED
    many = found["num_hits"] >= 100
    return (
        f"{missed.sum()} of {len(missed)} fits miss the maximum near the truth; "
        f"{(missed & many).sum()} of {many.sum()} with 100 or more photo-electrons"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("limit"))
    parser.add_argument("--figure", type=Path, default=Path("information_limit.png"))
    options = parser.parse_args()
    kinds = [name for name in KINDS if (options.out / name / MEASURED).exists()]
    figure, axes = panels(2, 2 * len(kinds))
    for i, kind in enumerate(kinds):
        folder = options.out / kind
        print(f"\n## {kind}\n\n{failures(folder)}\n")
        for name, errors in errors_of(folder).items():
            quantity, _, variable = name.partition(" by ")
            width, unit = (median, "°") if quantity == "direction" else (half_width, "")
            lines = rows(errors, edges_of(variable, kind), width)
            head = "energy [GeV]" if variable == "energy" else "photo-electrons"
            print(f"{kind}, {quantity}\n\n{table(head, lines, unit)}\n")
            column = 2 * i + (quantity == "energy")
            draw(axes[(variable == "hits") * 2 * len(kinds) + column], lines, head)
            axes[(variable == "hits") * 2 * len(kinds) + column].set_title(f"{kind}: {quantity}")
    figure.savefig(options.figure)


def draw(panel: object, lines: list[Row], head: str) -> None:
    """Network, fit and bound against the middle of the bins."""
    for number, name in enumerate(("network", "fit", "bound")):
        x = [10 ** ((row.low + min(row.high, 4.2)) / 2) for row in lines]
        y, error = zip(*(row.values[name] for row in lines), strict=True)
        style = {"color": color(number), "marker": marker(number), "label": name}
        panel.errorbar(x, y, error, **style)  # type: ignore[attr-defined]
    panel.set(xscale="log", yscale="log", xlabel=head)  # type: ignore[attr-defined]
    panel.legend()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
