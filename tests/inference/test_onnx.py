"""ONNX graphs: the same predictions as by PyTorch, and only graphs of ours are computed."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import network_golden
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from small_graph_models import CNN, TRANSFORMER, SmallModel, made_up_hits
from small_run import MODEL_KWARGS, SmallRun
from tiny_network import tiny
from torch import Tensor

from dnn_reco.data.hits import Hits
from dnn_reco.errors import ConfigError, ModelError
from dnn_reco.inference.onnx_backend import OnnxBackend, groups_by_length
from dnn_reco.inference.onnx_decompositions import translations, with_known_operations
from dnn_reco.inference.onnx_export import deviation, export_graphs
from dnn_reco.inference.onnx_graph import (
    DENSE_GRAPH,
    DENSE_INPUTS,
    HITS_GRAPH,
    HITS_INPUTS,
    OUTPUTS,
    OnnxGraph,
    without_messages,
)
from dnn_reco.inference.onnx_quantize import quantize
from dnn_reco.inference.reconstructor import Reconstructor
from dnn_reco.inference.trained_model import TrainedModel
from dnn_reco.nn.ensemble import Mixture
from dnn_reco.nn.from_config import network_spec
from dnn_reco.transform import load_transformation

BOTH = {HITS_GRAPH, DENSE_GRAPH}
ANGLES = ("PrimaryZenith", "PrimaryAzimuth")
VECTOR = tuple(f"PrimaryDirection{axis}" for axis in "XYZ")
Make = Callable[..., SmallModel]


def events(*counts: int, step: int = 97) -> Hits:
    """Hits of events with these numbers of hits, on several strings, or with step 1 on one."""
    offsets = np.concatenate([[0], np.cumsum(counts)])
    dom = np.concatenate([[], *(np.arange(count) * step for count in counts)]).astype(np.uint16)
    features = np.random.default_rng(0).exponential(20.0, (len(dom), 3)).astype(np.float32)
    return Hits(offsets, dom, features)


FEW = [events(0), events(0, 0, 0), events(9), events(0, 9), events(9, 0), events(2, 50, 0, 21)]
FEW += [events(1), events(2, step=1), events(9, 50, step=1)]


def check(small: SmallModel, graphs: dict[str, bytes], folder: Path) -> None:
    """Compare both backends on 1,000 events, few events, and events without hits."""
    for content in graphs.values():
        proto = onnx.load_from_string(content)
        onnx.checker.check_model(proto)
        reduced = {
            node.op_type
            for node in proto.graph.node
            if any(each.name == "reduction" for each in node.attribute)
        }
        assert "ScatterND" not in reduced, "several threads lose summands"
    for hits in [made_up_hits(1000), *FEW]:
        assert max(deviation(small.model, graphs, hits).values()) < 1e-5
    small.write(folder, graphs)
    hits = made_up_hits(300)
    found = Reconstructor(folder, backend="onnxruntime", num_threads=1).predict(hits)
    expected = Reconstructor(folder, backend="torch").predict(hits)
    assert np.array_equal(found.status, expected.status)
    for ours, theirs in (
        (found.labels, expected.labels),
        (found.uncertainty, expected.uncertainty),
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_cnn(small_model: Make, tmp_path: Path) -> None:
    small = small_model(CNN)
    graphs = export_graphs(small.model)
    assert set(graphs) == BOTH
    check(small, graphs, tmp_path / "model")
    reco = Reconstructor(tmp_path / "model", backend="onnxruntime")
    dense = np.zeros((2, 10, 10, 60, 3), np.float32), np.ones((2, 8, 60, 3), np.float32)
    assert np.isfinite(reco.predict_dense(*dense).labels).all()
    with pytest.raises(ModelError, match="ONNX graphs include the transformation"):
        reco.predict_dense(*dense, transformed=True)


def test_transformer(small_model: Make, tmp_path: Path) -> None:
    small = small_model(TRANSFORMER)
    graphs = export_graphs(small.model)
    assert set(graphs) == {HITS_GRAPH}
    assert max(np.diff(made_up_hits(1000).offsets)) > 20, "no event is truncated"
    check(small, graphs, tmp_path / "model")
    quantized = quantize(graphs[HITS_GRAPH])
    loss = deviation(small.model, {"small": quantized}, made_up_hits(300))["small"]
    assert 1e-4 < loss < 0.5


@pytest.mark.long
@pytest.mark.parametrize("trained", [ANGLES, (*ANGLES, *VECTOR)])
def test_ensemble(small_model: Make, tmp_path: Path, trained: tuple[str, ...]) -> None:
    kwargs = {**TRANSFORMER["model_kwargs"], "num_layers": 1}
    kinds = [
        {**TRANSFORMER, "model_kwargs": {**kwargs, "relative_bias": has}} for has in (False, True)
    ]
    small = small_model(*kinds, label_weight_dict=dict.fromkeys(trained, 1))
    graphs = export_graphs(small.model)
    assert set(graphs) == {HITS_GRAPH}
    check(small, graphs, tmp_path / "model")


class _Mixing(torch.nn.Module):
    def __init__(self, mixture: Mixture) -> None:
        super().__init__()
        self.mixture = mixture

    def forward(self, labels: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        mixed = self.mixture.mix(labels.transpose(0, 1), sigma.transpose(0, 1))
        return mixed.labels, mixed.uncertainty


@pytest.mark.parametrize("trained", [ANGLES, (*ANGLES, *VECTOR)])
def test_the_graph_of_a_mixture(prepared: SmallRun, trained: tuple[str, ...]) -> None:
    """Also where azimuths lie on both sides of 0, or cancel."""
    config = prepared.config()
    spec = network_spec(config, load_transformation(Path(config.trafo.trafo_model_path)))
    names = spec.label_names
    random = torch.Generator().manual_seed(1)
    labels, sigma = torch.rand((2, 40, 3, len(names)), generator=random)  # events, members
    azimuth = names.index("PrimaryAzimuth")
    labels[:, :, azimuth] *= 2 * np.pi
    labels[0, :, azimuth] = torch.tensor([0.1, 6.2, 6.1])
    labels[1, :, azimuth] = torch.tensor([1.0, 1.0 + 2 * np.pi / 3, 1.0 + 4 * np.pi / 3])
    mixing = _Mixing(Mixture(spec, trained_labels=trained)).eval()
    shapes = {0: torch.export.Dim.DYNAMIC}
    with without_messages():
        program = torch.export.export(mixing, (labels, sigma), dynamic_shapes=(shapes, shapes))
        graph = torch.onnx.export(
            with_known_operations(program), custom_translation_table=translations(), dynamo=True
        )
    assert graph is not None
    session = onnxruntime.InferenceSession(graph.model_proto.SerializeToString())
    inputs = [each.name for each in session.get_inputs()]
    for batch in (slice(None), slice(0, 1), slice(0, 0)):
        given = labels[batch], sigma[batch]
        found = session.run(None, {k: v.numpy() for k, v in zip(inputs, given, strict=True)})
        for ours, theirs in zip(found, mixing(*given), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("kinds", [[CNN], [TRANSFORMER], [CNN, CNN]])
def test_in_float64(small_model: Make, tmp_path: Path, kinds: list[dict[str, Any]]) -> None:
    small = small_model(*kinds, float_precision="float64")
    graphs = export_graphs(small.model)
    assert set(graphs) == ({HITS_GRAPH} if kinds == [TRANSFORMER] else BOTH)
    check(small, graphs, tmp_path / "model")
    outputs = onnx.load_from_string(graphs[HITS_GRAPH]).graph.output
    assert {each.type.tensor_type.elem_type for each in outputs} == {TensorProto.DOUBLE}


@pytest.mark.long
def test_test_time_rotations(small_model: Make, tmp_path: Path) -> None:
    kwargs = {**TRANSFORMER["model_kwargs"], "test_time_rotations": 2}
    small = small_model({**TRANSFORMER, "model_kwargs": kwargs})
    check(small, export_graphs(small.model), tmp_path / "model")


@pytest.mark.long
@pytest.mark.parametrize("name", ["base", "dirnorm", "mixed", "tilted10"])
def test_golden_networks(prepared: SmallRun, golden_network: Path, name: str) -> None:
    spec = network_golden.spec(golden_network)
    network = network_golden.model(golden_network, name)
    model = TrainedModel(name, prepared.config(), spec, network, spec.label_names)
    batch = network_golden.hits(golden_network)
    counts = torch.bincount(batch.event, minlength=batch.num_events).numpy()
    offsets = np.concatenate([[0], np.cumsum(counts)])
    hits = Hits(offsets, batch.dom.numpy().astype(np.uint16), batch.features.numpy())
    assert max(deviation(model, export_graphs(model), hits).values()) < 1e-5


def test_networks_without_a_graph(small_model: Make, prepared: SmallRun) -> None:
    model = small_model(CNN).model
    own = small_model(tiny()).model
    with pytest.raises(ModelError, match=r"your own code \(tiny_network.TinyNetwork\)"):
        export_graphs(own)
    model.network.needs_misc = True  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match="its network reads misc data"):
        export_graphs(model)


@pytest.mark.parametrize(
    ("activation", "precision", "message"),
    [
        ("digamma", "float32", "'small' has no ONNX graph"),
        ("asin", "float64", "'small' is not a graph that can be computed"),  # only in float32
    ],
)
def test_networks_of_operations_that_are_missing(
    small_model: Make, activation: str, precision: str, message: str
) -> None:
    layers = {**MODEL_KWARGS["fc_settings"], "activation_list": activation}
    kwargs = {**CNN["model_kwargs"], "fc_settings": layers}
    kwargs["conv_ic78_settings"] = {  # quickly exported
        **kwargs["conv_ic78_settings"],
        "filter_size_list": [[1, 1, 1]],
        "method_list": "convolution",
    }
    model = small_model({"model_kwargs": kwargs}, float_precision=precision).model
    with pytest.raises(ModelError, match=message):
        export_graphs(model)


def test_groups_of_similar_length() -> None:
    hits = events(3, 40, 0, 38, 4, 29)
    groups = groups_by_length(hits, 0.7)
    assert [group.tolist() for group in groups] == [[1, 3, 5], [4, 0], [2]]


def graph(
    inputs: tuple[str, ...] = HITS_INPUTS,
    outputs: tuple[str, ...] = OUTPUTS,
    node: str = "Identity",
    weight: TensorProto | None = None,
) -> bytes:
    """A graph whose outputs are its features."""
    kinds = {"offsets": TensorProto.INT64, "dom": TensorProto.INT64}
    real = inputs[-1]
    values = [
        helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), None)
        for name in inputs
    ]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    arguments = [real] if weight is None else [real, weight.name]
    nodes = [helper.make_node(node, arguments, [name]) for name in outputs]
    weights = [] if weight is None else [weight]
    proto = helper.make_graph(nodes, "g", values, results, weights)
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(proto, opset_imports=opset, ir_version=9)
    return model.SerializeToString()


def external_weight() -> TensorProto:
    """A weight that stands in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 3])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "secret.bin", "offset": "0", "length": "36"}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def test_only_graphs_of_models_are_computed() -> None:
    hits = events(2, 3)
    output = OnnxGraph(graph(), "x", 1).predict_hits(hits)
    assert np.array_equal(output.labels, hits.features)
    main, deepcore = np.zeros((2, 1)), np.ones((2, 1))
    output = OnnxGraph(graph(DENSE_INPUTS), "x", 1).predict_dense(main, deepcore)
    assert np.array_equal(output.labels, deepcore)
    for wrong in (graph(("features",)), graph(outputs=OUTPUTS[:2])):
        with pytest.raises(ModelError, match="'x' is not the graph of a model: it has the inputs"):
            OnnxGraph(wrong, "x", 1)
    for wrong in (b"", b"ORTM", graph()[:-20], graph(node="NoSuchNode"), b"\xff" * 99):
        with pytest.raises(ModelError, match="'x' is not a graph"):
            OnnxGraph(wrong, "x", 1)
    with pytest.raises(ModelError, match="'x' cannot be computed"):
        weight = helper.make_tensor("w", TensorProto.FLOAT, [7, 7], [0.0] * 49)
        OnnxGraph(graph(node="MatMul", weight=weight), "x", 1).predict_hits(hits)


