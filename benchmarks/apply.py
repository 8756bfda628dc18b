"""Speed of `dnn-reco apply` beside reading and predicting alone, and its memory by events.

Run as: python benchmarks/apply.py --source FILE

FILE is an event file with 9 features a DOM, whose events are repeated to files of 2,000; without
FILE random events are used. The network is the tutorial's (5 kernels a layer, not trained).
*Reading* is one process with one thread, *predicting* one with --threads threads and all hits in
memory, *apply* the command with as many --num-threads, from HDF5 to HDF5: the time of further
files in a longer call, without the start. Each case is a process of its own, and all are repeated
in turn. On a busy machine the CPU times say more: milliseconds for an event, predicting with one
thread.

With --memory the peak memory of a call with one job is printed for 10^3, 10^4 and 10^5 events, in
links to one file of 1,000, with a smaller network.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from hdf5_reading import make_file, peak_memory
from made_up_run import make_run

BATCH_SIZE = 256
FEW_FILES = 2


def make_model(folder: Path, source: str, small: bool = False) -> Path:
    """A model folder of the tutorial's network with random weights, or of a smaller one."""
    import torch
    from small_run import MODEL_KWARGS

    from dnn_reco.commands.trafo import run_trafo
    from dnn_reco.config import load_config
    from dnn_reco.inference.model_folder import Member, contents_of, write_model_folder
    from dnn_reco.nn.from_config import make_network, network_spec
    from dnn_reco.run_options import RunOptions
    from dnn_reco.transform import load_transformation

    changes = {"model_kwargs": MODEL_KWARGS} if small else {}
    path = make_run(folder, source, misc_load_dict={}, trafo_num_batches=10, **changes)
    config = load_config([path])
    run_trafo(config, RunOptions(device="cpu"), overwrite=True)
    transformation = load_transformation(Path(config.trafo.trafo_model_path))
    network = make_network(config, network_spec(config, transformation), torch.device("cpu"))
    member = Member(network.state_dict(), transformation, config)
    write_model_folder(folder / "model", contents_of([member], "a benchmark"))
    return folder / "model"


def add_labels(path: Path) -> None:
    """Give the events a table of labels, for the transformation model."""
    import h5py
    from event_files import random_events

    with h5py.File(path, "r+") as file:
        ids = file["dnn_data_global_time_offset"][()]
        labels = random_events(0, len(ids), mean_hits=1.0).labels
        labels["LengthInDetector"] = labels["EnergyVisible"]
        header = [(name, ids.dtype[name]) for name in ids.dtype.names if name != "value"]
        table = np.zeros(len(ids), dtype=[*header, *((name, "f8") for name in labels)])
        for name in table.dtype.names:
            table[name] = labels[name] if name in labels else ids[name]
        file["LabelsDeepLearning"] = table


# --------------------------------------------------------------------------------------------------
# Cases, each in a process of its own
# --------------------------------------------------------------------------------------------------
class Clock:
    """Time since it was made."""

    def __init__(self) -> None:
        self.start, self.cpu_start = time.perf_counter(), time.process_time()

    def print(self, num_events: int) -> None:
        """Print events/s, and milliseconds of CPU time for an event."""
        seconds = time.perf_counter() - self.start
        print(num_events / seconds, 1e3 * (time.process_time() - self.cpu_start) / num_events)


def read(model: Path, data: Path, threads: int) -> None:
    from dnn_reco import Reconstructor
    from dnn_reco.event_sources import read_events

    settings = Reconstructor(model, "cpu", threads).hits_settings
    paths = sorted(data.glob("*.hdf5"))
    clock = Clock()
    clock.print(sum(len(read_events(path, settings).ids) for path in paths))


def predict(model: Path, data: Path, threads: int) -> None:
    from dnn_reco import Reconstructor
    from dnn_reco.event_sources import read_events

    reconstructor = Reconstructor(model, "cpu", threads, batch_size=BATCH_SIZE)
    events = read_events(min(data.glob("*.hdf5")), reconstructor.hits_settings)
    reconstructor.predict(events.hits.part(0, BATCH_SIZE))
    clock = Clock()
    reconstructor.predict_events(events)
    clock.print(len(events.ids))


