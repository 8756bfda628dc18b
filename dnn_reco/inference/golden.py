"""Golden answers: some events of a model folder, and what the model predicts for them.

Wherever the folder goes, they show whether the model computes there what it computed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dnn_reco.data.hits import Hits, check_hits
from dnn_reco.errors import DataError, ModelError
from dnn_reco.foreign_files import MAX_TRANSFORMATION_SIZE, check_foreign_file
from dnn_reco.inference.backend import Backend, NetworkOutput, check_features
from dnn_reco.inference.deviation import largest_deviation
from dnn_reco.inference.manifest import Manifest
from dnn_reco.nn.density_layout import total_width

GOLDEN_FILE = "golden.safetensors"
TOLERANCE = 1e-4
"""Deviation, in units of the transformed labels, above which predictions are not the same."""

_FORMAT = "dnn_reco golden answers 1"
_OUTPUTS = ("labels_trafo", "uncertainty_trafo", "labels", "uncertainty")
_SHAPES = "shapes"
_INTEGERS = ("offsets", "dom")


@dataclass(frozen=True)
class GoldenAnswers:
    """Events, and what a model predicts for them.

    Attributes
    ----------
    hits
        Hits of n events.
    misc
        Their misc data [n, M]; None: the network reads none.
    output
        The predictions.
    """

    hits: Hits
    misc: NDArray[np.floating] | None
    output: NetworkOutput

    def to_bytes(self) -> bytes:
        """The content of the file."""
        hits = self.hits
        arrays = {"offsets": hits.offsets, "dom": hits.dom, "features": hits.features}
        if self.misc is not None:
            arrays["misc"] = self.misc
        arrays |= {name: getattr(self.output, name) for name in _OUTPUTS}
        if self.output.shapes.shape[1]:
            arrays[_SHAPES] = self.output.shapes
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        return save(contiguous, metadata={"format": _FORMAT})

    def largest_deviation(self, backend: Backend) -> float:
        """Largest deviation of a backend from the answers, in units of the transformed labels."""
        output = backend.predict(self.hits, self.misc)
        return largest_deviation(output, self.output, backend.info)


def golden_answers(
    backend: Backend, hits: Hits, misc: NDArray[np.floating] | None
) -> GoldenAnswers:
    """The answers of a backend for some events."""
    hits = Hits(hits.offsets, hits.dom, hits.features.astype(backend.info.float_precision))
    return GoldenAnswers(hits, misc, backend.predict(hits, misc))


def read_golden(folder: Path, manifest: Manifest, backend: Backend) -> GoldenAnswers | None:
    """The golden answers of a model folder; None: its manifest lists none.

    Raises
    ------
    ModelError
        If they are damaged or do not fit the model.
    """
    if GOLDEN_FILE not in manifest.files:
        return None
    path = folder / GOLDEN_FILE
    check_foreign_file(path, MAX_TRANSFORMATION_SIZE, folder=folder)
    try:
        with safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        _check_types(arrays)
        hits = Hits(arrays["offsets"], arrays["dom"], arrays["features"])
        check_hits(hits)
        check_features(backend.info, hits)
        output = NetworkOutput(*(arrays[name] for name in _OUTPUTS))
        if _SHAPES in arrays:
            output = replace(output, shapes=arrays[_SHAPES])
    except (SafetensorError, OSError, KeyError, TypeError, DataError) as error:
        raise ModelError(f"'{path}' is damaged: {error}. Export the model again") from error
    shape = (hits.num_events, len(backend.info.labels))
    of_shapes = (hits.num_events, total_width(backend.info.densities))
    if (
        any(getattr(output, name).shape != shape for name in _OUTPUTS)
        or output.shapes.shape != of_shapes
    ):
        raise ModelError(f"'{path}' is damaged: it does not hold {shape} predictions")
    return GoldenAnswers(hits, arrays.get("misc"), output)


def _check_types(arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Check that arrays hold numbers of NumPy: packages such as onnx add others, like bfloat16."""
    for name, array in arrays.items():
        needed = np.integer if name in _INTEGERS else np.floating
        if not np.issubdtype(array.dtype, needed):
            raise DataError(f"'{name}' holds numbers of the type {array.dtype}")
