"""Peak memory of reading and of training by number of events: it must be constant.

Run as: python benchmarks/memory.py --train
or, for a network that reads hits: OMP_NUM_THREADS=1 python benchmarks/memory.py --model S

The events are random, in links to one file of 1,000 events with the tutorial's tables. Each case is
a separate process that reads its events from an existing store (*read*: batches of 32 and 1024 in
random order; *train*: the tutorial's network, with --train).

With --model a transformer is trained on batches of made-up hits instead (`network_cpu.py`,
`--hits varying`), each of another shape, and the memory is printed as the iterations go on.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hdf5_reading import peak_memory

REPOSITORY = Path(__file__).resolve().parent.parent
CONFIG = REPOSITORY / "configs" / "tutorial" / "getting_started.yaml"
EVENTS_PER_FILE = 1000
HITS_PER_EVENT = 300.0
FILES = {1: "000", 10: "00?", 100: "0??"}


def make_files(folder: Path, num_files: int) -> None:
    """One file of random events, and links to it."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from event_files import random_events, write_events

    folder.mkdir(parents=True)
    first = folder / "000.hdf5"
    write_events(first, random_events(1, EVENTS_PER_FILE, mean_hits=HITS_PER_EVENT))
    for number in range(1, num_files):
        os.link(first, folder / f"{number:03d}.hdf5")


def make_config(home: Path, num_files: int) -> Path:
    """The tutorial's config for the first files."""
    text = CONFIG.read_text().replace("{insert_DNN_HOME}", str(home))
    text = re.sub(r"datasets/11883/.*?\.hdf5", f"{FILES[num_files]}.hdf5", text)
    text = text.replace("LabelsDeepLearning: LengthInDetector", "MCPrimary: energy")
    path = home / f"{num_files}_files.yaml"
    path.write_text(text.replace("trafo_num_batches: 100", "trafo_num_batches: 30"))
    return path


def read(config_file: Path, store: Path, iterations: int) -> None:
    from dnn_reco.config import load_config
    from dnn_reco.data.build import open_events
    from dnn_reco.data.loader import read_tensors
    from dnn_reco.data.sampling import EventOrder
    from dnn_reco.event_sources import event_store
    from dnn_reco.files import find_files

    config = load_config([config_file])
    files = find_files(config.data_files.training_data_file, "training_data_file")
    events = open_events(event_store(config, str(store)), files, num_jobs=2)
    order = EventOrder(events.events_per_shard, seed=1, stream="benchmark")
    for batch_size in (32, 1024):
        for number in range(iterations):
            read_tensors(events, order, number, batch_size)


def train(config_file: Path, store: Path, iterations: int) -> None:
    from dnn_reco.cli import cli

    for command in (["trafo"], ["train", "--iterations", str(iterations)]):
        more = ["--allow-overlap"] if command[0] == "train" else []
        arguments = [command[0], str(config_file), "--cache-dir", str(store), *command[1:], *more]
        with suppress(SystemExit):
            cli(arguments, standalone_mode=False)


CASES = {"read": read, "train": train}


def run_case(case: str, home: Path, config: Path, iterations: int) -> str:
    """Peak memory [MB] of a case in a separate process."""
    folder = home / f"{case}_{config.stem}" / "work"
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "--case", case, str(config), str(home / "store")]
    command += ["--iterations", str(iterations)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout.splitlines()[-1]


def varying_step(model: str, batch_size: int) -> Callable[[], object]:
    """A training step with one thread, on hits that differ from batch to batch."""
    import network_cpu
    import numpy as np

    rng = np.random.default_rng(1)
    network, loss = network_cpu.start_network(model, 5, 1, rng)
    network.train()
    return network_cpu.training_step(
        network, network, loss, lambda: network_cpu.random_hits(batch_size, rng, varying=True)
    )


def peak_of_training(model: str, batch_size: int, iterations: int) -> float:
    """Peak memory [MB] of this process after some training steps."""
    step = varying_step(model, batch_size)
    for _ in range(iterations):
        step()
    return peak_memory()


def print_growth(model: str, batch_size: int, iterations: int) -> None:
    """Train, and print the memory ten times."""
    import torch

    from dnn_reco.nn.memory import memory_in_use

    step = varying_step(model, batch_size)
    print("iterations   in use [MB]   peak [MB]   events per CPU second")
    every = max(iterations // 10, 1)
    for done in range(every, iterations + 1, every):
        start = time.process_time()
        for _ in range(every):
            step()
        rate = every * batch_size / (time.process_time() - start)
        used = memory_in_use(torch.device("cpu"))["process"]
        print(f"{done:10,} {used:13.0f} {peak_memory():11.0f} {rate:23.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--train", action="store_true", help="also train the tutorial's network")
    parser.add_argument("--model", choices=["S", "M", "L"], help="train it on varying hits")
    parser.add_argument("--batch", type=int, default=64, help="events in a batch, with --model")
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        case, config, store = options.case
        CASES[case](Path(config), Path(store), options.iterations)
        print(f"{peak_memory():.0f}")
        return

    if options.model:
        print_growth(options.model, options.batch, options.iterations)
        return

    cases = ["read", "train"] if options.train else ["read"]
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        make_files(home / "training_data", max(FILES))
        configs = {number: make_config(home, number) for number in FILES}
        run_case("read", home, configs[max(FILES)], 1)  # builds the store
        print("    events " + " ".join(f"{case + ' [MB]':>12}" for case in cases))
        for number, config in configs.items():
            peaks = [run_case(case, home, config, options.iterations) for case in cases]
            print(
                f"{number * EVENTS_PER_FILE:10,} " + " ".join(f"{peak:>12}" for peak in peaks),
                flush=True,
            )


if __name__ == "__main__":
    main()
