"""A small model of the TensorFlow version: network, config, and its exported folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reference_files import write_reference_model
from small_run import MODEL_KWARGS

from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.detector.grid import NUM_CELLS
from dnn_reco.modules.models.general_IC86_cnn import GeneralIC86CNN
from dnn_reco.nn.interface import LabelKeys, NetworkSpec, Prediction
from dnn_reco.transform import TransformationModel, TransformSettings

MODEL_CLASS = "dnn_reco.modules.models.general_IC86_cnn.GeneralIC86CNN"
LABELS = ("energy", "zenith", "azimuth", "dir_x", "dir_y", "dir_z", "p_track")
SETTINGS: dict[str, Any] = {
    "unique_name": "small",
    "data_handler_num_bins": 3,
    "DOM_init_values": 0.5,
    "label_zenith_key": "zenith",
    "label_azimuth_key": "azimuth",
    "label_dir_x_key": "dir_x",
    "label_dir_y_key": "dir_y",
    "label_dir_z_key": "dir_z",
    "label_pid_keys": ["p_track"],
    "trafo_model_path": "../data/trafo_models/small.npy",
    "trafo_log_dom_bins": [True, False, False],
    "trafo_log_label_bins": {"energy": True},
    "trafo_treat_doms_equally": False,
    "trafo_norm_constant": 1e-4,
    "model_class": MODEL_CLASS,
    "model_kwargs": MODEL_KWARGS,
    "dnn_reco_version": "2.0.0",
}


@dataclass(frozen=True)
class SmallReferenceModel:
    folder: Path
    network: GeneralIC86CNN
    transformation: TransformationModel

    def predict(self) -> Prediction:
        """The prediction of the TensorFlow version for some hits."""
        with torch.no_grad():
            return self.network(some_hits())


def some_transformation() -> TransformationModel:
    rng = np.random.default_rng(11)
    settings = TransformSettings(
        label_names=LABELS,
        misc_names=("table_m",),
        log_dom_bins=(True, False, False),
        log_label_bins=tuple(name == "energy" for name in LABELS),
        log_misc_bins=(False,),
        normalize_dom_data=True,
        normalize_label_data=True,
        normalize_misc_data=False,
        treat_doms_equally=False,
        norm_constant=1e-4,
    )
    moments = [
        rng.uniform(0.5, 1.5, size)
        for size in [(NUM_CELLS, 3), (len(LABELS),), (1,)]
        for _ in ("mean", "std")
    ]
    return TransformationModel(settings, *moments)


def some_hits() -> HitBatch:
    generator = torch.Generator().manual_seed(2)
    dom = torch.randint(0, 5160, (60,), generator=generator)
    features = torch.rand(60, 3, generator=generator) * 5
    return HitBatch(3, torch.arange(60) // 20, dom, features)


def make_small_reference_model(folder: Path, **changes: Any) -> SmallReferenceModel:
    """Write the exported folder; `changes` replace config keys."""
    settings = {**SETTINGS, **changes}
    transformation = some_transformation()
    keys = LabelKeys("zenith", "azimuth", "dir_x", "dir_y", "dir_z", ("p_track",))
    spec = NetworkSpec(transformation, np.full(3, 0.5), keys)
    kwargs = {**settings["model_kwargs"], "legacy_direction_norm": True, "random_seed": 9}
    network = GeneralIC86CNN(spec, **kwargs).eval()
    write_reference_model(folder, network, transformation, settings)
    return SmallReferenceModel(folder, network, transformation)
