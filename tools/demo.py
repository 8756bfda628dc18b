"""`make demo`: the steps of the tutorial, on events made on the spot, in the folder `demo/`.

The events are point-like flashes in the ice whose light thins out with the distance: a toy that
shares the file format and the geometry with the real thing, and from which an energy can be learnt.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.hdf5 import EVENT_ID, write_input_tables
from dnn_reco.detector.geometry import dom_positions

REPOSITORY = Path(__file__).resolve().parent.parent
HOME = REPOSITORY / "demo"
ITERATIONS = 301
EVENTS_PER_FILE = 1000

LIGHT_SPEED_IN_ICE = 0.299792458 / 1.35  # m / ns
ATTENUATION = 40.0  # m
PHOTONS_PER_GEV = 0.4  # that would reach a DOM from 1 m away, were there no ice between


def flashes(
    rng: np.random.Generator, num_events: int
) -> tuple[list[NDArray[np.int64]], NDArray[np.float32], dict[str, NDArray[np.float64]]]:
    """Hit DOMs of each event, the nine features of all hits [k, 9], and the labels [n] by name."""
    energy = 10.0 ** rng.uniform(2.5, 5.0, num_events)
    vertex = rng.uniform(-450.0, 450.0, (num_events, 3))
    hit_doms, features = [], []
    for i in range(num_events):
        distance = np.maximum(np.linalg.norm(dom_positions() - vertex[i], axis=1), 1.0)
        expected = PHOTONS_PER_GEV * energy[i] * np.exp(-distance / ATTENUATION) / distance
        charge = rng.poisson(np.minimum(expected, 1e4)) + (rng.random(len(distance)) < 0.002)
        dom = np.flatnonzero(charge)
        first = distance[dom] / LIGHT_SPEED_IN_ICE + rng.exponential(20.0, len(dom))
        spread = distance[dom]  # scattered light comes late, the later the longer its way [ns]
        charges = np.outer(charge[dom], [1.0, 0.9, 0.6])
        times = first[:, None] + np.outer(spread, [0.0, 0.2, 0.5, 3.0, 1.0])
        hit_doms.append(dom)
        features.append(np.column_stack([charges, times, spread]))
    zenith, azimuth = np.arccos(rng.uniform(-1, 1, num_events)), rng.uniform(0, 6.28, num_events)
    labels = {
        "EnergyVisible": energy,
        "PrimaryEnergy": energy * rng.uniform(1.0, 3.0, num_events),
        "PrimaryZenith": zenith,
        "PrimaryAzimuth": azimuth,
        "PrimaryDirectionX": -np.sin(zenith) * np.cos(azimuth),
        "PrimaryDirectionY": -np.sin(zenith) * np.sin(azimuth),
        "PrimaryDirectionZ": -np.cos(zenith),
        "LengthInDetector": np.zeros(num_events),
    }
    return hit_doms, np.concatenate(features).astype(np.float32), labels


def write_file(path: Path, run: int) -> None:
    """Write one file of events; the run number is also the seed."""
    hit_doms, features, labels = flashes(np.random.default_rng(run), EVENTS_PER_FILE)
    ids = np.zeros(EVENTS_PER_FILE, dtype=EVENT_ID)
    ids["Run"], ids["Event"] = run, np.arange(EVENTS_PER_FILE)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_input_tables(
        path,
        ids,
        np.full(EVENTS_PER_FILE, 9500.0),
        np.cumsum([0, *map(len, hit_doms)]),
        np.concatenate(hit_doms).astype(np.uint16),
        features,
        tables={"LabelsDeepLearning": labels},
    )


def make_config() -> Path:
    """Copy the tutorial's config, fill in DNN_HOME as its `sed` does, and make it quick.

    Half the kernels, larger steps and more validations: what is learnt in two minutes is seen.
    """
    text = (REPOSITORY / "configs" / "tutorial" / "getting_started.yaml").read_text()
    text = text.replace("{insert_DNN_HOME}", str(HOME))
    text = re.sub("num_filters_list: .*", lambda line: line[0].replace("10", "5"), text)
    text = text.replace("learning_rate: 0.001", "learning_rate: 0.003")
    text = text.replace("validation_frequency: 100", "validation_frequency: 50")
    path = HOME / "configs" / "training" / "getting_started.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def run(command: str, config: Path, *options: str) -> None:
    """Run one command, as the tutorial does, from a folder beside `data/` and `logs/`."""
    print(f"\n$ dnn-reco {command} {os.path.relpath(config, REPOSITORY)}", *options, flush=True)
    working_directory = HOME / "work"
    working_directory.mkdir(exist_ok=True)
    line = [sys.executable, "-m", "dnn_reco", command, str(config), *options]
    code = subprocess.run(line, cwd=working_directory, check=False).returncode
    if code:
        sys.exit(code)


def validation_rmse() -> list[tuple[int, float]]:
    """Iteration and RMSE of ln(1 + EnergyVisible), in units of its spread, from the logs."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = HOME.glob("logs/getting_started/*/val")
    log = EventAccumulator(str(folder)).Reload()
    return [(point.step, point.value) for point in log.Scalars("rmse/EnergyVisible")]


def main() -> None:
    """Make data; then count, trafo and train; then show what was learnt."""
    shutil.rmtree(HOME, ignore_errors=True)
    print("Making 5,000 events …")
    for file in range(4):
        write_file(HOME / f"training_data/datasets/11883/00000-00999/demo_{file:06d}.hdf5", file)
    write_file(HOME / "training_data/datasets/11883/01000-01999/demo_001000.hdf5", 1000)
    config = make_config()
    run("count", config)
    run("trafo", config)
    run("train", config, "--iterations", str(ITERATIONS))
    print(
        "\nHow well is the energy known? Error on the validation files, as a part of the spread of"
    )
    print("the energies (1: as good as always guessing the mean):")
    for iteration, rmse in validation_rmse():
        print(f"  iteration {iteration:4d}  {rmse:5.2f}  {'#' * round(40 * min(rmse, 1.5))}")
    print("\nThe curves: tensorboard --logdir demo/logs")


if __name__ == "__main__":
    main()
