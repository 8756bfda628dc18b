"""The folder in which a page is run: what a reader has who comes to it.

    data/ validation/ test/    simulated events, for training, validation and tests
    my_network.yaml            a small transformer over hit DOMs, trained for some iterations
    one.yaml two.yaml          the same with other names and seeds, trained as well
    models/my_model            the model folder of my_network.yaml
    level2/                    simulated events as .i3 files
    GCD.i3.gz                  a detector status with a list of DOMs
    numu.i3.gz                 a public .i3 file, where the shared test data are
    training_data/             what create-data makes of the .i3 files
    create_training_data.yaml  that of the tutorial

It is built once by commands of dnn_reco, and each page gets a copy.
"""

import fcntl
import os
import shutil
from pathlib import Path

from page_runner import PageRun
from pages import REPOSITORY

_CONFIG = REPOSITORY / "configs" / "models" / "dom_transformer_S.yaml"
_CHANGES = {
    "training_data_file": "['data/*.hdf5']",
    "trafo_data_file": "['data/*.hdf5']",
    "validation_data_file": "['validation/*.hdf5']",
    "test_data_file": "['test/*.hdf5']",
    "batch_size": "16",
    "num_jobs": "1",
    "trafo_num_jobs": "1",
    "trafo_num_batches": "5",
    "trafo_model_path": "'trafo_models/{unique_name}.npy'",
    "log_path": "'logs/{unique_name}'",
    "model_checkpoint_path": "'checkpoints/{unique_name}/model'",
    "num_training_iterations": "8",
    "validation_frequency": "4",
    "save_frequency": "4",
}
# tracks and cascades, in few and small events
_SIMULATE = "dnn-reco simulate --energy 200 5000 --spectrum 1.5 -j 1"
_BUILD = rf"""
{_SIMULATE} --flavor mixed --events 100 --files 2 --seed 1 --out data
{_SIMULATE} --flavor mixed --events 210 --files 1 --seed 2 --out validation
{_SIMULATE} --flavor mixed --events 220 --files 2 --seed 3 --out test
{_SIMULATE} --flavor numu --events 20 --files 2 --seed 4 --format i3 --out level2
for name in my_network one two; do
    dnn-reco trafo $name.yaml
    dnn-reco train $name.yaml --device cpu
done
dnn-reco export my_network.yaml -o models/my_model
dnn-reco create-data --input 'level2/*.i3.zst' --pulses InIceDSTPulses --exclude none -j 1 \
    --out training_data
cp $REPOSITORY/configs/tutorial/create_training_data.yaml .
python -c '
import numpy as np
from dnn_reco import Frame, write_i3
from dnn_reco.i3.objects import OM_KEY
status = Frame("D")
for name in "SaturationWindows", "BadDomsList", "CalibrationErrata":
    status.put(name, np.array([(1, 1, 0), (38, 59, 0)], OM_KEY))
write_i3("GCD.i3.gz", [status])
'
"""


_SHARED = Path(os.environ.get("DNN_RECO_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
_NUMU = _SHARED / "i3" / "wBDT_wDNN_L345_IC86-2016_NuMu-021220-009993_first_5_frames.i3.gz"


def build_workspace(folder: Path, state: Path) -> None:
    """Build the workspace in an empty folder."""
    text = _CONFIG.read_text(encoding="utf-8")
    for name in ("my_network", "one", "two"):
        config = _changed(text, {**_CHANGES, "unique_name": name})
        (folder / f"{name}.yaml").write_text(config, encoding="utf-8")
    if _NUMU.exists():
        shutil.copy(_NUMU, folder / "numu.i3.gz")
    PageRun(folder, state).bash(_BUILD)


def _changed(text: str, values: dict[str, str]) -> str:
    """A config with other values of top-level keys, which may span several lines."""
    lines, dropping = [], False
    for line in text.splitlines():
        key = line.partition(":")[0]
        if key in values:
            lines.append(f"{key}: {values[key]}")
        dropping = key in values or (dropping and line.startswith(" "))
        if not dropping:
            lines.append(line)
    return "\n".join(lines) + "\n"


def shared_workspace(folder: Path) -> Path:
    """The workspace in a folder that several processes of the tests share; one builds it."""
    workspace, finished = folder / "workspace", folder / "finished"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            for path in (workspace, folder / "state"):
                path.mkdir()
            build_workspace(workspace, folder / "state")
            finished.touch()
    return workspace


def copy_workspace(workspace: Path, target: Path) -> None:
    shutil.copytree(workspace, target, symlinks=True)
