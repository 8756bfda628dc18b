"""`make demo`: from nothing to a trained network that is shown to work, in the folder `demo/`.

Simulates events, runs the steps of the tutorial on them, and compares the network with what one
could say of the events without it.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from demo_report import draw, evaluate, table

REPOSITORY = Path(__file__).resolve().parent.parent
HOME = REPOSITORY / "demo"
CONFIG = HOME / "configs/training/getting_started.yaml"
PICTURE = HOME / "report.png"

EVENTS = 8000
# Learning rate, and iterations in all: first large steps, then ever smaller ones. Small batches
# make more of them in the same time.
STAGES = ((0.006, 3000), (0.0006, 3700), (0.0001, 4001))
BATCH_SIZE = 16


def write_config(learning_rate: float) -> None:
    """Copy the tutorial's config, fill in DNN_HOME as its `sed` does, and make it quick.

    Half the kernels, more and larger steps, the visible energy alone.
    """
    text = (REPOSITORY / "configs/tutorial/getting_started.yaml").read_text(encoding="utf-8")
    text = text.replace("{insert_DNN_HOME}", str(HOME))
    text = re.sub("num_filters_list: .*", lambda line: line[0].replace("10", "5"), text)
    text = text.replace("learning_rate: 0.001", f"learning_rate: {learning_rate}")
    text = re.sub(r"(?m)^batch_size: .*", f"batch_size: {BATCH_SIZE}", text)
    text = text.replace("validation_frequency: 100", "validation_frequency: 600")
    text = text.replace("  PrimaryEnergy: 0.1\n", "")
    CONFIG.parent.mkdir(parents=True, exist_ok=True)
    CONFIG.write_text(text, encoding="utf-8")


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
    """Simulate; count, trafo and train; then show what was learnt."""
    started = time.perf_counter()
    shutil.rmtree(HOME, ignore_errors=True)
    write_config(STAGES[0][0])
    preset, data = REPOSITORY / "configs/simulation/demo.yaml", HOME / "training_data"
    run("simulate", preset, "--events", str(EVENTS), "--out", data, "--layout", "tutorial")
    run("count", CONFIG)
    run("trafo", CONFIG)
    for learning_rate, iterations in STAGES:
        write_config(learning_rate)
        run("train", CONFIG, "--iterations", str(iterations))
    shown = os.path.relpath(HOME, Path.cwd())
    os.chdir(HOME / "work")  # from where the config's paths count
    results = evaluate(CONFIG)
    draw(results, PICTURE)
    print("\nHow well does it work? On events that the network has never seen:\n")
    print(table(results))
    print(
        f"""
Done in {time.perf_counter() - started:.0f} s. What is there:
  {shown}/{PICTURE.name:30s} these figures as a picture
  {shown}/training_data                  {EVENTS} simulated events
  {shown}/configs/training               the config: the tutorial's, made quick
  {shown}/checkpoints, {shown}/logs          the network; tensorboard --logdir {shown}/logs

What to try next:
  - longer: cd {shown}/work && dnn-reco train ../configs/training/getting_started.yaml
  - other events: dnn-reco simulate --help, configs/simulation/
  - the tutorial, step by step: docs/tutorial.md"""
    )


if __name__ == "__main__":
    main()
