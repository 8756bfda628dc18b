"""What the networks of `make demo` have learnt, beside simple estimators."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray

from dnn_reco.config import Config, load_config
from dnn_reco.data.build import open_events
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.detector.geometry import dom_positions
from dnn_reco.evaluation.held_out_events import predict_held_out
from dnn_reco.evaluation.metrics import residuals_and_pulls
from dnn_reco.event_sources import event_store
from dnn_reco.figure_style import GREY, color, figure_bytes, panels
from dnn_reco.files import find_files
from dnn_reco.inference.trained_model import load_trained_model

Numbers = NDArray[np.float64]

ENERGY = "EnergyVisible"
DIRECTION = ("PrimaryDirectionX", "PrimaryDirectionY", "PrimaryDirectionZ")
CHARGE, FIRST_TIME = 0, 3  # of the nine features of a DOM

CNN, DOM_TRANSFORMER = "tutorial's network", "transformer"
TOTAL_CHARGE, LINE_FIT = "total charge", "line fit"
INK = GREY
COLORS = {CNN: color(0), DOM_TRANSFORMER: color(1), TOTAL_CHARGE: color(2), LINE_FIT: color(2)}


@dataclass(frozen=True)
class Results:
    """Held-out events.

    Attributes
    ----------
    true_energy
        log10(E / GeV) [n].
    energies
        The same by each network, and by the total charge.
    pulls
        Residual of each network's energy over its uncertainty [n].
    angles
        Angle [n] in degrees between the true direction and that of a line fit, and of each network
        that learnt directions.
    """

    true_energy: Numbers
    energies: Mapping[str, Numbers]
    pulls: Mapping[str, Numbers]
    angles: Mapping[str, Numbers]


def evaluate(config_files: Mapping[str, Path]) -> Results:
    """Apply the trained networks and the simple estimators to the test files of the configs."""
    energies: dict[str, Numbers] = {}
    pulls: dict[str, Numbers] = {}
    angles: dict[str, Numbers] = {}
    for network_name, config_file in config_files.items():
        config = load_config([config_file])
        training, test = _events(config, "training_data_file"), _events(config, "test_data_file")
        model = load_trained_model(config, torch.device("cpu"))
        table = predict_held_out(model, test)
        true = test.read_labels(np.arange(len(test))).astype(np.float64)
        names = list(test.names.labels)
        energy, direction = names.index(ENERGY), [names.index(name) for name in DIRECTION]
        energies[network_name] = _log_energy(table[ENERGY])
        pulls[network_name] = residuals_and_pulls(table, true, model.spec)[1][:, energy]
        true_direction = true[:, direction]
        if set(DIRECTION) <= set(config.labels.label_weight_dict):
            angles[network_name] = opening_angle(table.labels[:, direction], true_direction)
    return Results(
        true_energy=_log_energy(true[:, energy]),
        energies=energies | {TOTAL_CHARGE: energy_from_charge(training, test, energy)},
        pulls=pulls,
        angles=angles | {LINE_FIT: opening_angle(line_fit(test), true_direction)},
    )


def _events(config: Config, key: str) -> EventDataset:
    files = find_files(getattr(config.data_files, key), key)
    return open_events(event_store(config, None), files, 1)


def _log_energy(energy: Numbers) -> Numbers:
    return np.asarray(np.log10(np.maximum(energy, 1.0)))


def energy_from_charge(training: EventDataset, test: EventDataset, label: int) -> Numbers:
    """log10 of the energy [n] that events of a total charge have on average.

    A polynomial in the logarithm of the charge, fitted to the training events.
    """
    known = training.read(np.arange(len(training)))
    energy = _log_energy(known.labels[:, label].astype(np.float64))
    coefficients = np.polyfit(_log_charge(training), energy, 3)
    return np.asarray(np.polyval(coefficients, _log_charge(test)))


def _log_charge(events: EventDataset) -> Numbers:
    hits = events.read(np.arange(len(events))).hits
    total = np.add.reduceat(hits.features[:, CHARGE].astype(np.float64), hits.offsets[:-1])
    return np.log10(np.maximum(total, 1.0))


def line_fit(events: EventDataset) -> Numbers:
    """Direction of flight [n, 3] of the straight line that fits first times best.

    A plane wave of light or a track moves as r = r0 + v t; least squares over the hit DOMs,
    weighted with their charge, give v = cov(r, t) / var(t).
    """
    hits = events.read(np.arange(len(events))).hits
    start = hits.offsets[:-1]
    weight = hits.features[:, CHARGE].astype(np.float64)
    time = hits.features[:, FIRST_TIME].astype(np.float64)
    position = dom_positions()[hits.dom.astype(np.int64)]
    total = np.add.reduceat(weight, start)
    counts = np.diff(hits.offsets)

    def minus_mean(values: Numbers) -> Numbers:
        return values - np.repeat(np.add.reduceat(weight * values, start) / total, counts)

    delay = minus_mean(time)
    moments = [
        np.add.reduceat(weight * delay * minus_mean(position[:, axis]), start) for axis in range(3)
    ]
    return np.stack(moments, axis=1)


def opening_angle(direction: Numbers, true: Numbers) -> Numbers:
    """Angle [n] in degrees between two directions [n, 3] of any length."""
    lengths = np.linalg.norm(direction, axis=1) * np.linalg.norm(true, axis=1)
    cosine = (direction * true).sum(axis=1) / np.maximum(lengths, 1e-12)
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def error(results: Results, estimate: Numbers, low: float, high: float) -> tuple[float, int]:
    """Error of log10 E that 68 % of a band's events stay below, and the number of its events."""
    chosen = (results.true_energy >= low) & (results.true_energy < high)
    residual = np.abs(estimate - results.true_energy)[chosen]
    return float(np.quantile(residual, 0.68)), int(chosen.sum())


