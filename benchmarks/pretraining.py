"""What simulated events are worth: size S with few to many simulated and traced events.

Each cell of the grid is a training of equal length. Where there are simulated events, it spends a
part of its iterations on them, and is then fine-tuned on the traced ones::

    dnn-reco simulate configs/simulation/starting_and_entering.yaml --events 600000 --out simulated
    python benchmarks/accuracy/convert.py ../shared/data/ppc --out accuracy_data
    python benchmarks/pretraining.py 'simulated/*.hdf5' accuracy_data --out pretraining

Numbers of events are as close as whole files allow: those of the benchmark have 1,500 to train on.
The validation and test events are those of the accuracy benchmark, and so is the transformation
model. Of each cell the checkpoint with the smallest validation loss is judged. The length is
measured once, as that of `--seconds` for the cell of most traced events alone; Ctrl-C and the same
command continue.
"""

import argparse
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from ruamel.yaml import YAML

from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_stages
from dnn_reco.config import load_config, load_stages
from dnn_reco.data.hdf5 import InputTables, count_events
from dnn_reco.evaluation.comparison import Comparison
from dnn_reco.evaluation.comparison_report import TrainingCost
from dnn_reco.evaluation.held_out_comparison import compare_on_held_out
from dnn_reco.evaluation.held_out_events import open_held_out_events
from dnn_reco.files import find_files, temporary_beside, write_atomically
from dnn_reco.inference.trained_model import load_named_models
from dnn_reco.nn.device import choose_device
from dnn_reco.run_options import RunOptions
from dnn_reco.training.from_config import make_trainer
from dnn_reco.training.resource_estimate import iterations_within
from dnn_reco.training.timing import measure_step_time

HERE = Path(__file__).resolve().parent / "accuracy"
SIMULATED = (0, 60_000, 600_000)
TRACED = (1_000, 6_000, 30_000)
PRETRAINING = 2 / 3
"""Share of the iterations that is spent on simulated events, where there are any."""

RATES = (6e-3, 2e-4), (1.5e-3, 1e-5)
"""Highest and last learning rate of pre-training and of fine-tuning; without the former, its
highest is that of the fine-tuning."""

WARM_UP = 1 / 50
SECONDS_TO_MEASURE = 10.0


@dataclass(frozen=True)
class Cell:
    """A training of the grid: its files, and how many events these have."""

    simulated: Sequence[Path]
    traced: Sequence[Path]
    num_simulated: int
    num_traced: int

    @property
    def name(self) -> str:
        """Its name in the output folder."""
        return f"{self.num_simulated}_simulated_{self.num_traced}_traced"


def files_with(files: Sequence[Path], num_events: int) -> tuple[list[Path], int]:
    """The first files, as many as hold about so many events, at least one; and their events."""
    chosen: list[Path] = []
    total = 0
    for path in files:
        number = count_events(path, InputTables().time_offset)
        if chosen and abs(total + number - num_events) > abs(total - num_events):
            break
        chosen.append(path)
        total += number
    return chosen, total


def grid(options: argparse.Namespace) -> list[Cell]:
    """The cells, those without simulated events first."""
    traced = find_files([f"{options.traced}/train/*.hdf5"], "traced")
    simulated = (
        find_files([options.simulated], "simulated") if any(options.simulated_events) else []
    )
    cells = []
    for num_simulated in options.simulated_events:
        first = files_with(simulated, num_simulated) if num_simulated else ([], 0)
        for num_traced in options.traced_events:
            second = files_with(traced, num_traced)
            cells.append(Cell(first[0], second[0], first[1], second[1]))
    # Numbers of events that whole files cannot tell apart are one cell.
    return list({cell.name: cell for cell in cells}.values())


def schedule(rates: tuple[float, float], iterations: int) -> dict[str, Any]:
    """A warm-up, then half a cosine, from the highest to the last rate."""
    prefix = "dnn_reco.utils.learning_rate"
    cosine = {"rate": rates[0], "steps": iterations, "final_rate": rates[1]}
    settings = {
        "steps": max(1, round(WARM_UP * iterations)),
        "schedule": {"full_class_string": f"{prefix}.Cosine", "settings": cosine},
    }
    return {"full_class_string": f"{prefix}.WarmUp", "settings": settings}


