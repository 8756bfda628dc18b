"""The tables of `CALIBRATION.json` beside the same figures from our simulation."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dnn_reco.detector.geometry import NUM_DOMS, NUM_DOMS_PER_STRING, dom_positions
from dnn_reco.simulation.calibration.reference import (
    columns,
    directions,
    distance_from_line,
    distance_from_point,
    read_truth,
    vertices,
)
from dnn_reco.simulation.calibration.resimulate import Light, showers_again, tracks_again
from dnn_reco.simulation.detector import high_efficiency_doms

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
ANGLES = ("[-1,-1/3)", "[-1/3,1/3)", "[1/3,1]")
DEPTHS = {
    "deep -450<z<-150": (-450.0, -150.0),
    "dust -150<z<0": (-150.0, 0.0),
    "upper 0<z<450": (0.0, 450.0),
    "all": (-500.0, 500.0),
}
_NEAREST, _FARTHEST = 20.0, 250.0  # m, the range in which the tables must agree
_OUTERMOST = 260.0  # m, the upper edge of the last bin in it
_STANDARD_STRINGS = 78


@dataclass(frozen=True)
class TableEntry:
    """One number of a table: which, in the reference, in our simulation."""

    table: str
    column: str
    row: float
    reference: float
    model: float


@dataclass(frozen=True)
class Agreement:
    """How far a table agrees.

    Attributes
    ----------
    table
        Its name.
    entries
        Number of entries between 20 and 250 m.
    median_ratio
        Median of ours over the reference.
    median_deviation
        Median of the deviation of this ratio from 1, by factors: 0.3 is a factor of 1.3.
    within
        Share of entries that agree within 30 %.
    """

    table: str
    entries: int
    median_ratio: float
    median_deviation: float
    within: float


def agreement(entries: list[TableEntry]) -> list[Agreement]:
    """Agreement of each table."""
    result = []
    for table in dict.fromkeys(entry.table for entry in entries):
        ratio = np.array(
            [entry.model / entry.reference for entry in entries if entry.table == table]
        )
        deviation = np.exp(np.abs(np.log(np.maximum(ratio, 1e-9)))) - 1
        within = float(np.mean((ratio > 0.7) & (ratio < 1.3)))
        medians = float(np.median(ratio)), float(np.median(deviation))
        result.append(Agreement(table, len(ratio), *medians, within))
    return result


def compare(folder: Path, num_showers: int, num_tracks: int, seed: int = 1) -> list[TableEntry]:
    """All tables, from the truth of the reference events simulated again.

    Parameters
    ----------
    folder
        With `truth_run11.parquet` and `CALIBRATION.json`.
    num_showers, num_tracks
        How many events to simulate at most.
    seed
        Seed of everything random.
    """
    rng = np.random.default_rng(seed)
    truth = read_truth(folder)
    tables = json.loads((folder / "CALIBRATION.json").read_text(encoding="utf-8"))
    showers = _some(truth[_is_shower(truth)], num_showers, rng)
    tracks = _some(truth[_is_track(truth)], num_tracks, rng)
    shower_light, track_light = showers_again(showers, rng), tracks_again(tracks, rng)
    entries = _depth(tables, showers, shower_light)
    entries += _hit_doms(tables, showers, shower_light)
    inner = (columns(showers, "EnergyVisible")[:, 0] < 1e4) & (np.abs(showers["int_z"]) < 500)
    rows = np.flatnonzero(inner)
    entries += _shower_distance(tables, showers.iloc[rows], shower_light.of(rows))
    entries += _track_distance(tables, tracks, track_light)
    return entries


def _some(table: pd.DataFrame, number: int, rng: np.random.Generator) -> pd.DataFrame:
    chosen = np.sort(rng.permutation(len(table))[:number])
    return table.iloc[chosen].reset_index(drop=True)


def _is_shower(truth: pd.DataFrame) -> NDArray[np.bool_]:
    x, y, z, energy = columns(truth, "int_x", "int_y", "int_z", "EnergyVisible").T
    inside = (np.hypot(x, y) < 400) & (np.abs(z) < 550)
    return np.asarray((truth["kind"].to_numpy() < 2) & inside & (energy >= 1e3) & (energy < 1e5))


def _is_track(truth: pd.DataFrame) -> NDArray[np.bool_]:
    entry, exit_, length = columns(truth, "E_entry", "E_exit", "LengthInDetector").T
    passes = (exit_ > 0) & (length > 300) & (entry >= 300) & (entry < 1e5)
    return np.asarray((truth["kind"].to_numpy() == 3) & passes)


def standard_doms() -> NDArray[np.bool_]:
    """Mask [5160] of DOMs of relative efficiency 1 on strings 1 to 78."""
    main = np.arange(NUM_DOMS) < _STANDARD_STRINGS * NUM_DOMS_PER_STRING
    return main & ~high_efficiency_doms()


def _depth(tables: dict[str, Any], showers: pd.DataFrame, light: Light) -> list[TableEntry]:
    """Median charge of an event per TeV against depth."""
    energy = columns(showers, "EnergyVisible")[:, 0]
    charge = np.bincount(light.event, light.charge, len(showers)) / energy * 1e3
    z = columns(showers, "int_z")[:, 0]
    entries = []
    for row in tables["depth"]:
        chosen = (z >= row["z_low"]) & (z < row["z_high"]) & (energy < 1e4)
        # Where few trigger, those that do are the bright ones.
        if chosen.sum() >= 5 and row["trigger_efficiency"] > 0.9:
            middle = (row["z_low"] + row["z_high"]) / 2
            median = float(np.median(charge[chosen]))
            entries.append(
                TableEntry("showers: charge per TeV", "median", middle, row["Q50"], median)
            )
    return entries


def _hit_doms(tables: dict[str, Any], showers: pd.DataFrame, light: Light) -> list[TableEntry]:
    """Median number of hit DOMs against energy, without noise."""
    log_energy = np.log10(columns(showers, "EnergyVisible")[:, 0])
    event, _ = np.divmod(np.unique(light.event * NUM_DOMS + light.dom), NUM_DOMS)
    hit = np.bincount(event, minlength=len(showers))
    inner = np.abs(columns(showers, "int_z")[:, 0]) < 500
    entries = []
    for row in tables["hit_doms"]:
        chosen = (log_energy >= row["log10E_low"]) & (log_energy < row["log10E_high"]) & inner
        if row["log10E_low"] >= 3 and row["log10E_high"] <= 5:
            reference = row["n_window"][1] - row["n_noise_same_window_mean"]
            middle = (row["log10E_low"] + row["log10E_high"]) / 2
            median = float(np.median(hit[chosen]))
            entries.append(TableEntry("showers: hit DOMs", "median", middle, reference, median))
    return entries


def _shower_distance(
    tables: dict[str, Any], showers: pd.DataFrame, light: Light
) -> list[TableEntry]:
    vertex, time = vertices(showers)
    direction = directions(showers)
    standard = standard_doms()
    seen = np.flatnonzero(standard[light.dom])
    event, dom = light.event[seen], light.dom[seen]
    distance, flight = distance_from_point(vertex[event], dom)
    residual = light.time[seen] - time[event] - flight
    hit_angle = _angle(vertex[event], direction[event], dom)

    everything = np.arange(NUM_DOMS)
    pair, pair_dom = _pairs(
        len(showers),
        lambda i: standard & (distance_from_point(vertex[i], everything)[0] < _OUTERMOST),
    )
    pair_distance, _ = distance_from_point(vertex[pair], pair_dom)
    pair_angle = _angle(vertex[pair], direction[pair], pair_dom)
    energy = columns(showers, "EnergyVisible")[:, 0] / 1e3
    charge = light.charge[seen]

    entries = []
    for name, (low, high) in DEPTHS.items():
        in_depth = (vertex[:, 2] > low) & (vertex[:, 2] < high)
        for row, near, pair_near in _bins(tables["distance"][name], distance, pair_distance):
            hit, pairs = near & in_depth[event], pair_near & in_depth[pair]
            for number, angle in enumerate(ANGLES):
                total = charge[hit & (hit_angle == number)].sum()
                of = energy[pair[pairs & (pair_angle == number)]].sum()
                entries.append(
                    TableEntry(
                        f"showers: charge per DOM and TeV, {name}",
                        angle,
                        row["d_low"] + 10,
                        row[angle]["q"],
                        float(total / max(of, 1e-9)),
                    )
                )
    first = _first_of_each(event, dom, residual)
    for row, near, _ in _bins(tables["times"], distance, pair_distance):
        for number, angle in enumerate(("all", *ANGLES)):
            hit = near & ((hit_angle == number - 1) | (number == 0))
            entries += _time_entries(
                "showers", angle, row, row[angle], hit, residual, charge, first
            )
    return entries


def _track_distance(tables: dict[str, Any], tracks: pd.DataFrame, light: Light) -> list[TableEntry]:
    start, time = vertices(tracks)
    direction = directions(tracks)
    entry = columns(tracks, "VertexX", "VertexY", "VertexZ")
    begin = ((entry - start) * direction).sum(axis=1)
    end = begin + columns(tracks, "LengthInDetector")[:, 0]
    standard = standard_doms()

    def beside(event: int) -> NDArray[np.bool_]:
        everything = np.arange(NUM_DOMS)
        distance, along, _ = distance_from_line(start[event], direction[event], everything)
        inside = (along > begin[event]) & (along < end[event]) & (distance < _OUTERMOST)
        return np.asarray(inside & standard)

    pair, pair_dom = _pairs(len(tracks), beside)
    pair_distance, _, _ = distance_from_line(start[pair], direction[pair], pair_dom)
    seen = np.isin(light.event * NUM_DOMS + light.dom, pair * NUM_DOMS + pair_dom)
    event, dom, charge = light.event[seen], light.dom[seen], light.charge[seen]
    distance, _, delay = distance_from_line(start[event], direction[event], dom)
    residual = light.time[seen] - time[event] - delay

    energy = columns(tracks, "E_entry")[:, 0] / 1e3
    entries = []
    for row, near, pair_near in _bins(tables["muon"], distance, pair_distance):
        for number, energies in enumerate(tables["muon_bins"][:5]):
            low, high = energies["E_low_TeV"], energies["E_high_TeV"]
            chosen = (energy >= low) & (energy < high)
            total = charge[near & chosen[event]].sum()
            mean = float(total / max((pair_near & chosen[pair]).sum(), 1))
            name, value = f"{low}-{high} TeV", row["bins"][number]["q_per_DOM"]
            entries.append(
                TableEntry("tracks: charge per DOM", name, row["d_low"] + 10, value, mean)
            )
    first = _first_of_each(event, dom, residual)
    for row, near, _ in _bins(tables["muon"], distance, pair_distance):
        entries += _time_entries("tracks", "all", row, row, near, residual, charge, first)
    return entries


def _pairs(
    num_events: int, near: Callable[[int], NDArray[np.bool_]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Event [m] and DOM index [m] of all pairs; `near` returns an event's mask [5160] of DOMs."""
    doms = [np.flatnonzero(near(event)) for event in range(num_events)]
    return np.repeat(np.arange(num_events), [len(dom) for dom in doms]), np.concatenate(doms)


