"""Events of the photon-tracking simulation: truth and pulses."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dnn_reco.detector.constants import CHERENKOV_COSINE, GROUP_INDEX, SPEED_OF_LIGHT
from dnn_reco.detector.geometry import NUM_DOMS, dom_index, dom_positions

CHARGE_PER_PHOTOELECTRON = 0.91
NOISE_CHARGE = 0.00041
"""Charge in PE of noise per standard DOM and μs."""

WINDOW = (-200.0, 5000.0)
"""Residuals in ns of pulses that count as light of the event."""

_SATURATION = 30.0  # PE/ns
_ATWD_WIDTH, _FADC_WIDTH = 3.3, 13.0  # ns
_MAX_CHARGE = 1638.0  # PE


@dataclass(frozen=True)
class ReferencePulses:
    """p pulses of chosen events.

    Attributes
    ----------
    event, dom
        Row in the truth table [p] and DOM index [p].
    time
        Times [p] in ns.
    charge
        Charges [p] in PE, with the saturation of the photomultiplier undone.
    """

    event: NDArray[np.int64]
    dom: NDArray[np.int64]
    time: NDArray[np.float64]
    charge: NDArray[np.float64]


def read_truth(folder: Path) -> pd.DataFrame:
    """One row per event; showers (`kind` 0 and 1) and through-going muons (`kind` 3)."""
    return pd.read_parquet(folder / "truth_run11.parquet")


def read_pulses(folder: Path, events: NDArray[np.int64]) -> ReferencePulses:
    """Pulses of some events (rows of the truth table)."""
    table = pd.read_parquet(folder / "pulses_run11.parquet")
    table = table[np.isin(table["event"].to_numpy(), events)]
    charge = table["charge"].to_numpy(dtype=np.float64)
    width = np.where(table["flag"] == 3, _ATWD_WIDTH, _FADC_WIDTH)
    linear = charge / np.maximum(1 - charge / (_SATURATION * width), 1e-3)
    return ReferencePulses(
        event=table["event"].to_numpy(dtype=np.int64),
        dom=dom_index(table["string"].to_numpy(), table["om"].to_numpy()),
        time=table["time"].to_numpy(dtype=np.float64),
        charge=np.minimum(linear, _MAX_CHARGE),
    )


def working_doms(pulses: ReferencePulses) -> NDArray[np.bool_]:
    """Mask [5160] of DOMs that have a pulse in any of many events."""
    return np.asarray(np.bincount(pulses.dom, minlength=NUM_DOMS) > 0)


def columns(table: pd.DataFrame, *names: str) -> NDArray[np.float64]:
    """Some columns as an array [n, names]."""
    return np.asarray(table[list(names)], dtype=np.float64)


def vertices(table: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where [n, 3] in m and when [n] in ns the interactions or entering muons are."""
    return columns(table, "int_x", "int_y", "int_z"), columns(table, "int_t")[:, 0]


def directions(table: pd.DataFrame) -> NDArray[np.float64]:
    """Unit vectors [n, 3] of flight."""
    return columns(table, "PrimaryDirectionX", "PrimaryDirectionY", "PrimaryDirectionZ")


def distance_from_point(
    place: NDArray[np.float64], dom: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances [n] in m from places [n, 3] to DOMs, and how long [n] in ns light needs."""
    distance = np.linalg.norm(dom_positions()[dom] - place, axis=1)
    return distance, distance * GROUP_INDEX / SPEED_OF_LIGHT


def distance_from_line(
    place: NDArray[np.float64], direction: NDArray[np.float64], dom: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Perpendicular distances [n] in m from tracks to DOMs, and delay of the Cherenkov light.

    Returns
    -------
    distance, along, delay
        Distances [n], places of closest approach along the track [n] in m from its start, and
        times [n] in ns after the start at which the Cherenkov front arrives.
    """
    offset = dom_positions()[dom] - place
    along = (offset * direction).sum(axis=1)
    distance = np.linalg.norm(offset - along[:, None] * direction, axis=1)
    sine = np.sqrt(1 - CHERENKOV_COSINE**2)
    emission = along - distance * CHERENKOV_COSINE / sine
    return distance, along, (emission + distance * GROUP_INDEX / sine) / SPEED_OF_LIGHT
