"""Train the network on photo-electrons of cascades or tracks, and apply it to the test events.

    python benchmarks/limit/limit_network.py cascades --out limit --events 100000 --iterations 30000

Events are simulated once and used again by later calls; a training that was stopped resumes. The
predictions for the test events, which `measure.py` fits, are in `<out>/<kind>/predictions.npz`.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from events import KINDS, Kind, Sample, samples
from numpy.typing import NDArray

from dnn_reco.api import load_config, load_model, open_events, predict
from dnn_reco.data.data_settings import features_of
from dnn_reco.data.file_events import EVENT_ID
from dnn_reco.data.hdf5 import write_input_tables
from dnn_reco.data.hits import join_hits
from dnn_reco.data.pulses import ATWD, LOCAL_COINCIDENCE, Pulses
from dnn_reco.detector.directions import angles_of, unit_vectors
from dnn_reco.files import temporary_beside
from dnn_reco.simulation.dataset import LABEL_TABLE
from dnn_reco.simulation.settings import SimulationSettings

TRAIN, VALIDATION, TEST = 0, 1, 2
"""Streams of random numbers."""

NUM_HELD_OUT = 2000
"""Events for validation, and as many for the test."""

PREDICTIONS = "predictions.npz"
"""File of the predictions for the test events."""

_FAST_SHARE = 0.8  # of the iterations: the first stage of the training
_EVENTS_PER_FILE = 2000
_START = 10_000.0  # ns from the start of the readout to time 0
_CONFIG = Path(__file__).with_name("limit_network.yaml")
_REPOSITORY = Path(__file__).resolve().parents[2]


def pulses_of(sample: Sample) -> Pulses:
    """Each photo-electron as a pulse of 1 PE."""
    light = sample.photoelectrons
    flags = np.full(len(light.dom), LOCAL_COINCIDENCE | ATWD, dtype=np.uint8)
    columns = (light.event, light.dom, light.time + _START, light.weight)
    return Pulses(light.num_events, *columns, flags)


def labels_of(sample: Sample) -> dict[str, NDArray[np.float64]]:
    """Energy and direction [n]."""
    direction = sample.truth.direction.numpy()
    zenith, azimuth = angles_of(direction)
    return {
        "EnergyVisible": 10 ** sample.truth.log_energy.numpy(),
        **{f"PrimaryDirection{axis}": direction[:, i] for i, axis in enumerate("XYZ")},
        "PrimaryZenith": zenith,
        "PrimaryAzimuth": azimuth,
    }


def write(kind: Kind, num: int, seed: list[int], path: Path) -> None:
    """A file of events, unless it is there."""
    if path.exists():
        return
    settings = SimulationSettings().data_settings
    hits, offsets, labels = [], [], []
    for sample in samples(kind, num, seed):
        features = features_of(pulses_of(sample), settings)
        hits.append(features.hits)
        offsets.append(features.time_offset)
        labels.append(labels_of(sample))
    ids = np.zeros(num, dtype=EVENT_ID)
    ids["Run"], ids["Event"] = seed[-1], np.arange(num)
    table = {name: np.concatenate([part[name] for part in labels]) for name in labels[0]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_beside(path) as folder:
        write_input_tables(
            folder / path.name,
            ids,
            np.concatenate(offsets),
            join_hits(hits),
            tables={LABEL_TABLE: table},
            data_settings=settings,
        )
        (folder / path.name).replace(path)


def simulate(kind: Kind, num: int, seed: int, folder: Path) -> None:
    """The files of all events; those of the test have one file, those of training several."""
    for name, stream in (("validation", VALIDATION), ("test", TEST)):
        write(kind, NUM_HELD_OUT, [seed, stream], folder / name / "events.hdf5")
    for number in range(-(-num // _EVENTS_PER_FILE)):
        part = min(_EVENTS_PER_FILE, num - number * _EVENTS_PER_FILE)
        path = folder / "train" / f"events_{number:05d}.hdf5"
        write(kind, part, [seed, TRAIN, number], path)
        print(f"\r{kind.name}: {number * _EVENTS_PER_FILE + part:,} events", end="", flush=True)
    print()


def train(folder: Path, iterations: int, threads: int) -> None:
    """Run the commands of a training in a folder."""
    text = _CONFIG.read_text(encoding="utf-8")
    fast = round(_FAST_SHARE * iterations)
    numbers = {"@TOTAL@": iterations, "@FAST@": fast, "@FULL@": iterations - fast}
    for name, number in numbers.items():
        text = text.replace(name, str(number))
    config = folder / _CONFIG.name
    config.write_text(text, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(_REPOSITORY)}
    steps = [["train", f"--num-threads={threads}"]]
    if not (folder / "trafo_models").exists():
        steps.insert(0, ["trafo"])
    for words in steps:
        command = [sys.executable, "-m", "dnn_reco", *words, config.name]
        status = subprocess.run(command, cwd=folder, env=environment, check=False).returncode
        if status:
            sys.exit(status)


def apply(folder: Path) -> None:
    """Predict the test events: density, mean and concentration of directions, log10 of energies."""
    os.chdir(folder)  # paths in the config are relative
    config = load_config(_CONFIG.name)
    events = open_events("events/test/events.hdf5", config)
    found = predict(load_model(config, device="cpu"), events.hits)
    direction = np.stack([found[f"PrimaryDirection{axis}"] for axis in "XYZ"], axis=1)
    width = np.stack([found[f"PrimaryDirection{axis}_uncertainty"] for axis in "XYZ"], axis=1)
    assert found.shapes is not None
    path = Path(PREDICTIONS)
    with temporary_beside(path) as temporary:
        np.savez(
            temporary / path,
            direction=unit_vectors(direction),
            direction_components=found.shapes.of("direction"),
            concentration=2 / (width**2).sum(axis=1),
            log_energy=np.log10(found["EnergyVisible"]),
            log_energy_width=found["EnergyVisible_log_uncertainty"] / np.log(10),
        )
        (temporary / path).replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--out", type=Path, default=Path("limit"))
    parser.add_argument("--events", type=int, default=100_000, help="for training")
    parser.add_argument("--iterations", type=int, default=30_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    folder = options.out / options.kind
    simulate(KINDS[options.kind], options.events, options.seed, folder / "events")
    train(folder, options.iterations, options.threads)
    apply(folder)


if __name__ == "__main__":
    main()