def _bins(
    rows: list[dict[str, Any]], distance: NDArray[np.float64], pair_distance: NDArray[np.float64]
) -> Iterator[tuple[dict[str, Any], NDArray[np.bool_], NDArray[np.bool_]]]:
    """Rows of a table in the range to compare, and what falls into each."""
    for row in rows:
        low, high = row["d_low"], row["d_high"]
        if low >= _NEAREST and low < _FARTHEST:
            inside = [(values >= low) & (values < high) for values in (distance, pair_distance)]
            yield row, inside[0], inside[1]


def _angle(
    vertex: NDArray[np.float64], direction: NDArray[np.float64], dom: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Number [n] of the range of angles, 0 backward to 2 forward."""
    offset = dom_positions()[dom] - vertex
    cosine = (offset * direction).sum(axis=1) / np.linalg.norm(offset, axis=1)
    return np.asarray(np.digitize(cosine, [-1 / 3, 1 / 3]))


def _first_of_each(
    event: NDArray[np.int64], dom: NDArray[np.int64], residual: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Mask [h] of the first hit of each DOM in each event."""
    order = np.lexsort((residual, dom, event))
    key = (event * NUM_DOMS + dom)[order]
    first = np.zeros(len(event), dtype=bool)
    first[order] = np.diff(key, prepend=-1) != 0
    return first


def _time_entries(
    kind: str,
    column: str,
    row: dict[str, Any],
    reference: dict[str, Any],
    hit: NDArray[np.bool_],
    residual: NDArray[np.float64],
    charge: NDArray[np.float64],
    first: NDArray[np.bool_],
) -> list[TableEntry]:
    """Quantiles of residuals: first hits, and all by their charge."""
    entries = []
    for name, chosen, weight in (
        ("first_hit", hit & first, np.ones_like(charge)),
        ("charge_weighted", hit, charge),
    ):
        if np.count_nonzero(chosen) < 20:
            continue
        ours = _weighted_quantiles(residual[chosen], weight[chosen])
        for q, there, here in zip(QUANTILES, reference[name], ours, strict=True):
            # Near zero a ratio is meaningless: a few ns are the resolution.
            if there > 10:
                table = f"{kind}: residual time, {name.replace('_', ' ')}"
                entries.append(
                    TableEntry(table, f"{column} {q:.0%}", row["d_low"] + 10, there, float(here))
                )
    return entries


def _weighted_quantiles(
    values: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    order = np.argsort(values)
    sums = np.cumsum(weights[order])
    place = np.searchsorted(sums, np.array(QUANTILES) * sums[-1])
    return np.asarray(values[order][place])
