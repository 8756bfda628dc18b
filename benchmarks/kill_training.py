"""Kill a training repeatedly with `kill -9`, at random times, and print how much is lost.

    python benchmarks/kill_training.py [--kills 50] [--seed 1] [--save_frequency 3]

Each time the training resumes from its newest checkpoint. At the end it is finished and compared,
bit by bit, with one that was never killed.
"""

import argparse
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from made_up_run import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tests"))

from killed_training import differences, train_and_kill
from small_run import make_small_run

from dnn_reco.commands.trafo import run_trafo
from dnn_reco.run_options import RunOptions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save_frequency", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        frequencies = {"validation_frequency": 1, "save_frequency": options.save_frequency}
        run = make_small_run(Path(name), **frequencies, ema_decay=0.99)
        run_trafo(run.config(), RunOptions(num_threads=1), overwrite=False)
        kills = list(train_and_kill(run, options.kills, options.seed))
        different = differences(run, kills[-1].kept + 2)
    lost = [kill.reached - kill.kept for kill in kills]
    went_back = sum(later.kept < kill.kept for kill, later in pairwise(kills))
    print(
        f"{len(kills)} kills, {sum(kill.unfinished for kill in kills)} of them while a checkpoint "
        f"was written; {kills[-1].kept} iterations done in the end\n"
        f"iterations lost by a kill: {sum(lost) / len(lost):.1f} on average, at most {max(lost)} "
        f"(saved every {options.save_frequency}); checkpoints lost: {went_back}\n"
        f"compared with a training that was never killed: {len(different)} tensors differ"
    )


if __name__ == "__main__":
    main()
