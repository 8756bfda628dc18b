"""Simulated events per second on one core, by flavor and by step.

Energies from 1 to 100 TeV, equally many in each decade. Rates include events that do not trigger,
except the last one, that of whole files::

    python benchmarks/simulation.py
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from dnn_reco.data.features import dom_features
from dnn_reco.simulation.dataset import PlannedFile, write_file
from dnn_reco.simulation.detector import icecube86
from dnn_reco.simulation.light import sample_photoelectrons
from dnn_reco.simulation.response import ResponseSettings, detect
from dnn_reco.simulation.settings import SimulationSettings, load_settings
from dnn_reco.simulation.truth import simulate_particles

FLAVORS = ("nue", "numu", "nutau", "mixed", "muon")
BLOCK = 100


def settings_of(flavor: str) -> SimulationSettings:
    return load_settings(None, {"flavor": flavor, "energy": (1e3, 1e5), "spectral_index": 1})


def milliseconds_by_step(flavor: str, num_blocks: int) -> list[float]:
    """Milliseconds per event for particles, light, detector and features."""
    settings, detector = settings_of(flavor), icecube86()
    rng = np.random.default_rng(1)
    times = np.zeros(4)
    for block in range(num_blocks + 1):
        clock = [time.perf_counter()]
        _, sources = simulate_particles(settings, BLOCK, rng)
        clock.append(time.perf_counter())
        light = sample_photoelectrons(sources, detector.efficiency, rng)
        clock.append(time.perf_counter())
        detected = detect(light, detector, ResponseSettings(), rng)
        clock.append(time.perf_counter())
        dom_features(detected.pulses)
        clock.append(time.perf_counter())
        if block > 0:  # the first one fills tables
            times += np.diff(clock)
    return [float(1e3 * t / num_blocks / BLOCK) for t in times]


def files_per_second(flavor: str, num_events: int) -> tuple[float, float]:
    """Triggered events per second of whole files, and their size in kB per event."""
    with tempfile.TemporaryDirectory() as folder:
        file = PlannedFile(Path(folder) / "events.hdf5", 0, num_events)
        start = time.perf_counter()
        write_file(settings_of(flavor), file)
        return num_events / (
            time.perf_counter() - start
        ), file.path.stat().st_size / num_events / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=10, help="blocks of 100 events")
    options = parser.parse_args()
    print("milliseconds an event   particles   light  detector  features   events/s | files")
    for flavor in FLAVORS:
        steps = milliseconds_by_step(flavor, options.blocks)
        rate, size = files_per_second(flavor, 500)
        columns = "".join(f"{step:10.2f}" for step in steps)
        print(
            f"{flavor:18s} {columns} {1e3 / sum(steps):10.0f} | {rate:.0f} events/s, {size:.1f} kB"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory: {peak:.0f} MiB")


if __name__ == "__main__":
    main()
