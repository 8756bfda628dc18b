"""The TensorFlow version of dnn_reco on this machine: the figures to compare ours with.

Measured are unpatched clones of dnn_reco and TFScripts (both https://github.com/icecube/…) with the
config of their tutorial: 5 kernels a layer, 9 features, batches of 32. They need an environment of
their own; `tf_keras` goes last, as it would bring a second build of TensorFlow::

    git clone https://github.com/icecube/dnn_reco CODE/dnn_reco
    git clone https://github.com/icecube/TFScripts CODE/TFScripts
    python3.11 -m venv TF
    TF/bin/pip install 'tensorflow-cpu==2.16.*' 'numpy<2' 'setuptools<81' pandas tables h5py \
        ruamel.yaml click uncertainties tqdm matplotlib gitpython
    TF/bin/pip install --no-deps 'tf_keras==2.16.*'
    TF/bin/python benchmarks/reference.py --code CODE --source REAL --json reference.json

REAL is an event file of the collaboration, whose events are repeated to 2,000. `--parts` selects:
`step` and `predict` compute in memory (`--beside 1`: also while another program runs), `read` reads
one file in one process, `count`, `trafo` and `train` are whole commands, which read with one job
(`--jobs`; on two cores, the tutorial's three are slower and need more memory). Calls with one
`--folder` share event files and transformation model (`--parts` alone only writes event files).
`--json FILE` adds rows to FILE: name → unit, median, 10 % and 90 % quantiles, number of values.
"""

import argparse
import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

PREFIX = "dnn_data_inputs9_InIceDSTPulses"
TABLES = ("bin_values", "bin_indices", "global_time_offset")
BATCH_SIZE = 32
PREDICTED_BATCHES = (1, 32, 256)
ITERATIONS = 120
SCRIPTS = {"count": "count_number_of_events", "trafo": "create_trafo_model", "train": "train_model"}
PARTS = ("step", "predict", "read", *SCRIPTS)

Row = dict[str, Any]
Rows = dict[str, Row]


def row(values: list[float], unit: str) -> Row:
    low, median, high = (float(value) for value in np.quantile(values, [0.1, 0.5, 0.9]))
    return {"unit": unit, "median": median, "low": low, "high": high, "values": len(values)}


def repeat_events(source: Path, path: Path, num_events: int) -> None:
    """Write a file of `num_events` with the tutorial's tables and their indices, like `source`."""
    import tables
    from numpy.lib.recfunctions import repack_fields

    names = {f"{PREFIX}_{end}": f"dnn_data_{end}" for end in TABLES}
    names["LabelsDeepLearning"] = "LabelsDeepLearning"
    filters = tables.Filters(complevel=6, complib="zlib", shuffle=True)
    partial = path.with_suffix(".partial")
    with tables.open_file(source) as old, tables.open_file(partial, "w", filters=filters) as new:
        for old_name, name in names.items():
            rows = repack_fields(old.get_node(f"/{old_name}").read())
            index = repack_fields(old.get_node(f"/__I3Index__/{old_name}").read())
            index = index[np.arange(num_events) % len(index)]
            rows = np.concatenate([rows[a:b] for a, b in index[["start", "stop"]].tolist()])
            counts = (index["stop"] - index["start"]).astype(int)
            rows["Event"] = np.repeat(np.arange(num_events), counts)
            index["Event"] = np.arange(num_events)
            index["stop"] = np.cumsum(counts)
            index["start"] = index["stop"] - counts
            new.create_table("/", name, obj=rows)
            new.create_table("/__I3Index__", name, obj=index, createparents=True)
    partial.rename(path)


