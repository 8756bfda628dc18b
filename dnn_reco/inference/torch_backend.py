"""Predictions computed by PyTorch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from dnn_reco.data.file_events import FileEvents
from dnn_reco.data.from_config import record_settings
from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.data.hits import Hits
from dnn_reco.data.records import ColumnNames, event_table, load_misc
from dnn_reco.errors import ModelError
from dnn_reco.inference.backend import NetworkOutput
from dnn_reco.inference.model_info import ModelInfo
from dnn_reco.inference.trained_model import TrainedModel, model_info
from dnn_reco.nn.ensemble import Ensemble
from dnn_reco.nn.interface import Network, Prediction
from dnn_reco.nn.misc_data import MiscData, MiscTransform
from dnn_reco.nn.own_network import call_network
from dnn_reco.nn.predictor import GridNetwork, without_tf32


class TorchBackend:
    """Computes the predictions of a trained model on its device.

    Parameters
    ----------
    model
        The model.
    """

    def __init__(self, model: TrainedModel) -> None:
        self.model = model
        self._info = model_info(model)
        self._dtype = np.dtype(self._info.float_precision)
        self._misc_transform = MiscTransform(model.spec.transformation).to(model.device)

    @property
    def info(self) -> ModelInfo:
        """What the model predicts and reads."""
        return self._info

    @torch.inference_mode()
    @without_tf32()
    def predict(self, hits: Hits, misc: NDArray[np.floating] | None = None) -> NetworkOutput:
        """Predict all events of some hits as one batch (see `Backend`)."""
        hits = replace(hits, features=hits.features.astype(self._dtype, copy=False))
        on_device = HitBatch.from_hits(hits).to(self.model.device, non_blocking=True)
        return _arrays(call_network(self.model.network, on_device, self._misc(misc)))

    @torch.inference_mode()
    @without_tf32()
    def predict_transformed(
        self, main: NDArray[np.floating], deepcore: NDArray[np.floating]
    ) -> NetworkOutput:
        """Predict from dense arrays that are transformed already (see `Backend`)."""
        network = self.model.network
        if not isinstance(network, GridNetwork):
            raise ModelError(
                f"the network of '{self._info.name}' does not read transformed dense arrays: give "
                "hits, or untransformed arrays (transformed=False)"
            )
        grids = [
            torch.from_numpy(np.ascontiguousarray(array, self._dtype)).to(self.model.device)
            for array in (main, deepcore)
        ]
        return _arrays(network.read_grid(*grids))

    def read_misc(self, path: Path, events: FileEvents) -> NDArray[np.floating] | None:
        """Misc data [n, M] of the events of a file, by the misc loader of the config."""
        if not self._info.misc_names:
            return None
        config = self.model.config
        names = ColumnNames((), self._info.misc_names)
        settings = record_settings(config)
        return load_misc(path, event_table(events), settings, config.plugin_view(), names)

    def members(self) -> list[TorchBackend]:
        """One for each network of an ensemble; itself where there is one network."""
        network = self.model.network
        if not isinstance(network, Ensemble):
            return [self]
        return [
            TorchBackend(replace(self.model, network=cast(Network, each)))
            for each in network.networks
        ]

    def _misc(self, misc: NDArray[np.floating] | None) -> MiscData | None:
        if misc is None:
            return None
        values = torch.from_numpy(np.ascontiguousarray(misc, dtype=self._dtype))
        return self._misc_transform.data(values.to(self.model.device))


def _arrays(prediction: Prediction) -> NetworkOutput:
    outputs = [
        prediction.labels_trafo,
        prediction.uncertainty_trafo,
        prediction.labels,
        prediction.uncertainty,
        prediction.shapes,
    ]
    if outputs[0].device.type != "cpu":  # one copy, as each waits
        widths = [each.shape[1] for each in outputs]
        outputs = list(torch.split(torch.cat(outputs, dim=1).cpu(), widths, dim=1))
    return NetworkOutput(*(output.numpy() for output in outputs))
