"""ONNX graphs of trained models, and how far they deviate from PyTorch."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dnn_reco._version import __version__
from dnn_reco.config import is_of_package
from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.data.hits import Hits, dense_cells
from dnn_reco.detector.grid import DEEPCORE_SHAPE, MAIN_SHAPE, NUM_MAIN_CELLS
from dnn_reco.errors import ConfigError, ModelError
from dnn_reco.inference.backend import batches_of
from dnn_reco.inference.deviation import largest_deviation
from dnn_reco.inference.onnx_decompositions import translations, with_known_operations
from dnn_reco.inference.onnx_graph import (
    DENSE_GRAPH,
    DENSE_INPUTS,
    HITS_GRAPH,
    HITS_INPUTS,
    MAX_GRAPH_SIZE,
    OUTPUTS,
    PADDED,
    SHAPES,
    OnnxGraph,
    without_messages,
)
from dnn_reco.inference.torch_backend import TorchBackend
from dnn_reco.inference.trained_model import TrainedModel
from dnn_reco.nn.ensemble import Ensemble
from dnn_reco.nn.interface import Network, Prediction, density_layout
from dnn_reco.nn.own_network import needs_misc

if TYPE_CHECKING:
    import onnx

_OPSET = 18
_BATCH_SIZE = 256
_SPACE_FOR_NODES = 2**26


@runtime_checkable
class DenseNetwork(Protocol):
    """A network that also reads dense arrays, not transformed."""

    def read_dense(self, main: Tensor, deepcore: Tensor) -> Prediction:
        """Predict from arrays [B, 10, 10, 60, F] and [B, 8, 60, F] of the values of all DOMs."""


def export_graphs(model: TrainedModel) -> dict[str, bytes]:
    """The ONNX graphs of a model, by the name of their file (:mod:`dnn_reco.inference.onnx_graph`).

    Raises
    ------
    ConfigError
        If the packages that write and compute graphs are not installed.
    ModelError
        If the network has no graph, or ONNX Runtime cannot compute it.
    """
    _check_packages()
    _check_network(model.name, model.network)
    network = copy.deepcopy(model.network)
    network.to(torch.device("cpu"))
    hits = example_hits(model)
    graphs = {HITS_GRAPH: _export(_HitsGraph(network), _hits_inputs(hits), HITS_INPUTS, model)}
    if _reads_dense(network):
        dense = tuple(torch.from_numpy(array) for array in _dense_arrays(model, hits))
        graphs[DENSE_GRAPH] = _export(_DenseGraph(network), dense, DENSE_INPUTS, model)
    return graphs


def deviation(
    model: TrainedModel, graphs: Mapping[str, bytes], hits: Hits, num_threads: int = 1
) -> dict[str, float]:
    """Largest deviation of each graph from PyTorch, in units of the transformed labels.

    It is defined in :func:`dnn_reco.inference.deviation.largest_deviation`.

    Parameters
    ----------
    model
        The model.
    graphs
        Its graphs, by the name of their file.
    hits
        Hits of some events, untransformed.
    num_threads
        CPU threads for the graphs.

    Raises
    ------
    ModelError
        If a graph cannot be computed.
    """
    backend = TorchBackend(model)
    largest = dict.fromkeys(graphs, 0.0)
    sessions = {name: OnnxGraph(graph, name, num_threads) for name, graph in graphs.items()}
    for batch in batches_of([hits], _BATCH_SIZE):
        expected = backend.predict(batch)
        for name, graph in sessions.items():
            if name == DENSE_GRAPH:
                found = graph.predict_dense(*_dense_arrays(model, batch))
            else:
                found = graph.predict_hits(batch)
            largest[name] = max(largest[name], largest_deviation(found, expected, backend.info))
    return largest


class _HitsGraph(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, offsets: Tensor, dom: Tensor, features: Tensor) -> tuple[Tensor, ...]:
        num_events, num_hits = offsets.shape[0] - 1, dom.shape[0]
        starts = torch.zeros(num_hits + 1, dtype=torch.int64)
        starts = starts.index_add(0, offsets[1:-1], torch.ones_like(offsets[1:-1]))
        event = starts.cumsum(0)[:num_hits]
        return _outputs(self.network(HitBatch(num_events, event, dom, features)))


class _DenseGraph(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, main: Tensor, deepcore: Tensor) -> tuple[Tensor, ...]:
        return _outputs(_predict_dense(self.network, main, deepcore))


def _outputs(prediction: Prediction) -> tuple[Tensor, ...]:
    names = (*OUTPUTS, SHAPES) if prediction.shapes.shape[1] else OUTPUTS
    return tuple(getattr(prediction, name) for name in names)


def _predict_dense(network: Network, main: Tensor, deepcore: Tensor) -> Prediction:
    if isinstance(network, Ensemble):
        mixed: Prediction = network.mixture(
            [_predict_dense(each, main, deepcore) for each in network.networks]
        )
        return mixed
    assert isinstance(network, DenseNetwork)
    return network.read_dense(main, deepcore)


def _members(network: Network) -> list[Network]:
    return list(network.networks) if isinstance(network, Ensemble) else [network]


def _reads_dense(network: Network) -> bool:
    return all(isinstance(each, DenseNetwork) for each in _members(network))


def _check_network(name: str, network: Network) -> None:
    num_bytes = sum(each.numel() * each.element_size() for each in network.parameters())
    if num_bytes > MAX_GRAPH_SIZE - _SPACE_FOR_NODES:
        raise ModelError(
            f"'{name}' has no ONNX graph: it has {num_bytes / 2**30:.1f} GiB of weights, a graph "
            "has at most 2 GiB. Export it without --onnx"
        )
    for each in _members(network):
        if not is_of_package(each):
            raise ModelError(
                f"'{name}' has no ONNX graph: its network is your own code "
                f"({type(each).__module__}.{type(each).__qualname__}), which may use operations "
                "that graphs do not have. Export it without --onnx, or write the graph with "
                "torch.onnx.export"
            )
        if needs_misc(each):
            raise ModelError(
                f"'{name}' has no ONNX graph: its network reads misc data, which graphs do not "
                "read. Export it without --onnx"
            )


def _check_packages() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"ONNX graphs need the package {package}: pip install 'dnn_reco[onnx]'"
            )


def example_hits(model: TrainedModel) -> Hits:
    """Hits of a few events, one without any: sizes that no other quantity has."""
    counts, num_features = np.array([2, 0, 5, 4]), model.spec.num_bins
    dom = np.concatenate([np.arange(count) for count in counts]).astype(np.uint16)
    dtype = np.dtype(model.config.general.float_precision)
    features = np.ones((len(dom), num_features), dtype)
    return Hits(np.concatenate([[0], np.cumsum(counts)]), dom, features)


def _hits_inputs(hits: Hits) -> tuple[Tensor, ...]:
    batch = HitBatch.from_hits(hits)
    return torch.from_numpy(hits.offsets), batch.dom, batch.features


def _dense_arrays(model: TrainedModel, hits: Hits) -> tuple[NDArray[np.floating], ...]:
    cells = dense_cells(hits, model.spec.dom_init_values)
    shape = len(cells), hits.num_features
    main, deepcore = cells[:, :NUM_MAIN_CELLS], cells[:, NUM_MAIN_CELLS:]
    return (
        main.reshape(shape[0], *MAIN_SHAPE, shape[1]),
        deepcore.reshape(shape[0], *DEEPCORE_SHAPE, shape[1]),
    )


def _export(
    graph: nn.Module, inputs: tuple[Tensor, ...], names: Sequence[str], model: TrainedModel
) -> bytes:
    """The graph as bytes, checked; the first axis of all inputs is dynamic."""
    outputs = (*OUTPUTS, SHAPES) if density_layout(model.network) else OUTPUTS
    dynamic = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs)
    try:
        with torch.no_grad(), without_messages():
            program = torch.export.export(graph.eval(), inputs, dynamic_shapes=dynamic)
            exported = torch.onnx.export(
                with_known_operations(program),
                input_names=list(names),
                output_names=list(outputs),
                opset_version=_OPSET,
                custom_translation_table=translations(),
                dynamo=True,
                optimize=True,
                verbose=False,
            )
    except Exception as error:  # of torch.export and of the exporter
        raise ModelError(f"'{model.name}' has no ONNX graph: {error}") from error
    assert exported is not None
    content = _finished(exported.model_proto, pads_events=not _reads_dense(model.network))
    OnnxGraph(content, model.name, num_threads=1)
    return content


def _finished(proto: onnx.ModelProto, pads_events: bool) -> bytes:
    """A graph with names of our own for its sizes, checked."""
    import onnx

    graph = proto.graph
    del graph.value_info[:]
    for part in (proto, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    for value in graph.input:
        size = {"offsets": "num_events + 1", "dom": "num_hits", "features": "num_hits"}
        value.type.tensor_type.shape.dim[0].dim_param = size.get(value.name, "num_events")
    for value in graph.output:
        value.type.tensor_type.shape.dim[0].dim_param = "num_events"
    proto.producer_name, proto.producer_version = "dnn_reco", __version__
    onnx.helper.set_model_props(proto, {PADDED: str(pads_events)})
    onnx.checker.check_model(proto)
    content: bytes = proto.SerializeToString()
    return content
