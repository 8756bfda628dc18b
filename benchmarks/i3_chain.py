"""Rates from .i3 files to features and training data, and from .i3 to .i3 with predictions.

Run as: python benchmarks/i3_chain.py FILE [--model MODEL] [--pulses NAME] [--seconds 3]

The Q and P frames of FILE are repeated to at least --events events, in zstd. All is done in one
process with one thread: *features* reads the file and computes the nine features of every event,
*create-data* also makes labels, if FILE has simulated particles, and writes the HDF5 file; *apply*
predicts with MODEL and writes the frames back, beside *predict* alone with the hits in memory.
Medians of as many repeats as fit into --seconds, 5 at least.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from machine import matrix_rate, median_seconds

from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data_creation.event_file import FileJob, make_event_file
from dnn_reco.data_creation.modules import modules_of
from dnn_reco.data_creation.plan import DirectOptions, plan_from_options
from dnn_reco.i3.reader import read_i3
from dnn_reco.i3.writer import write_i3
from dnn_reco.inference.frame_reading import FrameReading, read_frame_events


def repeated(source: Path, target: Path, num_events: int) -> int:
    """Write the Q and P frames of a file several times; returns the number of events."""
    frames = [frame for frame in read_i3(source, mix=False) if frame.stop in "QP"]
    of_file = sum(frame.stop == "P" for frame in frames)
    write_i3(target, frames)
    times = -(-num_events // of_file)
    # one zstd member a copy: together they would shrink to the size of one
    target.write_bytes(target.read_bytes() * times)
    return times * of_file


def feature_reading(pulses: str) -> FrameReading:
    """How to compute the nine features of pulses of this name."""
    settings = DataSettings(9, "time_range", "pulse_summmary_clipped", pulse_key=pulses)
    return FrameReading(settings, None, (0.0,) * 9, "float32")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("file", type=Path, help=".i3 file")
    parser.add_argument("--model", type=Path, help="model folder")
    parser.add_argument("--pulses", default="InIceDSTPulses")
    parser.add_argument("--events", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement")
    options = parser.parse_args()
    print(f"numpy {np.__version__}; matrix product {matrix_rate():.0f} GFLOP/s")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "events.i3.zst"
        num_events = repeated(options.file, path, options.events)
        num_pulses = [
            len(frame[options.pulses].items) for frame in read_i3(path) if frame.stop == "P"
        ]
        print(
            f"{num_events} events, {np.mean(num_pulses):.0f} pulses each, "
            f"{path.stat().st_size / num_events / 1000:.0f} kB"
        )
        reading = feature_reading(options.pulses)
        runs: dict[str, Callable[[], object]] = {
            "features": lambda: read_frame_events(path, reading)
        }
        direct = DirectOptions((str(path),), folder / "out", options.pulses)
        (planned,) = plan_from_options(direct).files
        modules = modules_of(planned.segments)
        job = FileJob((path,), folder / "made.hdf5", planned.hdf5_keys, direct.streams)
        runs["create-data"] = lambda: make_event_file(job, modules)
        if options.model:
            runs |= predictions(options, path, folder)
        for title, run in runs.items():
            rate = num_events / median_seconds(run, options.seconds)
            print(f"{title:24s} {rate:8,.0f} events/s", flush=True)


def predictions(
    options: argparse.Namespace, path: Path, folder: Path
) -> dict[str, Callable[[], object]]:
    import torch

    from dnn_reco import Reconstructor
    from dnn_reco.i3.writer import open_i3
    from dnn_reco.inference.frame_application import FrameModel, reconstruct_frames
    from dnn_reco.inference.frame_reading import frame_reading

    torch.set_num_threads(1)
    model = Reconstructor(options.model, "cpu", 1)
    reading = frame_reading(model.info, options.pulses)
    events = read_frame_events(path, reading)

    def run() -> None:
        with open_i3(folder / "written.i3.zst") as writer:
            reconstruct_frames(path, None, [FrameModel(model, reading)], 256, False, writer)

    return {"predict, in memory": lambda: model.predict_events(events), "apply, i3 to i3": run}


if __name__ == "__main__":
    main()
