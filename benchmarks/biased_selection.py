"""Cost of biased selection: events/s of `train` without it, and with cuts on labels or predictions.

    python benchmarks/biased_selection.py --source '/data/*.hdf5' [--device cuda] [--max_size 1024]

The tutorial's network with 5 kernels per layer; pools of one file, each selected event is used
three times. Without `--source` two files of 1,000 random events are created. A pool takes the time
to predict it, however few of its events are selected: the rarer the interesting ones, the slower.
"""

import argparse
import tempfile
from pathlib import Path

from made_up_run import make_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training import run_command, steady_rate

SELECTIONS: dict[str, dict[str, object] | None] = {
    "no biased selection": None,
    "by label, a tenth": {"label_less": {"PrimaryZenith": 0.6435}},
    "by label, a hundredth": {"label_less": {"PrimaryZenith": 0.2003}},
    "by prediction, off by 1.5 deviations": {"cut_abs_diff_trafo": {"EnergyVisible": 1.5}},
    "by prediction, off by 2.5 deviations": {"cut_abs_diff_trafo": {"EnergyVisible": 2.5}},
}


def logged(folder: Path) -> str:
    """Mean fraction of interesting events, and of time for the selection, as logged by the run."""
    log = EventAccumulator(str(folder / "logs" / "train"))
    log.Reload()
    tags = [f"biased_selection/{name}" for name in ("interesting_share", "share_of_time")]
    if tags[0] not in log.Tags()["scalars"]:
        return ""
    shares = [point.value for point in log.Scalars(tags[0])]
    time = log.Scalars(tags[1])[-1].value
    return f"{sum(shares) / len(shares):>10.1%} interesting, {time:>6.1%} of time selecting"


def measure(folder: Path, selection: dict[str, object] | None, options: argparse.Namespace) -> str:
    """Events per second of one training in `folder`, and the statistics of its selection."""
    if selection is not None:
        selection = {"biased_fraction": 0.5, "max_size": options.max_size, **selection}
    config_file = make_run(
        folder,
        options.source,
        trafo_num_batches=20,
        batch_size=options.batch_size,
        model_save_model=False,
        validation_frequency=20,
        num_add_files=0,
        num_repetitions=3,
        nn_biased_selection=selection,
    )
    run_command(config_file, "trafo", "--overwrite")
    device, iterations = f"--device={options.device}", f"--iterations={options.iterations}"
    words = ["train", device, "--allow-overlap", "--print-format=reference", iterations]
    train = run_command(config_file, *words)
    return f"{steady_rate(train, options.batch_size):>8,.0f} events/s {logged(folder)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", help="glob of HDF5 files to read")
    parser.add_argument("--iterations", type=int, default=201)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--max_size", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    for name, selection in SELECTIONS.items():
        with tempfile.TemporaryDirectory() as folder:
            print(f"{name:<40}{measure(Path(folder), selection, options)}", flush=True)


if __name__ == "__main__":
    main()
