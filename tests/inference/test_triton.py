"""Model repositories for Triton, read with Triton's own description of them."""

from dataclasses import replace
from pathlib import Path

import pytest

from dnn_reco.errors import ModelError
from dnn_reco.inference.model_info import LabelInfo, ModelInfo
from dnn_reco.inference.triton import write_triton_repository
from dnn_reco.nn.density_layout import DensityShape

text_format = pytest.importorskip("google.protobuf.text_format")
model_config_pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2")

LABELS = (
    LabelInfo("EnergyVisible", "GeV", has_log=True),
    LabelInfo("Time", "ns", is_relative_time=True),
    LabelInfo('a "name"\nname: "other"', is_trained=False),
)
INFO = ModelInfo("small", LABELS, num_features=9, init_values=(0.0,) * 9)


def test_what_triton_reads(tmp_path: Path) -> None:
    path = write_triton_repository(tmp_path / "models", INFO, b"a graph")
    assert path == tmp_path / "models" / "small"
    assert (path / "1" / "model.onnx").read_bytes() == b"a graph"
    assert sorted(each.name for each in path.iterdir()) == ["1", "config.pbtxt"]
    text = (path / "config.pbtxt").read_text()
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert (config.name, config.platform) == ("small", "onnxruntime_onnx")
    assert config.max_batch_size == 0 and not config.HasField("dynamic_batching")
    kind = model_config_pb2.DataType.Name
    assert [(each.name, kind(each.data_type), list(each.dims)) for each in config.input] == [
        ("offsets", "TYPE_INT64", [-1]),
        ("dom", "TYPE_INT64", [-1]),
        ("features", "TYPE_FP32", [-1, 9]),
    ]
    assert [(each.name, kind(each.data_type), list(each.dims)) for each in config.output] == [
        (name, "TYPE_FP32", [-1, 3])
        for name in ("labels_trafo", "uncertainty_trafo", "labels", "uncertainty")
    ]
    assert '#    0  "EnergyVisible" [GeV] (uncertainty: that of ln(1 + x))' in text
    assert '#    1  "Time" [ns] (relative to the time offset)' in text


def test_models_in_double_precision(tmp_path: Path) -> None:
    shape = DensityShape("direction", "von_mises_fisher", 2)
    info = replace(INFO, float_precision="float64", densities=(shape,))
    path = write_triton_repository(tmp_path, info, b"a graph")
    text = (path / "config.pbtxt").read_text()
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    kind = model_config_pb2.DataType.Name
    assert [kind(each.data_type) for each in config.input] == [*["TYPE_INT64"] * 2, "TYPE_FP64"]
    assert [kind(each.data_type) for each in config.output] == ["TYPE_FP64"] * 5


def test_several_models_and_replaced_ones(tmp_path: Path) -> None:
    for name in ("one", 'two "quoted"'):
        write_triton_repository(tmp_path, replace(INFO, name=name), b"graph")
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(ModelError, match="already exists"):
        write_triton_repository(tmp_path, replace(INFO, name="one"), b"new")
    path = write_triton_repository(tmp_path, replace(INFO, name="one"), b"new", overwrite=True)
    assert (path / "1" / "model.onnx").read_bytes() == b"new"
    (tmp_path / "other").mkdir()
    with pytest.raises(ModelError, match="already exists"):
        write_triton_repository(tmp_path, replace(INFO, name="other"), b"new", overwrite=True)


def test_other_versions_of_a_replaced_model_stay(tmp_path: Path) -> None:
    path = write_triton_repository(tmp_path, INFO, b"old")
    mine = {"2/model.onnx": "a later version", "labels.txt": "mine"}
    for name, text in mine.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(text)
    (path / "1" / "model.onnx.data").write_text("weights of the old graph")
    (path / "config.pbtxt").write_text("old")
    write_triton_repository(tmp_path, INFO, b"new", overwrite=True)
    assert {name: (path / name).read_text() for name in mine} == mine
    assert [each.name for each in (path / "1").iterdir()] == ["model.onnx"]
    assert (path / "1" / "model.onnx").read_bytes() == b"new"
    assert 'name: "small"' in (path / "config.pbtxt").read_text()
    assert [each.name for each in tmp_path.iterdir()] == ["small"]


def test_models_that_read_misc_data(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="reads misc data"):
        write_triton_repository(tmp_path, replace(INFO, misc_names=("m",)), b"graph")
    assert not list(tmp_path.iterdir())