def memory(model: Path, data: Path, threads: int) -> None:
    sys.argv = ["dnn-reco", *apply_words(model, data, "*", threads), "--jobs", "1"]
    from dnn_reco.cli import main

    try:
        main()
    except SystemExit as leaving:
        if leaving.code:
            raise
    print(peak_memory())


CASES = {"read": read, "predict": predict, "memory": memory}


def run_case(case: str, model: Path, data: Path, threads: int) -> list[float]:
    """The numbers that a case prints last."""
    words = [sys.executable, __file__, "--case", case, str(model), str(data)]
    last = run([*words, "--threads", str(threads)], threads).splitlines()[-1]
    return [float(word) for word in last.split()]


def run(words: list[str], threads: int) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "GOMP_SPINCOUNT": "20000"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def apply_words(model: Path, data: Path, pattern: str, threads: int) -> list[str]:
    words = ["apply", str(model), "--input", f"{data}/{pattern}.hdf5", "--out"]
    words += [tempfile.mkdtemp(dir=data.parent), "--device", "cpu", "--num-threads", str(threads)]
    return [*words, "--batch-size", str(BATCH_SIZE)]


def seconds_of_apply(model: Path, data: Path, pattern: str, threads: int) -> tuple[float, float]:
    """Time of a whole call, and CPU time of all its processes."""
    words = apply_words(model, data, pattern, threads)
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    run([sys.executable, "-m", "dnn_reco", *words], threads)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, cpu


def print_rates(folder: Path, options: argparse.Namespace) -> None:
    first = folder / "data" / "00.hdf5"
    first.parent.mkdir()
    make_file(first, options.source, options.prefix, options.events)
    add_labels(first)
    for number in range(1, FEW_FILES + options.files):
        os.link(first, first.with_name(f"{number:02d}.hdf5"))
    model, data, threads = make_model(folder, str(first)), first.parent, options.threads
    further = options.files * options.events
    titles = ("reading", "predicting", "apply")
    columns = [f"{title:>11}" for title in titles] + [f"{'apply / slower':>16}"]
    print("events/s" + "".join(columns) + "    CPU ms" + "".join(columns[:3]), flush=True)
    for _ in range(options.repeat):
        rates, cpu = zip(
            *(run_case(case, model, data, threads) for case in ("read", "predict")), strict=True
        )
        cpu = [cpu[0], run_case("predict", model, data, 1)[1]]
        few = seconds_of_apply(model, data, f"0[0-{FEW_FILES - 1}]", threads)
        many = seconds_of_apply(model, data, "*", threads)
        rates = [*rates, further / (many[0] - few[0])]
        cpu.append(1e3 * (many[1] - few[1]) / further)
        shown = "".join(f"{rate:11,.0f}" for rate in rates)
        spent = "".join(f"{each:11.3f}" for each in cpu)
        print(f"{'':8}{shown}{rates[2] / min(rates[:2]):16.2f}{'':10}{spent}", flush=True)


def print_memory(folder: Path, options: argparse.Namespace) -> None:
    first = folder / "first.hdf5"
    make_file(first, options.source, options.prefix, 1000)
    add_labels(first)
    model = make_model(folder, str(first), small=True)
    print("    events   peak [MB]", flush=True)
    for num_files in (1, 10, 100):
        data = folder / f"data_{num_files}"
        data.mkdir()
        for number in range(num_files):
            os.link(first, data / f"{number:03d}.hdf5")
        (peak,) = run_case("memory", model, data, options.threads)
        print(f"{1000 * num_files:10,} {peak:11.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--source", type=Path, help="event file whose events are repeated")
    parser.add_argument("--prefix", default="dnn_data", help="name of the input tables in it")
    parser.add_argument("--events", type=int, default=2000, help="events of a file")
    parser.add_argument("--files", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        case, model, data = options.case
        CASES[case](Path(model), Path(data), options.threads)
        return
    with tempfile.TemporaryDirectory() as name:
        (print_memory if options.memory else print_rates)(Path(name), options)


if __name__ == "__main__":
    main()
