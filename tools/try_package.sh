#!/usr/bin/env bash
# Install a wheel in an empty virtual environment, and use it as a new user would, from simulated
# events to predictions, without the repository:
#   tools/try_package.sh dist/dnn_reco-0.1.0-py3-none-any.whl
# PYTHON and TORCH name the Python and the release of torch to use.
set -euo pipefail

wheel=$(realpath "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
unset PYTHONPATH
export CUDA_VISIBLE_DEVICES=

echo "== Installing in an empty environment"
"${PYTHON:-python3}" -m venv env
# torch goes first: what depends on it must not bring another build of it.
env/bin/python -m pip install --quiet "${TORCH:-torch}" "$wheel"
PATH="$folder/env/bin:$PATH"
mkdir work
cd work

echo "== Version and help"
dnn-reco --version
dnn-reco doctor || test $? -eq 1  # 1: a problem of this machine
dnn-reco --help > help.txt

echo "== From simulated events to predictions"
dnn-reco simulate --events 120 --files 6 --layout tutorial --out ../training_data --jobs 1
dnn-reco config example tutorial/getting_started > network.yaml
sed -i -e "s,{insert_DNN_HOME},$folder," \
    -e 's,^\(trafo_num_batches\|num_training_iterations\|validation_frequency\): .*,\1: 2,' \
    network.yaml
dnn-reco config check network.yaml
dnn-reco count network.yaml
dnn-reco trafo network.yaml
dnn-reco train network.yaml
dnn-reco export network.yaml -o models/network
dnn-reco verify models/network
dnn-reco apply models/network --input '../training_data/*/*/*/*/*/*/*.hdf5' --output reconstructed

echo "== Data of the package"
dnn-reco config example > examples.txt
dnn-reco submit train network.yaml --cluster htcondor --dry-run > job.txt
python - << 'END'
import h5py
from pathlib import Path

import dnn_reco
from dnn_reco.detector.geometry import dom_positions

package = Path(dnn_reco.__file__).parent
assert "site-packages" in package.parts, package
assert dom_positions().shape == (5160, 3)
assert (package / "py.typed").is_file()
assert "tutorial/getting_started" in Path("examples.txt").read_text()

files = list(Path("reconstructed").rglob("*.hdf5"))
rows = sum(len(h5py.File(path)["DeepLearningReco_network"]) for path in files)
assert rows == 120, rows
print(f"{rows} events reconstructed by {package}")
END
