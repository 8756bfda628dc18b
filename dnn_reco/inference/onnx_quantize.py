"""Graphs with weights of 8 bits: smaller, and less accurate."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from dnn_reco.errors import ModelError
from dnn_reco.inference.onnx_graph import NO_MESSAGES, without_messages


def quantize(graph: bytes) -> bytes:
    """The same graph with the weights of its matrix products in 8 bits.

    Convolutions stay as they are: in 8 bits they take longer. How much accuracy that costs depends
    on the network: measure it with :func:`dnn_reco.inference.onnx_export.deviation`.

    Raises
    ------
    ModelError
        If it cannot be quantized, as graphs in float64.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    original = onnx.load_from_string(graph)
    with TemporaryDirectory() as folder:
        folded, quantized = Path(folder) / "folded.onnx", Path(folder) / "quantized.onnx"
        try:
            _write_folded(graph, folded)
            with without_messages():
                quantize_dynamic(
                    folded,
                    quantized,
                    op_types_to_quantize=["MatMul", "Gemm"],
                    per_channel=True,
                    weight_type=QuantType.QInt8,
                )
        except Exception as error:  # ONNX Runtime has no common base of its errors
            raise ModelError(f"the graph cannot be quantized: {error}") from error
        proto = onnx.load(quantized)
    onnx.helper.set_model_props(proto, {each.key: each.value for each in original.metadata_props})
    content: bytes = proto.SerializeToString()
    return content


def _write_folded(graph: bytes, path: Path) -> None:
    """Write a graph whose weights are stored, instead of being computed from constants."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.log_severity_level = NO_MESSAGES
    onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