def config_of(cell: Cell, options: argparse.Namespace, iterations: int) -> dict[str, Any]:
    """The config of a cell: that of the accuracy benchmark with its own files and stages."""
    yaml = YAML(typ="safe", pure=True)
    config = {**yaml.load(HERE / "data.yaml"), **yaml.load(HERE / "dom_transformer_S.yaml")}
    folder, traced = options.out.resolve(), Path(options.traced).resolve()
    config |= {
        "unique_name": cell.name,
        "training_data_file": [str(path) for path in cell.traced],
        "trafo_data_file": [f"{traced}/train/*.hdf5"],
        "validation_data_file": [f"{traced}/validation/*.hdf5"],
        "test_data_file": [f"{traced}/test/*.hdf5"],
        "trafo_model_path": str(folder / "trafo_models" / "benchmark.npy"),
        "data_cache_dir": str(folder / "event_store"),
        "log_path": str(folder / cell.name / "logs"),
        "model_checkpoint_path": str(folder / cell.name / "model"),
        "num_jobs": options.threads,
        "trafo_num_jobs": options.threads,
        "seed": options.seed,
        "validation_events": 2000,
    }
    before = round(PRETRAINING * iterations) if cell.simulated else 0
    (highest, middle), (lower, last) = RATES
    rate = schedule((lower if before else highest, last), iterations - before)
    if before:
        rate = {
            "full_class_string": "dnn_reco.utils.learning_rate.MultiLearningRateScheduler",
            "settings": {
                "boundaries": [before],
                "scheduler_settings": [schedule((highest, middle), before), rate],
            },
        }
        simulated = {"training_data_file": [str(path) for path in cell.simulated]}
        del config["num_training_iterations"]
        config["training_stages"] = [
            {"num_training_iterations": before, **simulated},
            {"num_training_iterations": iterations - before},
        ]
    else:
        config["num_training_iterations"] = iterations
    likelihood = config["model_optimizer_dict"]["likelihood"]
    for optimizer in (likelihood, likelihood["other_optimizers"]["muon"]):
        optimizer["optimizer_settings"]["learning_rate"] = rate
    # About twenty evaluations of the validation set, from which the best checkpoint is chosen.
    config["save_frequency"] = max(1, iterations // 20)
    config["validation_frequency"] = max(1, iterations // 20)
    return config


def write_config(cell: Cell, options: argparse.Namespace, iterations: int) -> Path:
    path: Path = options.out / f"{cell.name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump(config_of(cell, options, iterations), file)
    return path


def length(cells: Sequence[Cell], options: argparse.Namespace, run: RunOptions) -> int:
    """Iterations of each cell; measured in the first call, and kept for later ones."""
    kept: Path = options.out / "iterations.json"
    if options.iterations is not None:
        return int(options.iterations)
    if kept.exists():
        return int(json.loads(kept.read_text())["iterations"])
    largest = max(cells, key=lambda cell: (not cell.simulated, cell.num_traced))
    config = load_config([write_config(largest, options, 10**6)])
    with temporary_beside(kept) as folder:
        trial = make_trainer(config, run, trial_folder=folder)
        timings = measure_step_time(trial, folder, SECONDS_TO_MEASURE, lambda share: None)
        # More often than in the trial, as `config_of` sets it; that is a small part of the time.
        iterations = iterations_within(options.seconds, trial.settings, timings)
    write_atomically(kept, json.dumps({"iterations": iterations}).encode())
    return iterations


def judge(paths: Sequence[Path], run: RunOptions) -> tuple[Comparison, list[str]]:
    """The cells of these configs on the test events, and their names."""
    device = choose_device(run.device)
    models = []
    for path in paths:
        config = load_stages([path])[-1]
        ((_, model),) = load_named_models(config, device, ["best"])
        models.append(model)
    files = find_files(config.data_files.test_data_file, "test_data_file")
    events = open_held_out_events(config, files, str(config.event_store), run.threads)
    costs = {model.name: TrainingCost(None, None, None, None) for model in models}
    held_out = [events] * len(models)
    comparison = compare_on_held_out(models, costs, held_out, False, run.threads).comparison
    return comparison, [model.name for model in models]


def table(comparison: Comparison, cells: Sequence[Cell], names: Sequence[str]) -> str:
    """Mean opening angles of all events and by type, and the width of log10 E, of each cell."""
    groups = [group for group in comparison.groups if group.energy_range is None]
    head = "".join(f"{group.event_type:>22s}" for group in groups)
    lines = [f"{'simulated':>10s}{'traced':>8s}{head}{'rms log10 E':>16s}"]
    for cell, name in zip(cells, names, strict=True):
        angles = [group.found[name]["angle_mean"] for group in groups]
        energy = groups[0].found[name]["energy_rms"]
        shown = "".join(
            f"{np.radians(each.value):14.3f} ± {np.radians(each.error):.3f}" for each in angles
        )
        lines.append(
            f"{cell.num_simulated:10,d}{cell.num_traced:8,d}{shown}"
            f"{energy.value:8.3f} ± {energy.error:.3f}"
        )
    return "\n".join([*lines, "Mean opening angles in rad, of held-out traced events."])


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("simulated", help="event files of the simulation, a pattern")
    parser.add_argument("traced", help="folder of the traced events, as convert.py makes it")
    parser.add_argument("--out", type=Path, default=Path("pretraining"))
    parser.add_argument("--seconds", type=float, default=300.0, help="time of each cell")
    parser.add_argument("--iterations", type=int, help="length of each cell, instead of a time")
    parser.add_argument("--simulated-events", type=int, nargs="+", default=SIMULATED)
    parser.add_argument("--traced-events", type=int, nargs="+", default=TRACED)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parsed(arguments)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    run = RunOptions(device=options.device, num_threads=options.threads, print_format="none")
    cells = grid(options)
    trafo_path = options.out / "trafo_models" / "benchmark.npy"
    if not trafo_path.exists():
        run_trafo(load_config([write_config(cells[0], options, 1)]), run, overwrite=False)
    iterations = length(cells, options, run)
    print(f"{iterations:,} iterations for each of {len(cells)} cells", flush=True)
    paths = [write_config(cell, options, iterations) for cell in cells]
    for cell, path in zip(cells, paths, strict=True):
        print(cell.name, flush=True)
        stages = load_stages([path])
        code = run_stages(stages, run)
        done = stages[-1].training.num_training_iterations
        if (
            code
            or not (
                Path(stages[-1].model.model_checkpoint_path) / f"checkpoint-{done:08d}"
            ).is_dir()
        ):
            raise SystemExit(code or 1)
    comparison, names = judge(paths, run)
    text = table(comparison, cells, names)
    print(text)
    write_atomically(options.out / "table.txt", f"{text}\n".encode())


if __name__ == "__main__":
    main()
