"""Reconstructs events where torch is not installed: run by `test_without_torch.py`.

Arguments: the model folder, hits (npz), an event file, and the file for the predictions (npz).
"""

import importlib.util
import subprocess
import sys
import time

import numpy as np

for package in ("torch", "matplotlib", "tensorboard", "jinja2", "onnx", "pandas"):
    assert importlib.util.find_spec(package) is None, f"{package} is installed"

model, hits_file, event_file, output = sys.argv[1:]

start = time.perf_counter()
from dnn_reco import EventTable, Hits, PredictionTable, Reconstructor  # noqa: E402

reco = Reconstructor(model, backend="onnxruntime", num_threads=1)
seconds = time.perf_counter() - start

with np.load(hits_file) as file:
    hits = Hits(file["offsets"], file["dom"], file["features"])
of_hits = reco.predict(hits)
of_file = Reconstructor(model).predict(event_file)  # the only backend there is
assert isinstance(of_hits, PredictionTable) and EventTable is not None

from dnn_reco import open_events  # noqa: E402

of_events = reco.predict(open_events(event_file))
assert np.array_equal(of_events.labels, of_file.labels, equal_nan=True)

for options in (["--help"], ["train", "--help"], ["import", "--help"]):
    command = [sys.executable, "-m", "dnn_reco", *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

np.savez(
    output,
    seconds=seconds,
    hits_labels=of_hits.labels,
    hits_uncertainty=of_hits.uncertainty,
    file_labels=of_file.labels,
    file_uncertainty=of_file.uncertainty,
)
