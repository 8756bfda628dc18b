"""A small model of the TensorFlow version: network, config, and its exported folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reference_files import older_variables, write_older_model, write_reference_model
from small_run import MODEL_KWARGS

from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.detector.grid import NUM_CELLS
from dnn_reco.modules.models import general_IC86_models
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
    kwargs = {**settings["model_kwargs"], "legacy_direction_norm": True, "random_seed": 9}
    network = GeneralIC86CNN(_spec(transformation), **kwargs).eval()
    write_reference_model(folder, network, transformation, settings)
    return SmallReferenceModel(folder, network, transformation)


def older_settings(name: str = "general_model_IC86_opt4", **changes: Any) -> dict[str, Any]:
    """A config in the older spelling; `changes` replace settings of the network."""
    kwargs = {**MODEL_KWARGS, **changes}
    settings = {k: v for k, v in SETTINGS.items() if k not in ("model_class", "model_kwargs")}
    branches = {"upper_deepcore": "upper_DeepCore", "lower_deepcore": "lower_DeepCore"}
    for branch, older in {**branches, "ic78": "IC78"}.items():
        block = kwargs[f"conv_{branch}_settings"]
        settings[f"conv_{older}_settings"] = {k: v for k, v in block.items() if k != "method_list"}
    dense = {key: kwargs[key] for key in ("fc_settings", "fc_unc_settings")}
    names = {"model_file": "general_IC86_models", "model_name": name}
    return {**settings, **dense, **names, "keep_probability_list": [0.9, 1.0, 1.0, 0.9]}


def make_small_older_model(
    folder: Path, name: str = "general_model_IC86_opt4"
) -> SmallReferenceModel:
    """Write the exported folder of an older network."""
    transformation = some_transformation()
    make_network = getattr(general_IC86_models, name)
    network = make_network(_spec(transformation), **MODEL_KWARGS, random_seed=9).eval()
    write_older_model(folder, older_variables(network), transformation, older_settings(name))
    return SmallReferenceModel(folder, network, transformation)


def _spec(transformation: TransformationModel) -> NetworkSpec:
    keys = LabelKeys("zenith", "azimuth", "dir_x", "dir_y", "dir_z", ("p_track",))
    return NetworkSpec(transformation, np.full(3, 0.5), keys)