def write_config(code: Path, folder: Path, jobs: int) -> Path:
    """The tutorial's config with files in `folder`: 20 batches for the transformation model."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    config = yaml.load(code / "dnn_reco" / "configs" / "tutorial" / "getting_started.yaml")
    for key in ("training", "trafo", "validation", "test"):
        config[f"{key}_data_file"] = [str(folder / "events.hdf5")]
    config |= {
        "log_path": str(folder / "logs" / "run"),
        "model_checkpoint_path": str(folder / "checkpoints" / "model"),
        "trafo_model_path": str(folder / "trafo" / "model.npy"),
        "trafo_num_batches": 20,
        "num_jobs": jobs,
        "trafo_num_jobs": jobs,
        "num_training_iterations": ITERATIONS,
    }
    path = folder / "reference.yaml"
    yaml.dump(config, path)
    return path


def data_handler(config_file: Path, events_file: Path, threads: int) -> tuple[Any, Any]:
    """Their config and data handler."""
    from dnn_reco.data_handler import DataHandler
    from dnn_reco.settings.setup_manager import SetupManager

    config = SetupManager([str(config_file)], num_threads=threads).get_config()
    handler = DataHandler(config)
    handler.setup_with_test_data(str(events_file))
    return config, handler


def make_model(config_file: Path, threads: int, is_training: bool) -> tuple[Any, Any]:
    """Their network, with the transformation of some events, and these events."""
    from dnn_reco.data_trafo import DataTransformer

    from dnn_reco import misc

    events_file = config_file.parent / "few_events.hdf5"
    config, handler = data_handler(config_file, events_file, threads)
    events = handler.read_icecube_data(str(events_file))
    names = ["treat_doms_equally", "norm_constant"]
    for kind in ("dom", "label", "misc"):
        names += [f"normalize_{kind}_data", f"log_{kind}_bins"]
    settings = {name: config[f"trafo_{name}"] for name in names}
    transformer = DataTransformer(data_handler=handler, **settings)
    transformer.create_trafo_model_iteratively(iter([events]), 1)
    model = misc.load_class(config["model_class"])(
        config=config,
        data_handler=handler,
        data_transformer=transformer,
        **(config["model_kwargs"] | {"is_training": is_training}),
    )
    model.compile()
    return model, events


@contextlib.contextmanager
def busy_programs(count: int) -> Iterator[None]:
    """Run other single-threaded programs meanwhile, which never wait."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in others:
            process.kill()
            process.wait()


def step_rates(
    name: str, step: Callable[[], object], num_events: int, options: argparse.Namespace
) -> Rows:
    """Rates of single steps, alone and beside other single-threaded programs."""
    rows = {}
    for count in sorted({0, options.beside}):
        with busy_programs(count):
            for _ in range(3):
                step()
            rates = []
            end = time.perf_counter() + options.seconds
            while (start := time.perf_counter()) < end:
                step()
                rates.append(num_events / (time.perf_counter() - start))
        rows[f"{name}, beside {count}" if count else name] = row(rates, "events/s")
    return rows


def measure_step(config_file: Path, options: argparse.Namespace) -> Rows:
    model, events = make_model(config_file, options.threads, True)
    batch = [values[:BATCH_SIZE] for values in events]

    def step() -> None:
        # Their training loop reads these values after each step.
        model.perform_training_step(data_batch=batch)["mse_values_trafo"].numpy()

    start = time.perf_counter()
    step()
    first = time.perf_counter() - start
    rows = {"weights": row([float(model._count_number_of_variables()[0])], "")}
    rows["step, first"] = row([first], "s")
    return rows | step_rates("step", step, BATCH_SIZE, options)


def measure_predict(config_file: Path, options: argparse.Namespace) -> Rows:
    model, (x_ic78, x_deepcore, *_) = make_model(config_file, options.threads, False)
    rows: Rows = {}
    for size in PREDICTED_BATCHES:
        predict = partial(model.predict, x_ic78[:size], x_deepcore[:size])
        rows |= step_rates(f"predict, batch {size}", predict, size, options)
    return rows


def measure_read(config_file: Path, options: argparse.Namespace) -> Rows:
    events_file = config_file.parent / "events.hdf5"
    _, handler = data_handler(config_file, events_file, 1)
    rates = []
    for _ in range(options.repeat):
        start = time.perf_counter()
        num_events = len(handler.read_icecube_data(str(events_file))[0])
        rates.append(num_events / (time.perf_counter() - start))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"read": row(rates, "events/s"), "read, peak memory": row([peak], "MiB")}


def available_memory() -> float:
    """MiB that programs on this machine could still use."""
    return int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]) / 1024


class Run(NamedTuple):
    """A finished program: its lines and when they came, its duration and peak memory [MiB]."""

    lines: list[tuple[float, str]]
    seconds: float
    largest: float  # process
    together: float  # how much less the machine had, other programs included

    def when(self, pattern: str) -> tuple[float, str]:
        """Time of the first line that matches, and the group in it."""
        for seconds, line in self.lines:
            if match := re.search(pattern, line):
                return seconds, match[1]
        raise SystemExit(f"no line with '{pattern}' in the output of the command")


def variables(code: Path) -> dict[str, str]:
    """Environment variables for programs of the TensorFlow version."""
    return {
        "PYTHONPATH": f"{code / 'dnn_reco'}{os.pathsep}{code / 'TFScripts'}",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TF_USE_LEGACY_KERAS": "1",
    }


