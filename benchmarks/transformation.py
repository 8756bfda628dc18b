"""Fitting the transformation model: events per second, and the whole command on 64 events.

    python benchmarks/transformation.py --source '/data/*.hdf5'

Without `--source` random events with about 300 hits each are created.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from made_up_run import make_run

from dnn_reco.config import load_config
from dnn_reco.data.build import open_events
from dnn_reco.data.from_config import transform_settings
from dnn_reco.event_sources import event_store
from dnn_reco.files import find_files
from dnn_reco.transform import TransformFit

BLOCK = 256


def fit_rate(config_file: Path, num_events: int) -> float:
    """Events per second of the fit, with the events in memory."""
    config = load_config([config_file])
    files = find_files(config.data_files.trafo_data_file, "trafo_data_file")
    events = open_events(event_store(config, None), files, 1)
    blocks = [
        events.read(np.arange(start, min(start + BLOCK, len(events))))
        for start in range(0, len(events), BLOCK)
    ]
    fit = TransformFit(transform_settings(config, events.names), np.zeros(9))
    start = time.perf_counter()
    while fit.num_events < num_events:
        for block in blocks:
            fit.add(block.hits.dom, block.hits.features, block.labels, block.misc)
    fit.result()
    return fit.num_events / (time.perf_counter() - start)


def command_seconds(config_file: Path, folder: Path) -> float:
    """Wall time of `dnn-reco trafo`, including reading of the files to a new event store."""
    shutil.rmtree(folder / "fresh_store", ignore_errors=True)
    command = [sys.executable, "-m", "dnn_reco", "trafo", str(config_file), "--log-level=ERROR"]
    start = time.perf_counter()
    subprocess.run(
        [*command, "--overwrite", "--cache-dir", str(folder / "fresh_store")],
        check=True,
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", help="glob of HDF5 files to read")
    parser.add_argument("--events", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config_file = make_run(folder, options.source, trafo_num_batches=2)
        print(f"whole command on 64 events: {command_seconds(config_file, folder):.2f} s")
        print(f"fit: {fit_rate(config_file, options.events):,.0f} events/s in one thread")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
