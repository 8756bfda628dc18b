"""Small models with ONNX graphs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from small_run import BRANCH, MODEL_KWARGS

from dnn_reco.data.hits import Hits
from dnn_reco.inference.model_folder import Member, contents_of, model_of, write_model_folder
from dnn_reco.inference.trained_model import TrainedModel

CPU = torch.device("cpu")
# one layer a branch: exporting a graph takes long
_LAYER = {**BRANCH, "num_filters_list": [2], "pooling_type_list": ["avg"]}
_PLAIN = {
    **_LAYER,
    "filter_size_list": [[1, 3]],
    "method_list": "convolution",
    "pooling_strides_list": [[1, 1, 4, 1]],
    "pooling_ksize_list": [[1, 1, 4, 1]],
}
_HEXAGONAL = {
    **_LAYER,
    "filter_size_list": [[2, 0, 3]],
    "method_list": "hex_convolution",
    "pooling_strides_list": [[1, 2, 2, 8, 1]],
    "pooling_ksize_list": [[1, 2, 2, 8, 1]],
    "strides_list": [1, 1, 1, 1, 1],
}
CNN: dict[str, Any] = {
    "model_kwargs": {
        **MODEL_KWARGS,
        "conv_upper_deepcore_settings": _PLAIN,
        "conv_lower_deepcore_settings": _PLAIN,
        "conv_ic78_settings": _HEXAGONAL,
    }
}
TRANSFORMER: dict[str, Any] = {
    "model_class": "dnn_reco.modules.models.dom_transformer.DomTransformer",
    "model_kwargs": {"width": 16, "num_layers": 2, "hidden": 16, "max_tokens": 20},
}


@dataclass(frozen=True)
class SmallModel:
    """Networks with random weights, as members of a model folder."""

    members: list[Member]

    @property
    def model(self) -> TrainedModel:
        return model_of("small", [each.load("small", CPU) for each in self.members])

    def write(self, path: Path, files: dict[str, bytes] | None = None) -> Path:
        write_model_folder(path, contents_of(self.members, "a test", files))
        return path


def made_up_hits(num_events: int, max_hits: int = 40, seed: int = 5) -> Hits:
    """Made-up hits of three features, some events without any."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(5, max_hits, num_events)
    counts[:: max(10, num_events // 20)] = 0
    dom = [np.sort(rng.choice(5160, size, replace=False)) for size in counts]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    features = rng.exponential(20.0, (offsets[-1], 3)).astype(np.float32)
    return Hits(offsets, np.concatenate([[], *dom]).astype(np.uint16), features)
