"""The cases that `bench.py` measures, each in a separate process.

Torch and the package are imported by the cases that need them, so that the memory of the others
is their own.
"""

import importlib.util
import itertools
import multiprocessing
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

BATCH_SIZE = 32
KERNELS = 5  # of each layer
NETWORK: dict[str, Any] = {"model_class": "dnn_reco.modules.models.general_IC86_cnn.GeneralIC86CNN"}
"""The network that the reference is measured with: 22,935 weights."""
DATA_SETTINGS = """\
num_bins: 9
data_format: pulse_summmary_clipped
relative_time_method: time_range
pulse_key: InIceDSTPulses
"""
MANY_ITERATIONS = 100_000
I3_EVENTS = 500
SIMULATED_EVENTS = 500
FITTED_EVENTS = 100_000

Values = dict[str, list[float]]
T = TypeVar("T")


class SkippedError(Exception):
    """A case cannot be measured here."""


@dataclass(frozen=True)
class Settings:
    """What is measured, and how long.

    Attributes
    ----------
    folder
        For files of the case.
    events
        Event file with the tutorial's tables.
    i3
        `.i3` file with pulses and geometry, if there is one.
    repeat
        Repetitions of each figure.
    seconds
        Duration of each repetition, for rates.
    quick
        Whether fewer events and iterations are enough.
    """

    folder: Path
    events: Path
    i3: Path | None
    repeat: int
    seconds: float
    quick: bool

    def repeated(self, measure: Callable[[], float]) -> list[float]:
        """Figures of all repetitions."""
        return [measure() for _ in range(self.repeat)]