def test_no_graph_reads_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.zeros(9, np.float32).tofile(tmp_path / "secret.bin")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="'x' refers to other files"):
        OnnxGraph(graph(node="MatMul", weight=external_weight()), "x", 1)


def test_what_a_folder_needs(
    small_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = small_model(CNN)
    without = small.write(tmp_path / "without")
    with pytest.raises(ModelError, match="has no ONNX graph: export the model again with --onnx"):
        Reconstructor(without, backend="onnxruntime")
    folder = small.write(tmp_path / "with", {HITS_GRAPH: graph()})
    backend = OnnxBackend(folder)
    assert backend.info.name == "with"
    assert backend.predict(events(2)).labels.shape == (2, 3)
    with pytest.raises(ConfigError, match="computes on the CPU, not on device 'cuda'"):
        Reconstructor(folder, backend="onnxruntime", device="cuda")
    with pytest.raises(ConfigError, match="give its path, not a loaded model"):
        Reconstructor(small.model, backend="onnxruntime")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(ConfigError, match=re.escape("pip install 'dnn_reco[onnx]'")):
            Reconstructor(folder, backend="onnxruntime")
    (folder / HITS_GRAPH).write_bytes(graph(node="Neg"))
    with pytest.raises(ModelError, match="was changed since the model was written"):
        Reconstructor(folder, backend="onnxruntime")
