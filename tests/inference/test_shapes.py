"""Shapes of densities on their way from a network to predictions, sky maps and evaluations."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_graph_models import TRANSFORMER, SmallModel, made_up_hits

from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.errors import ModelError
from dnn_reco.inference.calibration import Calibration, Correction, Terms, check_calibration
from dnn_reco.inference.deviation import largest_deviation
from dnn_reco.inference.golden import golden_answers, read_golden
from dnn_reco.inference.manifest import MANIFEST_FILE, Manifest, read_manifest
from dnn_reco.inference.onnx_export import deviation, export_graphs
from dnn_reco.inference.prediction_table import PredictionTable
from dnn_reco.inference.reconstructor import Reconstructor
from dnn_reco.inference.sky_densities import Mixture, VonMisesFisher
from dnn_reco.inference.torch_backend import TorchBackend
from dnn_reco.inference.triton import triton_config
from dnn_reco.nn.density_layout import DensityShape, PredictedShapes, total_width
from dnn_reco.nn.sphere_flow import flow_log_prob

LABELS = ("PrimaryDirectionX", "PrimaryDirectionY", "PrimaryDirectionZ", "EnergyVisible")
HEADS = {"direction": "mixture", "EnergyVisible": {"kind": "mixture", "components": 2}}
SHAPED: dict[str, Any] = {
    **TRANSFORMER,
    "model_kwargs": {**TRANSFORMER["model_kwargs"], "heads": HEADS, "test_time_rotations": 2},
    "label_weight_dict": dict.fromkeys(LABELS, 1.0),
}
LAYOUT = (
    DensityShape("direction", "von_mises_fisher", 8),
    DensityShape("EnergyVisible", "normal", 4),
)
Make = Callable[..., SmallModel]


@pytest.fixture(scope="module")
def small(small_model: Make) -> SmallModel:
    return small_model(SHAPED)


def direct(small: SmallModel, num_events: int = 40) -> np.ndarray:
    """Shapes as the network itself predicts them."""
    with torch.no_grad():
        network = small.model.network
        prediction = network(HitBatch.from_hits(made_up_hits(num_events)))
    return prediction.shapes.double().numpy()


def test_folders_tell_and_give_the_shapes(small: SmallModel, tmp_path: Path) -> None:
    folder = small.write(tmp_path / "model")
    manifest = read_manifest(folder)
    assert manifest.model is not None
    assert manifest.model.densities == LAYOUT
    reco = Reconstructor(folder, backend="torch")
    table = reco.predict(made_up_hits(40))
    assert table.shapes is not None
    assert table.shapes.layout == LAYOUT
    ok = table.status == 0
    assert 0 < ok.sum() < 40
    np.testing.assert_allclose(table.shapes.values[ok], direct(small)[ok], rtol=1e-4, atol=1e-5)
    assert np.isnan(table.shapes.values[~ok]).all()
    # rows and joined tables keep them
    rows = np.array([7, 3, 7])
    both = PredictionTable.joined([table.rows(rows), table])
    assert both.shapes is not None
    np.testing.assert_array_equal(both.shapes.values[:3], table.shapes.values[rows])
    np.testing.assert_array_equal(both.shapes.values[3:], table.shapes.values)
    assert set(table.columns()) == set(replace(table, shapes=None).columns())


def test_a_folder_of_an_older_version_has_no_shapes(small_model: Make, tmp_path: Path) -> None:
    folder = small_model(TRANSFORMER).write(tmp_path / "model")
    file = folder / MANIFEST_FILE
    content = json.loads(file.read_text())
    assert content["model"].pop("densities") == []
    file.write_text(json.dumps(content))
    assert Reconstructor(folder, backend="torch").predict(made_up_hits(3)).shapes is None


def test_sky_maps_have_the_density_of_the_network(small: SmallModel, tmp_path: Path) -> None:
    reco = Reconstructor(small.write(tmp_path / "model"), backend="torch")
    table = reco.predict(made_up_hits(40))
    event = int(np.flatnonzero(table.status == 0)[1])
    (components,) = direct(small)[event : event + 1, :32].reshape(1, 8, 4)
    sky = reco.sky(table, event)
    assert isinstance(sky, Mixture)
    directions = np.random.default_rng(1).normal(size=(100, 3))
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    kappa = np.linalg.norm(components[:, 1:], axis=1)
    norm = kappa / (4 * np.pi * np.sinh(kappa))
    expected = (np.exp(components[:, 0]) * norm * np.exp(unit @ components[:, 1:].T)).sum(axis=1)
    np.testing.assert_allclose(np.exp(sky.log_prob_dir(directions)), expected, rtol=1e-4)
    assert isinstance(reco.sky(table, event, "predicted"), Mixture)
    assert isinstance(reco.sky(table, event, "fisher"), VonMisesFisher)
    with pytest.raises(ModelError, match="predicts no other density for the direction"):
        reco.sky(replace(table, shapes=None), event, "predicted")


FLOW = {"direction": "flow", "EnergyVisible": "student"}


@pytest.mark.parametrize(
    ("heads", "precision"),
    [
        (HEADS, "float32"),
        pytest.param(HEADS, "float64", marks=pytest.mark.long),
        pytest.param(FLOW, "float32", marks=pytest.mark.long),
    ],
)
def test_onnx(small_model: Make, tmp_path: Path, heads: dict[str, Any], precision: str) -> None:
    kwargs = {**TRANSFORMER["model_kwargs"], "num_layers": 1, "heads": heads}
    small = small_model({**SHAPED, "model_kwargs": kwargs}, float_precision=precision)
    graphs = export_graphs(small.model)
    assert max(deviation(small.model, graphs, made_up_hits(300)).values()) < 1e-4
    folder = small.write(tmp_path / "model", graphs)
    found = Reconstructor(folder, backend="onnxruntime", num_threads=1).predict(made_up_hits(40))
    expected = Reconstructor(folder, backend="torch").predict(made_up_hits(40))
    assert found.shapes is not None and expected.shapes is not None
    np.testing.assert_allclose(found.shapes.values, expected.shapes.values, rtol=1e-3, atol=1e-4)
    width = total_width(found.shapes.layout)
    assert f'name: "shapes" data_type: TYPE_FP32 dims: [ -1, {width} ]' in triton_config(
        TorchBackend(small.model).info
    )
    file = folder / MANIFEST_FILE
    content = json.loads(file.read_text())
    last = found.shapes.layout[-1].width
    content["model"]["densities"].pop()
    file.write_text(json.dumps(content))
    with pytest.raises(
        ModelError, match=f"it gives {width} parameters of densities instead of {width - last}"
    ):
        Reconstructor(folder, backend="onnxruntime")


def test_an_ensemble_has_the_components_of_all(small_model: Make, tmp_path: Path) -> None:
    small = small_model(SHAPED, SHAPED)
    reco = Reconstructor(small.write(tmp_path / "model"), backend="torch")
    assert [shape.num_components for shape in reco.info.densities] == [16, 8]
    hits = made_up_hits(20)
    table = reco.predict(hits)
    event = int(np.flatnonzero(table.status == 0)[0])
    directions = np.random.default_rng(2).normal(size=(50, 3))
    np.testing.assert_allclose(
        reco.sky(table, event).log_prob_dir(directions),
        reco.sky(hits, event, members=True).log_prob_dir(directions),
        rtol=1e-4,
    )


def test_golden_answers_hold_shapes(small: SmallModel, tmp_path: Path) -> None:
    backend = TorchBackend(small.model)
    answers = golden_answers(backend, made_up_hits(10), None)
    (tmp_path / "golden.safetensors").write_bytes(answers.to_bytes())
    manifest = Manifest("a test", {"golden.safetensors": "…"})
    again = read_golden(tmp_path, manifest, backend)
    assert again is not None
    np.testing.assert_array_equal(again.output.shapes, answers.output.shapes)
    assert again.largest_deviation(backend) < 1e-6
    other = replace(answers.output, shapes=answers.output.shapes + 0.5)
    assert largest_deviation(other, answers.output, backend.info) > 0.2


def test_a_calibration_widens_the_density_of_labels(small: SmallModel) -> None:
    """Shapes are relative to σ; that of the direction is corrected separately."""
    backend, hits = TorchBackend(small.model), made_up_hits(10)
    output = backend.predict(hits)
    double = Correction(Terms(0), (np.log(2.0),), (0.0, 1.0), (0.0, 1.0))
    calibration = Calibration({"EnergyVisible": double}, direction=double)
    found = calibration.apply(output, np.diff(hits.offsets), backend.info)
    energy = backend.info.label_names.index("EnergyVisible")
    np.testing.assert_allclose(found.uncertainty[:, energy], 2 * output.uncertainty[:, energy])
    np.testing.assert_array_equal(found.shapes, output.shapes)
    sharper = replace(calibration, density=double)
    corrected = sharper.apply(output, np.diff(hits.offsets), backend.info)
    shapes = [PredictedShapes(LAYOUT, each.shapes) for each in (output, corrected)]
    before, after = (each.of("direction") for each in shapes)
    assert before is not None and after is not None
    np.testing.assert_array_equal(after[..., 0], before[..., 0])
    np.testing.assert_allclose(after[..., 1:], 2 * before[..., 1:], rtol=1e-5)
    rest = slice(LAYOUT[0].width, None)
    np.testing.assert_array_equal(shapes[1].values[:, rest], shapes[0].values[:, rest])
    plain = replace(backend.info, densities=())
    with pytest.raises(ModelError, match="corrects a density that the model does not predict"):
        check_calibration(sharper, plain, "calibration.json")


def test_a_flow_on_its_way(small_model: Make, tmp_path: Path) -> None:
    kwargs = {**TRANSFORMER["model_kwargs"], "heads": FLOW, "test_time_rotations": 2}
    small = small_model({**SHAPED, "model_kwargs": kwargs})
    reco = Reconstructor(small.write(tmp_path / "model"), backend="torch")
    assert reco.info.densities == (
        DensityShape("direction", "flow", 2),
        DensityShape("EnergyVisible", "student", 2),
    )
    table = reco.predict(made_up_hits(20))
    event = int(np.flatnonzero(table.status == 0)[0])
    sky = reco.sky(table, event)
    directions = np.random.default_rng(1).normal(size=(30, 3))
    components = torch.from_numpy(direct(small, 20))[event, :106].view(1, 2, 53)
    unit = torch.nn.functional.normalize(torch.from_numpy(directions), dim=1)
    expected = flow_log_prob(components.expand(30, -1, -1), unit)
    np.testing.assert_allclose(sky.log_prob_dir(directions), expected, rtol=1e-4, atol=1e-4)
    areas = sky.contour_area([0.5, 0.9])
    assert 0 < areas[0] < areas[1] < 41_253
