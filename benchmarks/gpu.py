"""Training and prediction on one GPU, beside what the GPU itself can do.

    make bench-gpu                              (all of it: less than ten minutes)
    python benchmarks/gpu.py [--seconds 8] [--only training] [--out gpu.json]

Events are made up, with some 300 hit DOMs and 9 features each: neither data nor a network
connection is needed. Training is the training loop itself, on files that are read through the event
store, so that waiting for data counts. Prediction goes from hits in the memory of the CPU to
predictions there, in full precision. The tutorial's network has 5 kernels a layer.

Each row is measured for `--seconds`, after compilation and warm-up; rows that would begin later
than `--limit` seconds after the start are left out. A row that fails is shown as such. Tables are
printed as Markdown; all figures are written to a JSON file after each row.
"""

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from made_up_run import make_run
from network_cpu import random_hits

import dnn_reco
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.config import Config, load_config
from dnn_reco.data.hits import Hits
from dnn_reco.inference.torch_backend import TorchBackend
from dnn_reco.inference.trained_model import TrainedModel
from dnn_reco.nn.from_config import make_network, network_spec
from dnn_reco.nn.memory import peak_memory
from dnn_reco.nn.predictor import allow_tf32
from dnn_reco.run_options import RunOptions
from dnn_reco.training.from_config import make_trainer
from dnn_reco.transform import load_transformation

LARGE, OF_TUTORIAL, OF_TRANSFORMER = 1024, 32, 256  # events in a batch
TRANSFORMER = {
    "model_class": "dnn_reco.modules.models.dom_transformer.DomTransformer",
    "model_optimizer_dict": {
        "adam": {
            "optimizer": "AdamW",
            "optimizer_settings": {"learning_rate": 0.001},
            "loss_class": "dnn_reco.modules.loss.density_loss.negative_log_likelihood",
            "clip_gradients_value": 1.0,
        }
    },
    "label_weight_initialization": 1.0,
    "label_weight_dict": {},
}
# Iterations and seconds of a training before anything is measured; they include compilation.
WARM_UP_STEPS, WARM_UP_SECONDS = 20, 1.0
# So many repetitions are started before the GPU is waited for.
QUEUED = 5


@dataclass(frozen=True)
class Row:
    """A measurement: its table, what is measured, and how; the goal in events/s."""

    table: str
    what: str
    settings: Mapping[str, Any]
    goal: float | None = None


def rows(large: int) -> Iterator[Row]:
    """All rows, the most important first; `large` is the number of events of the large batches."""
    for precision in ("tf32", "bf16", "float32"):
        yield Row("gpu", "matrix product", {"precision": precision})
    yield Row("gpu", "memory copy", {})
    tutorial, names = "tutorial's network", ("batch", "precision", "compile", "data_on_device")
    for batch, goal in ((large, 150_000), (OF_TUTORIAL, 20_000)):
        for ways in (
            ("bf16", True, True),
            ("tf32", True, True),
            ("bf16", True, False),
            ("bf16", False, True),
            ("tf32", False, False),
        ):
            settings = dict(zip(names, (batch, *ways), strict=True))
            yield Row("training", tutorial, settings, goal)
    for batch, goal in ((large, 300_000), (1, 2_000)):
        yield Row("prediction", tutorial, {"batch": batch}, goal)
    for size in "SM":
        for precision in ("tf32", "bf16"):
            settings = dict(
                zip(names, (min(large, OF_TRANSFORMER), precision, False, True), strict=True)
            )
            yield Row("training", f"transformer {size}", settings)
        for batch in (large, 1):
            yield Row("prediction", f"transformer {size}", {"batch": batch})


