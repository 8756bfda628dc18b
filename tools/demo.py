"""`make demo`: the steps of the tutorial on small random files, in the folder `demo/`.

The files hold random hits with a charge that grows with the energy, so that there is something to
learn; they are no physics.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tests"))

from event_files import random_events, write_events  # noqa: E402

ITERATIONS = 600


def make_data(folder: Path) -> None:
    """Write four training files and one validation file where the tutorial expects them."""
    for part, seeds in (("00000-00999", range(4)), ("01000-01999", range(1000, 1001))):
        for seed in seeds:
            path = folder / "datasets" / "11883" / part / f"demo_{seed:06d}.hdf5"
            write_events(path, random_events(seed, 1000, run=seed))


def make_config(home: Path) -> Path:
    """Copy the tutorial's config and fill in DNN_HOME, as its `sed` does."""
    text = (REPOSITORY / "configs" / "tutorial" / "getting_started.yaml").read_text()
    path = home / "configs" / "training" / "getting_started.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text.replace("{insert_DNN_HOME}", str(home)))
    return path


def main() -> None:
    """Make data, then count, trafo and train."""
    home = REPOSITORY / "demo"
    shutil.rmtree(home, ignore_errors=True)
    make_data(home / "training_data")
    config = make_config(home)
    working_directory = home / "work"
    working_directory.mkdir()
    for command in (["count"], ["trafo"], ["train", "--iterations", str(ITERATIONS)]):
        line = [sys.executable, "-m", "dnn_reco", command[0], str(config), *command[1:]]
        print(f"\n$ dnn-reco {' '.join(command)} {os.path.relpath(config, REPOSITORY)}", flush=True)
        subprocess.run(line, cwd=working_directory, check=True)
    print("\nThe curves: tensorboard --logdir demo/logs")


if __name__ == "__main__":
    main()
