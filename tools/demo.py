"""`make demo`: from nothing to trained networks that are shown to work, in the folder `demo/`.

Simulates events, runs the steps of the tutorial on them, trains a transformer over hit DOMs, too,
exports and calibrates both, applies them to held-out events, compares them with simple estimators,
and writes a report of how good they are.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from copy import deepcopy
from io import StringIO
from pathlib import Path

from demo_report import CNN, DOM_TRANSFORMER, draw, evaluate, table
from ruamel.yaml import YAML

REPOSITORY = Path(__file__).resolve().parent.parent
HOME = REPOSITORY / "demo"
CONFIG = HOME / "configs/training/getting_started.yaml"
TRANSFORMER = HOME / "configs/training/dom_transformer_S.yaml"
PICTURE = HOME / "report.png"
MODELS = HOME / "models"
RECONSTRUCTED = HOME / "reconstructed"
EVALUATION = HOME / "evaluation"

EVENTS = 12000
# First squared errors and large steps, from which the uncertainties get a good start; then the
# likelihood, with ever smaller steps.
STAGES = (
    ("mse", 0.006, 2500),
    ("gaussian_likelihood", 0.001, 1000),
    ("gaussian_likelihood", 0.0001, 501),
)
# Small batches make more steps in the same time.
BATCH_SIZE = 16
TRANSFORMER_ITERATIONS = 2000


def write_config() -> None:
    """Copy the tutorial's config, fill in DNN_HOME as its `sed` does, and make it quick.

    Half the kernels, more and larger steps, the visible energy alone. Uncertainties are kept clear
    of 0, near which a short training finds no way out.
    """
    text = (REPOSITORY / "configs/tutorial/getting_started.yaml").read_text(encoding="utf-8")
    text = text.replace("{insert_DNN_HOME}", str(HOME))
    text = re.sub("num_filters_list: .*", lambda line: line[0].replace("10", "5"), text)
    text = re.sub(r"(?m)^batch_size: .*", f"batch_size: {BATCH_SIZE}", text)
    text = text.replace("validation_frequency: 100", "validation_frequency: 500")
    text = text.replace("  PrimaryEnergy: 0.1\n", "")
    text = text.replace("activation_list: [elu, abs]", "activation_list: [elu, '']")
    text = re.sub(r"(?m)^num_training_iterations: .*\n", "", text)
    text += "\nmodel_kwargs:\n  uncertainty_activation: softplus\n" + stages(text)
    CONFIG.parent.mkdir(parents=True, exist_ok=True)
    CONFIG.write_text(text, encoding="utf-8")


def stages(config: str) -> str:
    """The key `training_stages`, in which the optimizer of the config is other in each stage."""
    optimizer = YAML(typ="safe", pure=True).load(config)["model_optimizer_dict"]
    entries = []
    for loss, learning_rate, iterations in STAGES:
        changed = deepcopy(optimizer)
        for settings in changed.values():
            settings["loss_name"] = loss
            settings["optimizer_settings"]["learning_rate"] = learning_rate
        entries.append({"num_training_iterations": iterations, "model_optimizer_dict": changed})
    text = StringIO()
    YAML(typ="safe", pure=True).dump({"training_stages": entries}, text)
    return text.getvalue()


def write_transformer_config() -> None:
    """The config of the small transformer for the same events, with fewer iterations.

    It reads fewer hits, too: of bright events the DOMs with most light tell nearly all.
    """
    text = (REPOSITORY / "configs/models/dom_transformer_S.yaml").read_text(encoding="utf-8")
    text = text.replace("{insert_DNN_HOME}", str(HOME))
    text = re.sub(
        r"(?m)^num_training_iterations: .*",
        f"num_training_iterations: {TRANSFORMER_ITERATIONS}",
        text,
    )
    text = re.sub(r"steps: 500\n", "steps: 200\n", text)
    text = re.sub(r"steps: \d{4,}", f"steps: {TRANSFORMER_ITERATIONS}", text)
    text = text.replace("  size: S\n", "  size: S\n  max_tokens: 96\n")
    TRANSFORMER.write_text(text, encoding="utf-8")


def run(*arguments: str | Path) -> None:
    """Run one command, as the tutorial does, from a folder beside `data/` and `logs/`."""
    shown = [os.path.relpath(a, REPOSITORY) if isinstance(a, Path) else a for a in arguments]
    print("\n$ dnn-reco", *shown, flush=True)
    working_directory = HOME / "work"
    working_directory.mkdir(parents=True, exist_ok=True)
    line = [sys.executable, "-m", "dnn_reco", *map(str, arguments)]
    code = subprocess.run(line, cwd=working_directory, check=False).returncode
    if code:
        sys.exit(code)


def main() -> None:
    """Simulate; count, trafo, train, export, calibrate and apply; then show what was learnt."""
    started = time.perf_counter()
    shutil.rmtree(HOME, ignore_errors=True)
    write_config()
    write_transformer_config()
    preset, data = REPOSITORY / "configs/simulation/demo.yaml", HOME / "training_data"
    run("simulate", preset, "--events", str(EVENTS), "--out", data, "--layout", "tutorial")
    run("count", CONFIG)
    run("trafo", CONFIG)
    run("train", CONFIG)
    run("trafo", TRANSFORMER)
    run("train", TRANSFORMER)
    folders = [MODELS / name for name in ("getting_started", "dom_transformer")]
    for config, folder in zip((CONFIG, TRANSFORMER), folders, strict=True):
        run("export", config, "-o", folder)
        run("calibrate", folder)
        run("verify", folder)
    held_out = data / "datasets" / "*" / "*" / "output" / "*" / "01000-01999" / "*.hdf5"
    run("apply", *folders, "--input", held_out, "--out", RECONSTRUCTED)
    shown = os.path.relpath(HOME, Path.cwd())
    os.chdir(HOME / "work")  # from where the config's paths count
    results = evaluate({CNN: CONFIG, DOM_TRANSFORMER: TRANSFORMER})
    draw(results, PICTURE)
    print("\nHow well does it work? On events that the network has never seen:\n")
    print(table(results))
    run("evaluate", *folders, "--out", EVALUATION)
    print(
        f"""
Done in {time.perf_counter() - started:.0f} s. What is there:
  {shown}/evaluation/report.html         how good both are, for which events, and whether their
                                      uncertainties are right: open it in a browser
  {shown}/{PICTURE.name:30s} the figures above as a picture
  {shown}/training_data                  {EVENTS} simulated events
  {shown}/configs/training               the configs of both networks, made quick
  {shown}/checkpoints, {shown}/logs          the trainings; tensorboard --logdir {shown}/logs
  {shown}/models                         both networks as model folders, each with a model card
  {shown}/reconstructed                  what both predict for the held-out events, as HDF5 files

What to try next:
  - longer: more iterations in the last stage of {shown}/configs/training/getting_started.yaml,
    then: cd {shown}/work && dnn-reco train ../configs/training/getting_started.yaml
  - look at an event: dnn-reco view {shown}/training_data/…/*.hdf5 --event 3 --html
  - apply them to your files: dnn-reco apply {shown}/models/* --input 'my_data/*.hdf5' --out out
  - other events: dnn-reco simulate --help, configs/simulation/
  - the tutorial, step by step: docs/tutorial.md"""
    )


if __name__ == "__main__":
    main()