class Bench:
    """Measures rows on a device, with data that are made once.

    Parameters
    ----------
    folder
        For the data.
    device
        `cuda`; `cpu` tries the script out.
    seconds
        How long a row is measured.
    """

    def __init__(self, folder: Path, device: str, seconds: float) -> None:
        self.folder, self.device, self.seconds = folder, torch.device(device), seconds
        self._config_file: Path | None = None

    def measure(self, row: Row) -> dict[str, float | None]:
        """Figures of a row, by name."""
        gc.collect()
        torch.compiler.reset()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        if row.table == "gpu":
            return self._copy() if row.what == "memory copy" else self._product(row)
        figures = self._training(row) if row.table == "training" else self._prediction(row)
        return figures | {"gpu_memory_mb": peak_memory(self.device).get("gpu")}

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _seconds_of(self, work: Callable[[], object]) -> float:
        """Seconds that it takes, one right after the other."""
        for _ in range(QUEUED):
            work()
        self._wait()
        count, start = 0, time.perf_counter()
        while (past := time.perf_counter() - start) < self.seconds or count == 0:
            for _ in range(QUEUED):
                work()
            self._wait()
            count += QUEUED
        return past / count

    def _product(self, row: Row) -> dict[str, float]:
        precision, size = row.settings["precision"], 8192 if self.device.type == "cuda" else 512
        kind = torch.bfloat16 if precision == "bf16" else torch.float32
        a, b = (torch.randn(size, size, device=self.device, dtype=kind) for _ in range(2))
        allow_tf32(precision == "tf32")
        return {"TFLOP/s": 2 * size**3 / self._seconds_of(lambda: a @ b) / 1e12}

    def _copy(self) -> dict[str, float]:
        """Bytes that are read and written."""
        num_bytes = 2**30 if self.device.type == "cuda" else 2**26
        source = torch.ones(num_bytes, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        return {"GB/s": 2 * num_bytes / self._seconds_of(lambda: target.copy_(source)) / 1e9}

    def _config(self, row: Row) -> Config:
        """The config of a row; data and transformation model are made with the first one."""
        if self._config_file is None:
            changes = {"validation_events": 0, "trafo_num_batches": 4, "batch_size": 128}
            self._config_file = make_run(self.folder, None, **changes)
            config = load_config([self._config_file])
            run_trafo(config, RunOptions(device="cpu", print_format="none"), overwrite=True)
        changes = {"num_training_iterations": 10**9, "model_save_model": False}
        if row.what.startswith("transformer"):
            changes |= {**TRANSFORMER, "model_kwargs": {"size": row.what[-1]}}
        if row.table == "training":
            ways = ("precision", "compile", "data_on_device")
            changes |= {"batch_size": row.settings["batch"]}
            changes |= {name: row.settings[name] for name in ways}
        return load_config([self._config_file], changes)

    def _training(self, row: Row) -> dict[str, float]:
        config = self._config(row)
        options = RunOptions(device=self.device.type, allow_overlap=True)
        trainer = make_trainer(config, options, trial_folder=self.folder / "trial")
        with closing(trainer.steps(lambda: None)) as steps:
            start = time.perf_counter()
            before = next(steps)
            while before.iteration < WARM_UP_STEPS or time.perf_counter() - start < WARM_UP_SECONDS:
                before = next(steps)
            self._wait()
            last, start = before, time.perf_counter()
            while time.perf_counter() - start < self.seconds or last is before:
                last = next(steps)
            self._wait()
            taken = time.perf_counter() - start
        return {
            "events/s": (last.iteration - before.iteration) * row.settings["batch"] / taken,
            "waiting": (last.seconds_waited - before.seconds_waited) / taken,
        }

    def _prediction(self, row: Row) -> dict[str, float]:
        config, batch = self._config(row), row.settings["batch"]
        spec = network_spec(config, load_transformation(Path(config.trafo.trafo_model_path)))
        network = make_network(config, spec, self.device)
        network.eval()
        backend = TorchBackend(TrainedModel("made up", config, spec, network, spec.label_names))
        random, batches = np.random.default_rng(1), []
        for _ in range(4):
            hits = random_hits(batch, random)
            offsets = np.searchsorted(hits.event.numpy(), np.arange(batch + 1))
            dom = hits.dom.numpy().astype(np.uint16)
            batches.append(Hits(offsets, dom, hits.features.numpy()))

        def predict_next() -> None:
            batches.append(batches.pop(0))
            backend.predict(batches[0])

        return {"events/s": batch / self._seconds_of(predict_next)}


def versions(device: torch.device) -> dict[str, Any]:
    """What the figures belong to."""
    found: dict[str, Any] = {
        "dnn_reco": dnn_reco.__version__,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cpus": len(os.sched_getaffinity(0)),
        "gpu": None,
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
        found["capability"] = list(torch.cuda.get_device_capability(device))
    return found


HEADS = {
    "gpu": ("what", "precision", "rate"),
    "training": (
        *("network", "batch", "precision", "compile", "data on device"),
        *("events/s", "goal", "waiting for data", "GPU memory"),
    ),
    "prediction": ("network", "batch", "events/s", "goal", "GPU memory"),
}


def cells(row: Row, figures: Mapping[str, Any]) -> list[str]:
    """A row of its table."""
    settings = [
        f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        for value in row.settings.values()
    ]
    num_figures = len(HEADS[row.table]) - 1 - len(settings)
    if "error" in figures:
        return [row.what, *settings, figures["error"], *[""] * (num_figures - 1)]
    if row.table == "gpu":
        ((unit, rate),) = figures.items()
        return [row.what, *(settings or [""]), f"{rate:,.2f} {unit}"]
    shown = [row.what, *settings, f"{figures['events/s']:,.0f}"]
    shown.append("" if row.goal is None else f"{row.goal:,.0f}")
    if row.table == "training":
        shown.append(f"{figures['waiting']:.1%}")
    memory = figures["gpu_memory_mb"]
    return [*shown, "" if memory is None else f"{memory:,.0f} MB"]


def line(words: list[str]) -> str:
    return f"| {' | '.join(words)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="for each row")
    parser.add_argument("--limit", type=float, default=480.0, help="no row begins later")
    parser.add_argument("--only", nargs="+", choices=list(HEADS), default=list(HEADS))
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--batch", type=int, default=LARGE, help="events in a large batch")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("There is no GPU that torch can use: see 'dnn-reco doctor'.")
    start = time.perf_counter()
    about = versions(torch.device(options.device))
    results: list[dict[str, Any]] = []
    print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    table = None
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), options.device, options.seconds)
        for row in rows(options.batch):
            if row.table not in options.only:
                continue
            figures: dict[str, Any] = {"error": "left out: the time is over"}
            if time.perf_counter() - start < options.limit:
                try:
                    figures = bench.measure(row)
                except Exception as error:  # the other rows go on
                    first = str(error).partition("\n")[0]
                    figures = {"error": f"{type(error).__name__}: {first[:100]}"}
            if row.table != table:
                table = row.table
                head = list(HEADS[table])
                print(f"\n{line(head)}\n{line(['---'] * len(head))}")
            print(line(cells(row, figures)), flush=True)
            results.append({**vars(row), "figures": figures})
            options.out.write_text(json.dumps({**about, "rows": results}, indent=1) + "\n")
    print(f"\n{time.perf_counter() - start:.0f} s; all figures: {options.out}")


if __name__ == "__main__":
    main()
