"""The picture of the demo: two events in the display, opening angles, energies and coverage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dnn_reco.display.drawing import (
    SIDE,
    Style,
    draw_markers,
    draw_particle,
    draw_strings_from_side,
)
from dnn_reco.display.event_view import TIME_COLORS
from dnn_reco.display.particle import Particle, reconstructed_particle, true_particle
from dnn_reco.display.scales import shown_hits, time_range
from dnn_reco.evaluation.coverage import PERCENTS, coverage_curve
from dnn_reco.evaluation.formats import format_energy
from dnn_reco.evaluation.variables import quantiles_in_bins
from dnn_reco.figure_style import (
    GREY,
    color,
    figure_bytes,
    log_axis,
    marker,
    panels,
    with_few_colors,
)
from dnn_reco.files import write_atomically

if TYPE_CHECKING:
    from demo_report import Results

Numbers = NDArray[np.float64]

TRUTH = Style("true", "#000000", "-", "*", 12)
NETWORK = Style("network", color(0), "-", "D", 8)
PRETRAINED = Style("pretrained", color(4), ":", "D", 8)
LINE_FIT = Style("line fit", color(1), "--", "D", 8)
TYPE_COLORS = {"tracks": color(3), "cascades": color(2)}
SIDE_TOP = 900.0
"""Upper end of the side view [m]: above the detector there is space for the legend."""
SHARES = (20.0, 50.0, 80.0)  # of the events [%]
NUM_BINS, EVENTS_PER_BIN = 7, 20
"""Bins of the energy hold equal numbers of events, and at least so many."""
LEAST_HITS, NEAR_CENTRE = 120, 300.0
"""Of the events in the display: hit DOMs, and coordinates of the centre of their charge [m]."""


def write_picture(results: Mapping[str, Results], path: Path) -> None:
    """Draw two rows: tracks and cascades; and all energies and the coverage at the right."""
    figure, axes = panels(2, 3, panel_size=(4.3, 3.75))
    (of_tracks, track_angles, energies), (of_cascades, cascade_angles, coverage) = (
        axes[:3],
        axes[3:],
    )
    for panel, name in ((of_tracks, "tracks"), (of_cascades, "cascades")):
        _draw_event(figure, panel, name, results[name])
    for panel, name in ((track_angles, "tracks"), (cascade_angles, "cascades")):
        _draw_angles(panel, name, results[name])
    _draw_energies(energies, results)
    _draw_coverage(coverage, results)
    write_atomically(path, with_few_colors(figure_bytes(figure, "png")))


def typical_event(found: Results) -> int:
    """Number of the event whose directions are about as good as the medians of all.

    It is bright and in the middle of the picture, if there is such an event.
    """
    num_hits = np.diff(found.events.hits.offsets)
    shown = [
        number
        for number in np.flatnonzero(num_hits >= LEAST_HITS).tolist()
        if np.abs(shown_hits(found.events.hits, number).centre).max() < NEAR_CENTRE
    ]
    network, line_fit = (
        np.abs(np.log(angle / np.nanmedian(angle))) for angle in (found.angle, found.line_fit_angle)
    )
    distance = network + line_fit
    candidates = np.array(shown or np.arange(len(num_hits)))
    return int(candidates[np.nanargmin(distance[candidates])])


def _draw_event(figure: Figure, panel: Axes, name: str, found: Results) -> None:
    """Hit DOMs of an event from the side, with the directions."""
    number, num_events = typical_event(found), len(found.events)
    hits = shown_hits(found.events.hits, number)
    colors = ScalarMappable(Normalize(*time_range(hits)), TIME_COLORS)
    draw_strings_from_side(panel)
    draw_markers(panel, hits.position[:, SIDE], hits.charge, colors.to_rgba(hits.time))
    labels = {label: found.events.labels[label] for label in found.events.labels}
    truth = true_particle(labels, number, num_events)
    fitted = Particle(np.full(3, np.nan), found.line_fit[number], {}, {})
    network = reconstructed_particle(found.predictions, number, num_events)
    for particle, style in ((fitted, LINE_FIT), (network, NETWORK), (truth, TRUTH)):
        draw_particle(panel, SIDE, particle, hits.centre, style, in_legend=False)
    for style, text in (
        (TRUTH, "true direction"),
        (NETWORK, f"network: {found.angle[number]:.1f}° off; 68 and 90 % cones"),
        (LINE_FIT, f"line fit: {found.line_fit_angle[number]:.1f}° off"),
    ):
        panel.plot([], [], style.dashes, color=style.color, label=text)
    figure.colorbar(
        colors, ax=panel, extend="both", shrink=0.8, label="time of the first pulse [ns]"
    )
    energy = format_energy(float(f"{found.true_energy[number]:.2g}"))
    panel.set_title(f"A {name.removesuffix('s')}: {len(hits.dom)} hit DOMs, {energy} visible")
    panel.grid(False)
    panel.set_ylim(top=SIDE_TOP)  # the legend hides no hits
    panel.legend(loc="upper left", fontsize=7.5, frameon=True, framealpha=0.85, borderpad=0.3)


def _draw_angles(panel: Axes, name: str, found: Results) -> None:
    """Median and central 60 % of the opening angles against the energy."""
    num_bins = int(np.clip(len(found.angle) // EVENTS_PER_BIN, 1, NUM_BINS))
    edges = np.quantile(found.true_energy, np.linspace(0, 1, num_bins + 1))
    edges[-1] *= 1.001  # the upper edge does not belong to a bin
    for number, (angle, style) in enumerate(
        (
            (found.angle, NETWORK),
            (found.pretrained_angle, PRETRAINED),
            (found.line_fit_angle, LINE_FIT),
        )
    ):
        low, median, high = quantiles_in_bins(angle, found.true_energy, edges, SHARES).T
        if np.isnan(median).all():
            panel.text(0.5, 0.5, "too few events", ha="center", transform=panel.transAxes)
            break
        label = f"{style.name}: median {np.nanmedian(angle):.1f}°"
        centre = np.sqrt(edges[:-1] * edges[1:])
        panel.fill_between(centre, low, high, color=style.color, alpha=0.18, linewidth=0)
        panel.plot(
            centre, median, f"{marker(number)}{style.dashes}", color=style.color, label=label
        )
    log_axis(panel.xaxis)
    if name == "tracks":
        log_axis(panel.yaxis, few_decades=True)
    else:
        panel.axhline(90, color=GREY, lw=1)
        panel.text(
            0.99, 92, "chance", color=GREY, va="bottom", ha="right",
            transform=panel.get_yaxis_transform(),
        )  # fmt: skip
        panel.set_ylim(0, 150)
    panel.set(
        title=f"Direction of {len(found.angle):,} held-out {name}",
        xlabel="true visible energy [GeV]",
        ylabel="opening angle [°]: median, central 60 %",
    )
    panel.legend()


def _draw_energies(panel: Axes, results: Mapping[str, Results]) -> None:
    """Predicted against true energies."""
    for name, found in results.items():
        panel.plot(
            found.true_energy, found.energy, ".", ms=3, alpha=0.5, color=TYPE_COLORS[name], mew=0
        )
        panel.plot([], [], "o", ms=5, color=TYPE_COLORS[name], label=name)
    energies = np.concatenate([found.true_energy for found in results.values()])
    energies = energies[energies > 0]  # a muon that only grazes the detector leaves nothing in it
    limits = np.quantile(energies, 0.002) / 2, energies.max() * 2
    panel.plot(limits, limits, color=GREY, lw=1)
    log_axis(panel.xaxis)
    log_axis(panel.yaxis)
    panel.set(
        title="Energy",
        xlabel="true visible energy [GeV]",
        ylabel="reconstructed visible energy [GeV]",
        xlim=limits,
        ylim=limits,
    )
    panel.legend()


def _draw_coverage(panel: Axes, results: Mapping[str, Results]) -> None:
    """Share of the true directions inside of the predicted cones, against their level."""
    percents = np.array(PERCENTS)
    panel.plot([0, 100], [0, 100], color=GREY, lw=1)
    for name, found in results.items():
        share, low, high = coverage_curve(found.level)
        panel.fill_between(
            percents, 100 * low, 100 * high, color=TYPE_COLORS[name], alpha=0.18, lw=0
        )
        inside = 100 * share[percents.tolist().index(68)]
        label = f"{name}: {inside:.0f} % in the 68 % cones"
        panel.plot(percents, 100 * share, color=TYPE_COLORS[name], label=label)
    panel.set(
        title="Uncertainty of the direction",
        xlabel="probability of the predicted cone [%]",
        ylabel="true directions inside of it [%]",
        xlim=(0, 100),
        ylim=(0, 100),
    )
    panel.legend()
