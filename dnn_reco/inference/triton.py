"""Model repositories of NVIDIA's Triton Inference Server, which serves ONNX graphs of models."""

from __future__ import annotations

import json
from pathlib import Path

from dnn_reco._version import __version__
from dnn_reco.errors import ModelError
from dnn_reco.files import keep_others, replace_folder, temporary_beside
from dnn_reco.inference.model_info import LabelInfo, ModelInfo
from dnn_reco.inference.onnx_graph import OUTPUTS, SHAPES
from dnn_reco.nn.density_layout import total_width

CONFIG_FILE = "config.pbtxt"
GRAPH_FILE = "1/model.onnx"

_REALS = {"float32": "FP32", "float64": "FP64"}  # Triton's name of a model's float_precision

_HEAD = """\
# The model {name} for Triton's ONNX Runtime backend, written by dnn_reco {version}.
#
# The hits of n events, all in one request: those of event i are offsets[i] … offsets[i + 1] - 1,
# `offsets` [n + 1]; `dom` [k] is 60 * (string - 1) + om - 1, ascending within an event; `features`
# [k, {num_features}] are those of the training, times in ns relative to the event's time offset.
#
# Triton must not join requests itself (max_batch_size: 0): they differ in their number of hits.
#
# Columns of `labels` and `uncertainty` [n, {num_labels}], in physical units; `labels_trafo` and
# `uncertainty_trafo` are the same in the normalised space of the training:
{columns}
"""


def write_triton_repository(
    folder: Path, info: ModelInfo, graph: bytes, overwrite: bool = False
) -> Path:
    """Add a model to a Triton model repository; it appears at once and complete.

    Parameters
    ----------
    folder
        The repository, with or without other models.
    info
        What the model predicts and reads.
    graph
        Its ONNX graph from hits to predictions.
    overwrite
        Replace version 1 of the model and its config if they are there; other versions stay.

    Returns
    -------
    path
        Folder of the model: ``config.pbtxt`` and ``1/model.onnx``.

    Raises
    ------
    ModelError
        If something is there that may not be replaced, or the model reads misc data.
    """
    config = triton_config(info)
    refuse_existing_triton_model(folder, info.name, overwrite)
    path = _place(folder, info.name)
    with temporary_beside(path) as temporary:
        part = temporary / "new"
        (part / GRAPH_FILE).parent.mkdir(parents=True)
        (part / GRAPH_FILE).write_bytes(graph)
        (part / CONFIG_FILE).write_text(config, encoding="utf-8")
        if path.exists():
            keep_others(path, part, {Path(GRAPH_FILE).parent.name, CONFIG_FILE})
        replace_folder(path, part)
    return path


def refuse_existing_triton_model(folder: Path, name: str, overwrite: bool) -> None:
    """Check that a model of this name may be added to a repository.

    Raises
    ------
    ModelError
        If something is there that may not be replaced.
    """
    path = _place(folder, name)
    if path.exists() and not (overwrite and (path / CONFIG_FILE).is_file()):
        raise ModelError(
            f"'{path}' already exists: choose another folder, or replace a Triton model with "
            "--overwrite"
        )


def _place(folder: Path, name: str) -> Path:
    """Folder of a model in a repository."""
    return folder.resolve() / name


def triton_config(info: ModelInfo) -> str:
    """Text of ``config.pbtxt``.

    Raises
    ------
    ModelError
        If the model reads misc data, which the graph does not have.
    """
    if info.misc_names:
        raise ModelError(
            f"'{info.name}' reads misc data ({', '.join(info.misc_names)}): its ONNX graph cannot "
            "be served"
        )
    num_labels = len(info.labels)
    real = _REALS[info.float_precision]
    head = _HEAD.format(
        name=_quoted(info.name),
        version=__version__,
        num_features=info.num_features,
        num_labels=num_labels,
        columns="\n".join(_comment(i, label) for i, label in enumerate(info.labels)),
    )
    inputs = [
        _tensor("offsets", "INT64", -1),
        _tensor("dom", "INT64", -1),
        _tensor("features", real, -1, info.num_features),
    ]
    outputs = [_tensor(name, real, -1, num_labels) for name in OUTPUTS]
    if info.densities:
        outputs.append(_tensor(SHAPES, real, -1, total_width(info.densities)))
    return "\n".join(
        [
            f"{head}name: {_quoted(info.name)}",
            'platform: "onnxruntime_onnx"',
            "max_batch_size: 0",
            *_list("input", inputs),
            *_list("output", outputs),
            "",
        ]
    )


def _comment(column: int, label: LabelInfo) -> str:
    parts = [_quoted(label.name), *([f"[{label.unit}]"] if label.unit else [])]
    if label.has_log:
        parts.append("(uncertainty: that of ln(1 + x))")
    if label.is_relative_time:
        parts.append("(relative to the time offset)")
    if not label.is_trained:
        parts.append("(not trained: meaningless)")
    return f"#   {column:2d}  {' '.join(parts)}"


def _tensor(name: str, datatype: str, *dims: int) -> str:
    shape = ", ".join(map(str, dims))
    return f"{{ name: {_quoted(name)} data_type: TYPE_{datatype} dims: [ {shape} ] }}"


def _list(field: str, tensors: list[str]) -> list[str]:
    return [f"{field} [", *(f"  {each}{',' * (each != tensors[-1])}" for each in tensors), "]"]


def _quoted(text: str) -> str:
    """A string as the text format of protocol buffers has it, on one line."""
    return json.dumps(text, ensure_ascii=False)
