"""Predictions computed by ONNX Runtime, from the graphs of a model folder: without torch."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.file_events import FileEvents
from dnn_reco.data.hits import Hits
from dnn_reco.errors import ModelError
from dnn_reco.foreign_files import check_foreign_file
from dnn_reco.inference.backend import NetworkOutput, joined_outputs
from dnn_reco.inference.calibration import read_calibration
from dnn_reco.inference.manifest import MANIFEST_FILE, Manifest, check_files, read_manifest
from dnn_reco.inference.model_info import ModelInfo
from dnn_reco.inference.onnx_graph import HITS_GRAPH, MAX_GRAPH_SIZE, OnnxGraph
from dnn_reco.nn.density_layout import total_width
from dnn_reco.workers import available_cpus

# Events are computed together with those of at least this fraction of their number of hits.
_SHARE_OF_LONGEST = 0.7


class OnnxBackend:
    """Computes the predictions of a model folder on the CPU.

    Parameters
    ----------
    folder
        The model folder.
    num_threads
        CPU threads to use at most; None: all that this process may use.

    Attributes
    ----------
    calibration
        Calibration of the model, not applied here; None: there is none.

    Raises
    ------
    ConfigError
        If ONNX Runtime is not installed.
    ModelError
        If it is not a model folder, has no graph, or a file in it is missing or changed.
    """

    def __init__(self, folder: Path, num_threads: int | None = None) -> None:
        manifest = read_manifest(folder)
        self._info = _info(folder, manifest)
        self._num_networks = len(manifest.members)
        check_files(folder, manifest)
        self.calibration = read_calibration(folder, manifest, self._info)
        file = folder / HITS_GRAPH
        check_foreign_file(file, MAX_GRAPH_SIZE, folder=folder)
        self._graph = OnnxGraph(file.read_bytes(), str(file), num_threads or available_cpus())
        if self._graph.num_shapes != total_width(self._info.densities):
            raise ModelError(
                f"'{file}' does not fit '{MANIFEST_FILE}': it gives {self._graph.num_shapes} "
                f"parameters of densities instead of {total_width(self._info.densities)}: export "
                "the model again"
            )

    @property
    def info(self) -> ModelInfo:
        """What the model predicts and reads."""
        return self._info

    def predict(self, hits: Hits, misc: NDArray[np.floating] | None = None) -> NetworkOutput:
        """Predict all events of some hits as one batch (see `Backend`)."""
        if not self._graph.pads_events:
            return self._graph.predict_hits(hits)
        groups = groups_by_length(hits, _SHARE_OF_LONGEST)
        if len(groups) == 1:
            return self._graph.predict_hits(hits)
        outputs = [self._graph.predict_hits(hits.select(group)) for group in groups]
        joined = joined_outputs(outputs, self._info)
        rows = np.argsort(np.concatenate(groups))
        return NetworkOutput(
            *(getattr(joined, field.name)[rows] for field in fields(NetworkOutput))
        )

    def predict_transformed(
        self, main: NDArray[np.floating], deepcore: NDArray[np.floating]
    ) -> NetworkOutput:
        """Not offered: the transformation is part of the graph (see `Backend`)."""
        raise ModelError(
            "ONNX graphs include the transformation and do not read transformed arrays: give hits "
            "or untransformed arrays (transformed=False), or use backend='torch'"
        )

    def read_misc(self, path: Path, events: FileEvents) -> NDArray[np.floating] | None:
        """None: networks that read misc data have no graph."""
        return None

    def members(self) -> list[OnnxBackend]:
        """Itself where there is one network: those of an ensemble share a graph (see `Backend`)."""
        if self._num_networks > 1:
            raise ModelError(
                f"the ONNX graph of '{self._info.name}' holds all networks of the ensemble in "
                "one: use backend='torch' for single networks"
            )
        return [self]


def _info(folder: Path, manifest: Manifest) -> ModelInfo:
    if manifest.model is None or HITS_GRAPH not in manifest.files:
        raise ModelError(
            f"the model folder '{folder}' has no ONNX graph: export the model again with --onnx, "
            "or use backend='torch'"
        )
    return manifest.model


def groups_by_length(hits: Hits, share_of_longest: float) -> list[NDArray[np.int64]]:
    """Numbers of the events in groups of similar length, the longest first.

    Parameters
    ----------
    hits
        Hits of n events, n > 0.
    share_of_longest
        Minimum number of hits (plus one) of the events of a group, as a fraction of its longest.
    """
    lengths = np.diff(hits.offsets) + 1
    order = np.argsort(-lengths, kind="stable")
    falling = lengths[order]
    starts = [0]
    for i, length in enumerate(falling.tolist()):
        if length < share_of_longest * falling[starts[-1]]:
            starts.append(i)
    return np.split(order, starts[1:])
