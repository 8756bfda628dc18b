"""The whole simulation beside the collaboration's own: the same events, simulated again."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from dnn_reco.data.features import dom_features
from dnn_reco.data.hdf5 import InputTables, read_events
from dnn_reco.detector.directions import vector_of
from dnn_reco.simulation.detector import icecube86
from dnn_reco.simulation.light import sample_photoelectrons
from dnn_reco.simulation.particles import CHARGED_CURRENT, Interactions
from dnn_reco.simulation.response import ResponseSettings, detect
from dnn_reco.simulation.truth import follow

REPETITIONS = 10
TABLES = InputTables(
    "dnn_data_inputs9_InIceDSTPulses_bin_values",
    "dnn_data_inputs9_InIceDSTPulses_bin_indices",
    "dnn_data_inputs9_InIceDSTPulses_global_time_offset",
)
CHARGE, FIRST_TIME = 0, 3


@dataclass(frozen=True)
class Seen:
    """Hit DOMs, total charge [PE] and quartile distance of first times [ns], by event."""

    num_doms: NDArray[np.float64]
    charge: NDArray[np.float64]
    time_spread: NDArray[np.float64]


def seen(offsets: NDArray[np.integer], features: NDArray[np.floating]) -> Seen:
    start, num_doms = offsets[:-1], np.diff(offsets).astype(float)
    charge = np.add.reduceat(features[:, CHARGE].astype(float), start)
    spreads = []
    for first, stop in pairwise(offsets):
        time = features[first:stop, FIRST_TIME]
        spreads.append(np.subtract(*np.quantile(time, [0.75, 0.25])))
    return Seen(num_doms, charge, np.array(spreads))


def starting_events(path: Path) -> tuple[Interactions, Seen]:
    """Events that start in the detector: their truth, and what was seen of them.

    The energies are those of the visible light: what hadrons give is taken as if from electrons.
    """
    with h5py.File(path) as file:
        labels, cascade = file["LabelsDeepLearning"][:], file["LabelsMCCascade"][:]
    events = read_events(path, TABLES, 9)
    kept = np.flatnonzero(labels["p_starting"] == 1)
    labels, cascade = labels[kept], cascade[kept]
    n, nothing = len(kept), np.zeros(len(kept))
    energy = cascade["cascade_energy"]
    zenith, azimuth = labels["PrimaryZenith"], labels["PrimaryAzimuth"]
    interactions = Interactions(
        pdg=np.full(n, 14),
        energy=labels["PrimaryEnergy"],
        zenith=zenith,
        azimuth=azimuth,
        interaction=np.full(n, CHARGED_CURRENT),
        inelasticity=nothing,
        vertex=np.stack([cascade[f"cascade_{axis}"] for axis in "xyz"], axis=1),
        time=nothing,
        lepton_direction=vector_of(zenith, azimuth),
        electron_energy=energy
        * (cascade["energy_fraction_em"] + cascade["energy_fraction_hadron"]),
        hadron_energy=nothing,
        tau_energy=nothing,
        tau_length=nothing,
        decay_electron_energy=nothing,
        decay_hadron_energy=nothing,
        muon_energy=energy * cascade["energy_fraction_track"],
    )
    all_seen = seen(events.hits.offsets, events.hits.features)
    return interactions, Seen(*(values[kept] for values in vars(all_seen).values()))


def simulated_again(interactions: Interactions, rng: np.random.Generator) -> Seen:
    """Medians over some repetitions."""
    detector = icecube86()
    results = []
    for _ in range(REPETITIONS):
        _, sources = follow(interactions, rng)
        light = sample_photoelectrons(sources, detector.efficiency, rng)
        detected = detect(light, detector, ResponseSettings(), rng)
        features = dom_features(detected.pulses)
        now = seen(features.hits.offsets, features.hits.features)
        rows = np.full((3, len(interactions.energy)), np.nan)
        rows[:, detected.triggered] = list(vars(now).values())
        results.append(rows)
    return Seen(*np.nanmedian(results, axis=0))


@pytest.mark.parametrize("name", ["num_doms", "charge", "time_spread"])
def test_starting_events(name: str, numu_file: Path, real_and_simulated: tuple[Seen, Seen]) -> None:
    real, simulated = (getattr(side, name) for side in real_and_simulated)
    ratio = np.median(simulated / real)
    assert 1 / 1.5 < ratio < 1.5


@pytest.fixture(scope="module")
def real_and_simulated(numu_file: Path) -> tuple[Seen, Seen]:
    interactions, real = starting_events(numu_file)
    return real, simulated_again(interactions, np.random.default_rng(1))
