"""ONNX graphs of models, computed by ONNX Runtime: NumPy only, without torch.

Both graphs have the outputs `labels_trafo`, `uncertainty_trafo`, `labels` and `uncertainty` [n, L],
and `shapes` [n, P] where the network predicts shapes of densities
(:class:`dnn_reco.inference.backend.NetworkOutput`). The transformation and its inverse are part of
them, so that inputs and labels are in physical units. The number of events n and of hits k are
dynamic.

- `model_hits.onnx` reads the hits of n events as :class:`dnn_reco.data.hits.Hits` has them:
  `offsets` int64 [n + 1], `dom` int64 [k] and `features` [k, F].
- `model_dense.onnx`, of networks with a grid, reads `main` [n, 10, 10, 60, F] and `deepcore`
  [n, 8, 60, F], with the values of a DOM without hit (`DOM_init_values`) where there is no hit.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.hits import Hits
from dnn_reco.errors import ConfigError, ModelError
from dnn_reco.inference.backend import NetworkOutput

if TYPE_CHECKING:
    import onnxruntime

HITS_GRAPH = "model_hits.onnx"
DENSE_GRAPH = "model_dense.onnx"
QUANTIZED_GRAPH = "model_hits_int8.onnx"
"""Like `model_hits.onnx`, with weights of 8 bits."""
HITS_INPUTS = ("offsets", "dom", "features")
DENSE_INPUTS = ("main", "deepcore")
OUTPUTS = ("labels_trafo", "uncertainty_trafo", "labels", "uncertainty")
SHAPES = "shapes"
"""One more output of networks that predict shapes of densities."""
PADDED = "pads_events"
"""Metadata of graphs that pad all events of a batch to the longest."""

MAX_GRAPH_SIZE = 2**31 - 1  # of a protobuf message
_TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64}
NO_MESSAGES = 4  # severity of messages of ONNX Runtime


class OnnxGraph:
    """A graph, ready to be computed; several threads may use it at once.

    Parameters
    ----------
    content
        The graph.
    name
        Its file, for messages.
    num_threads
        CPU threads to use at most.

    Attributes
    ----------
    pads_events
        Whether all events of a batch are padded to the longest.
    num_shapes
        Number of columns of the shapes of densities.

    Raises
    ------
    ConfigError
        If ONNX Runtime is not installed.
    ModelError
        If it is not a graph of a model, or one that cannot be computed.
    """

    def __init__(self, content: bytes, name: str, num_threads: int) -> None:
        self._name = name
        self._session = _session(content, name, num_threads)
        inputs = {each.name: each.type for each in self._session.get_inputs()}
        self._outputs = outputs = tuple(each.name for each in self._session.get_outputs())
        known = OUTPUTS, (*OUTPUTS, SHAPES)
        if tuple(inputs) not in (HITS_INPUTS, DENSE_INPUTS) or outputs not in known:
            raise ModelError(
                f"'{name}' is not the graph of a model: it has the inputs {list(inputs)} and the "
                f"outputs {list(outputs)}"
            )
        self._dtype = _TYPES.get(inputs.get("features", inputs.get("main", "")))
        if self._dtype is None:
            raise ModelError(
                f"'{name}' is not the graph of a model: its inputs are not real numbers"
            )
        lengths = {each.name: each.shape for each in self._session.get_outputs()}
        self.num_shapes = lengths[SHAPES][-1] if lengths.get(SHAPES) else 0
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.pads_events = metadata.get(PADDED) == "True"

    def predict_hits(self, hits: Hits) -> NetworkOutput:
        """Predict all events of some hits as one batch.

        Raises
        ------
        ModelError
            If the graph cannot be computed.
        """
        return self._run(
            {
                "offsets": hits.offsets.astype(np.int64, copy=False),
                "dom": hits.dom.astype(np.int64),
                "features": self._real(hits.features),
            }
        )

    def predict_dense(
        self, main: NDArray[np.floating], deepcore: NDArray[np.floating]
    ) -> NetworkOutput:
        """Predict from dense arrays [n, 10, 10, 60, F] and [n, 8, 60, F], not transformed.

        Raises
        ------
        ModelError
            If the graph cannot be computed.
        """
        return self._run({"main": self._real(main), "deepcore": self._real(deepcore)})

    def _real(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        return np.ascontiguousarray(values, dtype=self._dtype)

    def _run(self, inputs: Mapping[str, NDArray[Any]]) -> NetworkOutput:
        try:
            return NetworkOutput(*self._session.run(self._outputs, dict(inputs)))
        except Exception as error:  # ONNX Runtime has no common base of its errors
            raise ModelError(f"'{self._name}' cannot be computed: {_first_line(error)}") from error


def _session(content: bytes, name: str, num_threads: int) -> onnxruntime.InferenceSession:
    runtime = _runtime()
    # Weights in other files are found relative to the working directory: they could be any file.
    # The key is the only way to name one.
    if b"location" in content:
        raise ModelError(
            f"'{name}' refers to other files, which graphs written by this package never do: it "
            "is not trusted"
        )
    options = runtime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = NO_MESSAGES
    options.use_deterministic_compute = True
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has no common base of its errors
        raise ModelError(
            f"'{name}' is not a graph that can be computed: {_first_line(error)}"
        ) from error


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            "ONNX Runtime is not installed: pip install 'dnn_reco[onnx]', or, without torch, "
            "pip install onnxruntime"
        ) from error
    onnxruntime.disable_telemetry_events()
    return onnxruntime


@contextmanager
def without_messages() -> Iterator[None]:
    """Without messages of libraries that concern their developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