def table(results: Results) -> str:
    """The figures of merit as text."""
    bands = _energy_bands(results.true_energy)
    names = list(results.energies)
    lines = [
        "  log10(E/GeV)   events    error of log10 E (68 % of the events)",
        " " * 25 + "".join(f"{name:>20}" for name in names),
    ]
    for low, high in [*bands, (bands[0][0], bands[-1][1])]:
        found = [error(results, results.energies[name], low, high) for name in names]
        lines.append(
            f"  {low:4.1f} … {high:4.1f}    {found[0][1]:6d}  "
            + "".join(f"{value:20.2f}" for value, _ in found)
        )
    lines.append("")
    for name, pull in results.pulls.items():
        lines.append(
            f"  Pull of the energy, {name + ':':20}mean {pull.mean():.2f}, width "
            f"{_width(pull):.2f} (0 and 1 if the uncertainties are right)"
        )
    lines.append("")
    for name, angle in results.angles.items():
        lines.append(f"  Direction, {name + ':':13}{np.median(angle):3.0f}° off in the median")
    lines += [
        "  Chance is 90° off. The direction of a shower is the hardest thing to learn of it: the",
        "  tutorial's network does not try here, the transformer has just begun to. That of tracks",
        "  it learns in minutes (docs/how-to/dom_transformer.md).",
        "",
        "  These are bright showers in the middle of a simple model of the ice, and minutes of",
        "  training on a few thousand events. Real events are dimmer, and of all kinds; networks",
        "  for them see millions of events, for hours or days, on a GPU.",
    ]
    return "\n".join(lines)


def _width(pull: Numbers) -> float:
    """Half the width of the central 68 %."""
    low, high = np.quantile(pull, [0.16, 0.84])
    return float(high - low) / 2


def _energy_bands(energy: Numbers, least: int = 40) -> list[tuple[float, float]]:
    """Half decades with at least so many events."""
    edges = np.arange(np.floor(2 * energy.min()), np.ceil(2 * energy.max()) + 1) / 2
    counts, _ = np.histogram(energy, edges)
    return [
        (float(low), float(high))
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
        if count >= least
    ]


def draw(results: Results, path: Path) -> None:
    """The picture: energies, their resolution, pulls and directions."""
    figure, axes = panels(2, 2, panel_size=(5.4, 4.2))
    figure.suptitle(
        f"{len(results.true_energy)} held-out events: networks beside simple estimators"
    )
    for axis, draw_panel in zip(
        axes, (_draw_energies, _draw_resolution, _draw_pulls, _draw_angles), strict=True
    ):
        draw_panel(axis, results)
        axis.legend(frameon=False)
    path.write_bytes(figure_bytes(figure, "png"))


def _simple_first(estimates: Mapping[str, Numbers]) -> Iterator[tuple[str, Numbers]]:
    """So that networks are drawn above the simple estimator."""
    yield from sorted(estimates.items(), key=lambda item: item[0] in (CNN, DOM_TRANSFORMER))


def _draw_energies(axis: Axes, results: Results) -> None:
    limits = results.true_energy.min() - 0.2, results.true_energy.max() + 0.2
    axis.plot(limits, limits, color=INK, lw=1)
    for name, values in _simple_first(results.energies):
        axis.plot(results.true_energy, values, ".", ms=3, alpha=0.5, color=COLORS[name], label=name)
    axis.set(
        xlabel="true log$_{10}$(E / GeV)",
        ylabel="reconstructed log$_{10}$(E / GeV)",
        xlim=limits,
        ylim=limits,
        title="Visible energy",
    )


def _draw_resolution(axis: Axes, results: Results) -> None:
    bands = _energy_bands(results.true_energy)
    centers = [(low + high) / 2 for low, high in bands]
    for name, estimate in _simple_first(results.energies):
        errors = [error(results, estimate, *band) for band in bands]
        bars = [value / np.sqrt(num_events) for value, num_events in errors]
        values = [value for value, _ in errors]
        axis.errorbar(centers, values, bars, fmt="o-", color=COLORS[name], label=name)
    axis.set(
        xlabel="true log$_{10}$(E / GeV)",
        ylabel="error of log$_{10}$ E (68 % of the events)",
        title="Energy resolution: smaller is better",
        ylim=(0, None),
    )


def _draw_pulls(axis: Axes, results: Results) -> None:
    edges = [x / 5 for x in range(-20, 21)]
    pulls = np.linspace(-4, 4, 161)
    for name, pull in results.pulls.items():
        axis.hist(
            pull.clip(-4, 4),
            edges,
            density=True,
            histtype="step",
            lw=2,
            color=COLORS[name],
            label=f"{name}, width {_width(pull):.2f}",
        )
    normal = np.exp(-(pulls**2) / 2) / np.sqrt(2 * np.pi)
    axis.plot(pulls, normal, color=INK, lw=1, label="perfect: width 1")
    axis.set(
        xlabel="(reconstructed - true) / predicted uncertainty",
        ylabel="events per unit",
        ylim=(0, 0.75),  # with space for the legend
        title="Are the energy's uncertainties right?",
    )


def _draw_angles(axis: Axes, results: Results) -> None:
    for name, angles in results.angles.items():
        share = np.arange(1, len(angles) + 1) / len(angles)
        axis.plot(np.sort(angles), share, lw=2, color=COLORS[name], label=name)
    grid = np.linspace(0, 180, 181)
    axis.plot(grid, (1 - np.cos(np.radians(grid))) / 2, color=INK, lw=1, label="chance")
    axis.set(
        xlabel="angle between true and reconstructed direction [degrees]",
        ylabel="share of events below",
        title="Direction of showers",
        xlim=(0, 180),
        ylim=(0, 1),
    )
