"""Predictions where torch is not installed, by the environment that `make install-onnx` makes."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_graph_models import TRANSFORMER, SmallModel, made_up_hits
from small_run import SmallRun

from dnn_reco.inference.onnx_export import export_graphs
from dnn_reco.inference.reconstructor import Reconstructor

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHON = REPOSITORY / ".venv-onnx" / "bin" / "python"
SCRIPT = REPOSITORY / "tests" / "reconstruct_without_torch.py"


def test_the_same_predictions_without_torch(
    small_model: Callable[..., SmallModel], prepared: SmallRun, tmp_path: Path
) -> None:
    if not PYTHON.exists() and "CI" not in os.environ:
        pytest.skip(f"'{PYTHON}' is not there: make install-onnx")
    small = small_model(TRANSFORMER)
    folder = small.write(tmp_path / "model", dict(export_graphs(small.model)))
    hits, event_file = made_up_hits(200), prepared.folder / "validation.hdf5"
    np.savez(tmp_path / "hits.npz", offsets=hits.offsets, dom=hits.dom, features=hits.features)
    arguments = [folder, tmp_path / "hits.npz", event_file, tmp_path / "found.npz"]
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    result = subprocess.run(
        [str(PYTHON), str(SCRIPT), *map(str, arguments)],
        env={**kept, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    reco = Reconstructor(folder, backend="torch", device="cpu")
    with np.load(tmp_path / "found.npz") as found:
        for name, source in (("hits", hits), ("file", event_file)):
            expected = reco.predict(source)
            for kind in ("labels", "uncertainty"):
                theirs = getattr(expected, kind)
                scale = np.nanstd(theirs, axis=0) + 1e-3
                np.testing.assert_allclose(
                    found[f"{name}_{kind}"] / scale, theirs / scale, rtol=1e-5, atol=1e-5
                )
