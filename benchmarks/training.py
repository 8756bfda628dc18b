"""The command `train`: start-up to the end of the first step, events per second, memory.

    python benchmarks/training.py --source '/data/*.hdf5' [--device cuda] [--batch_size 1024]

The tutorial's network with 5 kernels per layer, batch 32. The event store exists before the
measurement, as in every call except the first.
"""

import argparse
import re
import tempfile
from pathlib import Path

from made_up_run import REPOSITORY, make_run
from reference import Run, run


def run_command(config_file: Path, *arguments: str) -> Run:
    """Run a command of this checkout in the folder of its config."""
    words = ["-m", "dnn_reco", *arguments, str(config_file)]
    return run(words, config_file.parent, {"PYTHONPATH": str(REPOSITORY)})


def steady_rate(command: Run, batch_size: int) -> float:
    """Events per second between the first and the last validation."""
    output = "".join(line for _, line in command.lines)
    steps = re.findall(r"Step: (\d+), Runtime: ([\d.]+)s", output)
    (first, start), (last, end) = steps[0], steps[-1]
    return (int(last) - int(first)) * batch_size / (float(end) - float(start))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", help="glob of HDF5 files to read")
    parser.add_argument("--iterations", type=int, default=301)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--filters", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    changes = {
        "trafo_num_batches": 20,
        "batch_size": options.batch_size,
        "model_save_model": False,
        "validation_frequency": 100,
        "validation_events": 0,
    }
    with tempfile.TemporaryDirectory() as name:
        config_file = make_run(Path(name), options.source, options.filters, **changes)
        run_command(config_file, "trafo")
        device = f"--device={options.device}"
        first_step = ("train", device, "--allow-overlap", "--iterations=1")
        run_command(config_file, *first_step)
        seconds = run_command(config_file, *first_step).seconds
        print(f"start of `train` to the end of its first step, and out: {seconds:.1f} s")
        iterations = f"--iterations={options.iterations}"
        words = ["train", device, "--allow-overlap", "--print-format=reference", iterations]
        train = run_command(config_file, *words)
        rate, peak = steady_rate(train, options.batch_size), train.largest
        print(f"training, batch {options.batch_size}: {rate:,.0f} events/s, peak {peak:.0f} MiB")


if __name__ == "__main__":
    main()