def run(words: list[str], folder: Path, variables: dict[str, str]) -> Run:
    """Run Python with these words in a folder, and wait for its end."""
    environment = os.environ | variables | {"PYTHONUNBUFFERED": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    place: dict[str, Any] = {"cwd": folder, "env": environment, "start_new_session": True}
    lines, available, done = [], [available_memory()], threading.Event()
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *words], **place, **pipes)

    def watch() -> None:
        # A signal to this thread would not wake the other one, which reads.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        while not done.wait(0.2):
            available.append(available_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for line in process.stdout or ():
            lines.append((time.perf_counter() - start, line))
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    finally:
        done.set()
        watcher.join()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit("".join(line for _, line in lines[-40:]))
    return Run(lines, seconds, usage.ru_maxrss / 1024, available[0] - min(available))


def measure_command(part: str, config_file: Path, options: argparse.Namespace) -> Rows:
    train = part == "train"
    if train and not (config_file.parent / "trafo" / "model.npy").exists():
        measure_command("trafo", config_file, options)
    words = [f"{options.code}/dnn_reco/dnn_reco/{SCRIPTS[part]}.py", str(config_file)]
    words += ["--num_threads", str(options.threads)] if train else []
    count = 1 if train else options.repeat
    runs = [run(words, config_file.parent, variables(options.code)) for _ in range(count)]
    rows = {
        part: row([run.seconds for run in runs], "s"),
        f"{part}, peak memory": row([run.largest for run in runs], "MiB"),
        f"{part}, peak memory of all": row([run.together for run in runs], "MiB"),
    }
    return rows | (loop_rows(runs[0]) if train else {})


def loop_rows(train: Run) -> Rows:
    # The last line before the loop. `Runtime` counts from the start of the loop to the end of the
    # step, but the line with it comes after the validation that follows the step.
    start, _ = train.when("(Could not find previous checkpoint)")
    printed, first = train.when(r"Step: 0+, Runtime: ([\d.]+)s")
    _, last = train.when(r"Step: 0*100, Runtime: ([\d.]+)s")
    events, first_step, end = 100 * BATCH_SIZE, start + float(first), start + float(last)
    return {
        "train, end of first step": row([first_step], "s"),
        "train, steps 1 to 100": row([events / (end - first_step)], "events/s"),
        "train, without first validation": row([events / (end - printed)], "events/s"),
    }


def measure(part: str, config_file: Path, options: argparse.Namespace) -> Rows:
    """Rows of a part; those in memory are measured in a process of their own."""
    if part in SCRIPTS:
        return measure_command(part, config_file, options)
    result = config_file.parent / "rows.json"
    words = [str(Path(__file__).resolve()), *sys.argv[1:], "--worker", part, str(config_file)]
    run([*words, str(result)], config_file.parent, variables(options.code))
    return dict(json.loads(result.read_text()))


IN_MEMORY = {"step": measure_step, "predict": measure_predict, "read": measure_read}


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--code", type=Path, required=True, help="folder of the clones dnn_reco and TFScripts")
    add("--source", type=Path, required=True, help="event file whose events are repeated")
    add("--parts", nargs="*", choices=PARTS, default=PARTS)
    add("--threads", type=int, default=2, help="of step, predict and train")
    add("--beside", type=int, default=0, help="other programs during step and predict")
    add("--seconds", type=float, default=8, help="for each rate of step and predict")
    add("--jobs", type=int, default=1, help="processes that read, in trafo and train")
    add("--repeat", type=int, default=3, help="of read, count and trafo")
    add("--folder", type=Path, help="folder for files to use again")
    add("--json", type=Path, help="file for the rows")
    add("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for path in (options.code, options.source):
        if not path.exists():
            parser.error(f"'{path}' does not exist")
    return options


def main() -> None:
    options = parse_options()
    if options.worker:
        part, config_file, result = options.worker
        Path(result).write_text(json.dumps(IN_MEMORY[part](Path(config_file), options)))
        return
    # So that the running command is ended, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options.code, options.source = options.code.resolve(), options.source.resolve()
    rows: Rows = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for name, count in (("events", 2000), ("few_events", max(PREDICTED_BATCHES))):
            path = folder / f"{name}.hdf5"
            if not path.exists():
                repeat_events(options.source, path, count)
        config_file = write_config(options.code, folder, options.jobs)
        for part in options.parts:
            rows |= measure(part, config_file, options)
    print(f"{'':32} {'':8} {'median':>10} {'10 %':>10} {'90 %':>10} {'values':>6}")
    for name, (unit, *numbers, count) in ((name, row.values()) for name, row in rows.items()):
        print(f"{name:32} {unit:8}", *(f"{number:10,.1f}" for number in numbers), f"{count:6}")
    if options.json:
        old = json.loads(options.json.read_text()) if options.json.exists() else {}
        options.json.write_text(json.dumps(old | rows, indent=1))


if __name__ == "__main__":
    main()