def in_new_process(function: Callable[..., T], *arguments: object) -> T:
    """Result of a function in a process that has imported nothing yet."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def make_config(settings: Settings, **changes: object) -> Path:
    """Config of the tutorial, with the network of the reference and our events."""
    from made_up_run import make_run

    return make_run(settings.folder, str(settings.events), KERNELS, **NETWORK, **changes)


def measure_machine(settings: Settings) -> Values:
    from machine import copy_rate, matrix_rate

    return {
        "matrix product": settings.repeated(lambda: matrix_rate(settings.seconds)),
        "copy": settings.repeated(lambda: copy_rate(settings.seconds)),
    }


def reading(settings: Settings, library: str) -> tuple[list[float], float]:
    """Events/s, and peak memory [GB]."""
    from hdf5_reading import peak_memory, reading_seconds, use_library

    use_library(library)
    seconds, events, _ = reading_seconds(settings.events, 1, settings.repeat)
    return [events / each for each in seconds], peak_memory() / 1e3


def measure_reading(settings: Settings) -> Values:
    rates, peak = reading(settings, "zlib")
    return {"read": rates, "read, peak memory": [peak]}


def measure_fast_reading(settings: Settings) -> Values:
    if importlib.util.find_spec("deflate") is None:
        raise SkippedError("the extra fastread (package deflate) is not installed")
    return {"read, fastread": reading(settings, "deflate")[0]}


def measure_batches(settings: Settings) -> Values:
    from batches import events_per_second, open_store

    events = open_store(settings.folder / "store", [settings.events])
    return {
        f"batches of {size:,}": settings.repeated(
            partial(events_per_second, events, size, settings.seconds)
        )
        for size in (32, 1024)
    }


def measure_fit(settings: Settings) -> Values:
    from transformation import fit_rate

    config_file = make_config(settings)
    number = FITTED_EVENTS // (10 if settings.quick else 1)
    return {"trafo, fit": settings.repeated(lambda: fit_rate(config_file, number))}


def measure_trafo(settings: Settings) -> Values:
    from transformation import command_seconds

    config_file = make_config(settings, trafo_num_batches=20)
    return {"trafo": settings.repeated(lambda: command_seconds(config_file, settings.folder))}


def command_durations(settings: Settings, config_file: Path, *words: str) -> list[float]:
    from training import run_command

    return settings.repeated(lambda: run_command(config_file, *words).seconds)


def measure_count(settings: Settings) -> Values:
    return {"count": command_durations(settings, make_config(settings), "count")}


def measure_config_check(settings: Settings) -> Values:
    import h5py

    files = {}
    for kind in ("validation", "test"):  # the same content would be a problem
        path = shutil.copyfile(settings.events, settings.folder / f"{kind}.hdf5")
        with h5py.File(path, "a") as file:
            file.attrs["kind"] = kind
        files[f"{kind}_data_file"] = [str(path)]
    config_file = make_config(settings, **files)
    return {"config check": command_durations(settings, config_file, "config", "check")}


def training_words(iterations: int) -> list[str]:
    """A training whose output has a line with step and time at each validation."""
    words = ["train", "--device=cpu", "--allow-overlap", "--print-format=reference"]
    return [*words, f"--iterations={iterations}"]


def measure_training(settings: Settings) -> Values:
    """Whole trainings; the event store and the transformation model exist.

    The first step ends before its line, which comes after the validation with one batch: that
    time is included. The loop is measured from the first to the last line, as for the reference.
    """
    from training import run_command, steady_rate

    iterations, frequency = (11, 10) if settings.quick else (120, 100)
    changes = {"validation_frequency": frequency, "model_restore_model": False}
    config_file = make_config(settings, trafo_num_batches=20, **changes)
    run_command(config_file, "trafo")
    words = training_words(iterations)
    runs = [run_command(config_file, *words) for _ in range(settings.repeat)]
    return {
        "train": [run.seconds for run in runs],
        "train, first step": [run.when("(Step: 0+,)")[0] for run in runs],
        "train, loop": [steady_rate(run, BATCH_SIZE) for run in runs],
        "train, peak memory": [run.largest * 2**20 / 1e9 for run in runs],
    }


def measure_step(settings: Settings) -> Values:
    import network_cpu
    import numpy as np
    from reference import busy_programs

    from dnn_reco.nn.predictor import predictor

    rng = np.random.default_rng(1)
    network, loss = network_cpu.start_network("cnn", KERNELS, 2, rng)
    network.train()
    hits = network_cpu.random_hits(BATCH_SIZE, rng)
    step = network_cpu.training_step(network, predictor(network), loss, lambda: hits)
    values: Values = {}
    for count in range(3):
        with busy_programs(count):
            values[f"step, beside {count}" if count else "step"] = settings.repeated(
                lambda: network_cpu.events_per_second(step, BATCH_SIZE, settings.seconds)
            )
    return values


def measure_busy_transformer(settings: Settings) -> Values:
    """Training of size S with two threads, alone and beside another program."""
    import network_cpu
    import numpy as np
    from reference import busy_programs

    from dnn_reco.nn.predictor import predictor

    rng = np.random.default_rng(1)
    network, loss = network_cpu.start_network("S", KERNELS, 2, rng)
    network.train()
    next_batch = varying_batches(64, rng)
    step = network_cpu.training_step(network, predictor(network), loss, next_batch)
    values: Values = {}
    for count in range(2):
        name = "transformer S, two threads"
        with busy_programs(count):
            values[f"{name}, beside {count}" if count else name] = settings.repeated(
                lambda: network_cpu.events_per_second(step, 64, settings.seconds)
            )
    return values


def varying_batches(size: int, rng: Any) -> Callable[[], Any]:
    """Eight batches in turn, of events with different numbers of hits."""
    import network_cpu

    hits = [network_cpu.random_hits(size, rng, varying=True) for _ in range(8)]
    return itertools.cycle(hits).__next__


def measure_prediction(settings: Settings) -> Values:
    import network_cpu
    import numpy as np

    from dnn_reco.nn.predictor import predictor

    rng = np.random.default_rng(1)
    network, _ = network_cpu.start_network("cnn", KERNELS, 2, rng)
    network.eval()
    compute = predictor(network)
    values: Values = {}
    for size in (1, 32, 256):
        hits = network_cpu.random_hits(size, rng)
        step = network_cpu.prediction_step(compute, itertools.repeat(hits).__next__)
        times = [network_cpu.step_times(step, settings.seconds) for _ in range(settings.repeat)]
        medians = [float(np.median(each)) for each in times]
        values[f"predict, batch {size}"] = [size / median for median in medians]
        if size == 1:
            slow = [float(np.quantile(each, 0.99)) for each in times]
            ratios = [a / b for a, b in zip(slow, medians, strict=True)]
            values["predict, batch 1, p99 / median"] = ratios
    return values


def measure_transformer(settings: Settings) -> Values:
    """Size S on eight batches in turn, of events with different numbers of hits."""
    import network_cpu
    import numpy as np

    from dnn_reco.nn.predictor import predictor

    rng = np.random.default_rng(1)
    network, loss = network_cpu.start_network("S", KERNELS, 1, rng)
    compute = predictor(network)

    def rates(step: Callable[[], object], size: int) -> list[float]:
        return settings.repeated(
            lambda: network_cpu.events_per_second(step, size, settings.seconds)
        )

    network.train()
    step = network_cpu.training_step(network, compute, loss, varying_batches(64, rng))
    values = {"transformer S, step": rates(step, 64)}
    network.eval()
    for size in (1, 32):
        step = network_cpu.prediction_step(compute, varying_batches(size, rng))
        values[f"transformer S, predict, batch {size}"] = rates(step, size)
    return values


def measure_memory(settings: Settings) -> Values:
    """Transformers in memory, in the batches of their configs, on ever new events."""
    from memory import peak_of_training

    values: Values = {}
    for model, batch_size, iterations in (("S", 64, 100), ("M", 128, 20)):
        number = iterations // (10 if settings.quick else 1)
        measure = partial(in_new_process, peak_of_training, model, batch_size, number)
        peaks = settings.repeated(measure)
        values[f"transformer {model}, peak memory"] = [peak / 1e3 for peak in peaks]
    return values


def measure_model(settings: Settings) -> Values:
    """Export of a training of some steps; loading is measured after `import torch`."""
    from model_folder import load_seconds
    from training import run_command

    config_file = make_config(settings, trafo_num_batches=20)
    model = settings.folder / "models" / "model"
    run_command(config_file, "trafo")
    run_command(config_file, *training_words(3))
    data_settings = settings.folder / "data_settings.yaml"
    data_settings.write_text(DATA_SETTINGS)
    export = ["export", f"--out={model}", f"--data-settings={data_settings}", "--overwrite"]
    return {
        "export": command_durations(settings, config_file, *export),
        "load": settings.repeated(lambda: in_new_process(load_seconds, "torch", model, 1)[1]),
    }


def seconds_to_stop(config_file: Path) -> float:
    """Time from Ctrl-C, in the middle of a training, to its end."""
    words = [sys.executable, "-u", "-m", "dnn_reco", *training_words(MANY_ITERATIONS)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen([*words, str(config_file)], cwd=config_file.parent, **pipes) as process:
        try:
            lines = []
            for line in process.stdout or ():
                lines.append(line)
                if "Step: 00000010," in line:
                    break
            start = time.perf_counter()
            process.send_signal(signal.SIGINT)
            lines += process.stdout or ()
            process.wait()
            seconds = time.perf_counter() - start
        finally:
            process.kill()
    if not any("saved" in line for line in lines):
        raise SystemExit("".join(lines[-40:]))
    return seconds


def measure_stop(settings: Settings) -> Values:
    from training import run_command

    changes = {"validation_frequency": 10, "model_restore_model": False}
    config_file = make_config(settings, trafo_num_batches=20, **changes)
    run_command(config_file, "trafo")
    return {"Ctrl-C": settings.repeated(lambda: seconds_to_stop(config_file))}


def measure_i3(settings: Settings) -> Values:
    if settings.i3 is None:
        raise SkippedError("no .i3 file: give one with --i3")
    from i3_chain import feature_reading, repeated
    from machine import median_seconds

    from dnn_reco.inference.frame_reading import read_frame_events

    path = settings.folder / "events.i3.zst"
    number = repeated(settings.i3, path, I3_EVENTS // (10 if settings.quick else 1))
    reading = feature_reading("InIceDSTPulses")

    def rate() -> float:
        return number / median_seconds(lambda: read_frame_events(path, reading), settings.seconds)

    return {"i3 to features": settings.repeated(rate)}


def measure_simulation(settings: Settings) -> Values:
    from simulation import files_per_second

    number = SIMULATED_EVENTS // (10 if settings.quick else 1)
    values: Values = {}
    for name, flavor in (("neutrinos", "mixed"), ("muons", "muon")):
        files_per_second(flavor, 10)  # fills tables
        files = [files_per_second(flavor, number) for _ in range(settings.repeat)]
        values[f"simulation, {name}"] = [rate for rate, _ in files]
    return values


@dataclass(frozen=True)
class Case:
    """How to measure a case; with how many threads, if the package does not choose them."""

    measure: Callable[[Settings], Values]
    threads: int | None = None
    needs_events: bool = True


CASES = {
    "machine": Case(measure_machine, 2, needs_events=False),
    "read_zlib": Case(measure_reading, 1),
    "read_deflate": Case(measure_fast_reading, 1),
    "batches": Case(measure_batches, 1),
    "trafo_fit": Case(measure_fit, 1),
    "trafo_command": Case(measure_trafo),
    "count": Case(measure_count),
    "train": Case(measure_training),
    "step": Case(measure_step, needs_events=False),
    "predict": Case(measure_prediction, needs_events=False),
    "transformer": Case(measure_transformer, 1, needs_events=False),
    "busy_transformer": Case(measure_busy_transformer, needs_events=False),
    "memory": Case(measure_memory, 1, needs_events=False),
    "config_check": Case(measure_config_check),
    "model": Case(measure_model),
    "stop": Case(measure_stop),
    "i3": Case(measure_i3, 1, needs_events=False),
    "simulation": Case(measure_simulation, 1, needs_events=False),
}
