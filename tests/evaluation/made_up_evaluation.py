"""An evaluation of events that are made up, with known bias, width and correlation."""

import numpy as np

from dnn_reco.evaluation.reconstruction import Evaluation, Reconstruction, TrueEvents
from dnn_reco.inference.prediction_table import PredictionTable, Status
from dnn_reco.nn.interface import LabelKeys

KEYS = LabelKeys(
    zenith="PrimaryZenith",
    azimuth="PrimaryAzimuth",
    dir_x="PrimaryDirectionX",
    dir_y="PrimaryDirectionY",
    dir_z="PrimaryDirectionZ",
    pid=("p_starting",),
    particle={
        "energy": "EnergyVisible",
        "pos_x": "VertexX",
        "pos_y": "VertexY",
        "pos_z": "VertexZ",
    },
)
BIAS, WIDTH, SIGMA = 0.3, 0.5, 0.4
"""Of ln(1 + E): mean and deviation of the residual, and the uncertainty that is given."""


def true_events(num_events: int, seed: int = 0) -> TrueEvents:
    rng = np.random.default_rng(seed)
    zenith, azimuth = np.arccos(rng.uniform(-1, 1, num_events)), rng.uniform(0, 6.28, num_events)
    entering = rng.random(num_events) < 0.4
    labels = {
        "EnergyVisible": 10 ** rng.uniform(1, 6, num_events),
        "PrimaryZenith": zenith,
        "PrimaryAzimuth": azimuth,
        "PrimaryDirectionX": -np.sin(zenith) * np.cos(azimuth),
        "PrimaryDirectionY": -np.sin(zenith) * np.sin(azimuth),
        "PrimaryDirectionZ": -np.cos(zenith),
        "VertexX": rng.normal(0, 300, num_events),
        "VertexY": rng.normal(0, 300, num_events),
        "VertexZ": rng.normal(0, 300, num_events),
        "p_entering": entering.astype(np.float64),
        "p_starting": (~entering).astype(np.float64),
        "p_is_track": (rng.random(num_events) < 0.5).astype(np.float64),
    }
    ids = np.zeros(
        num_events,
        [
            ("Run", "u4"),
            ("Event", "u4"),
            ("SubEvent", "u4"),
            ("SubEventStream", "i4"),
            ("exists", "u1"),
        ],
    )
    ids["Run"], ids["Event"], ids["exists"] = 7, np.arange(num_events), 1
    return TrueEvents(
        ids,
        labels,
        {"BjorkenY": rng.random(num_events)},
        rng.integers(1, 1000, num_events),
        time_offset=np.full(num_events, 9000.0),
    )


def reconstruction(
    events: TrueEvents, name: str, seed: int, not_reconstructed: int = 0
) -> Reconstruction:
    """Energy with BIAS, WIDTH and SIGMA, directions with errors of 0.1, azimuths and a class."""
    rng = np.random.default_rng(seed)
    n = len(events)
    shift = rng.normal(BIAS, WIDTH, n)
    found = {"EnergyVisible": np.expm1(np.log1p(events.labels["EnergyVisible"]) + shift)}
    sigma = {"EnergyVisible": np.full(n, SIGMA)}
    for label in ("PrimaryDirectionX", "PrimaryDirectionY", "PrimaryDirectionZ", "PrimaryAzimuth"):
        found[label] = events.labels[label] + rng.normal(0, 0.1, n)
        sigma[label] = np.full(n, 0.1)
    found["p_starting"], sigma["p_starting"] = rng.random(n), np.full(n, np.nan)
    labels, sigmas = (np.stack(list(each.values()), axis=1) for each in (found, sigma))
    labels[:not_reconstructed] = sigmas[:not_reconstructed] = np.nan
    status = np.where(np.arange(n) < not_reconstructed, Status.NO_HITS, Status.OK)
    table = PredictionTable(
        tuple(found),
        tuple(label == "EnergyVisible" for label in found),
        labels,
        sigmas,
        events.ids,
        status.astype(np.int32),
        KEYS.particle,
    )
    return Reconstruction(name, table, KEYS)


def evaluation(num_events: int, names: tuple[str, ...] = ("one",), **kwargs: int) -> Evaluation:
    events = true_events(num_events)
    return Evaluation(
        events,
        tuple(reconstruction(events, name, seed, **kwargs) for seed, name in enumerate(names, 1)),
    )
