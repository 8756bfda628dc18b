"""Reading a folder of golden files of the TensorFlow version into our types."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.detector.grid import DEEPCORE_SHAPE, DOM_CELL, NUM_CELLS, NUM_MAIN_CELLS
from dnn_reco.modules.loss.interface import LossContext, Truth
from dnn_reco.modules.models.general_IC86_cnn import GeneralIC86CNN
from dnn_reco.nn.interface import LabelKeys, NetworkSpec, Prediction
from dnn_reco.nn.label_transform import LabelTransform, residual_trafo
from dnn_reco.tf_import.variables import our_parameters
from dnn_reco.training.label_weights import NORMAL_MAD
from dnn_reco.transform import TransformationModel, TransformSettings

Arrays = Mapping[str, NDArray[Any]]

LABEL_KEYS = LabelKeys(
    zenith="PrimaryZenith",
    azimuth="PrimaryAzimuth",
    dir_x="PrimaryDirectionX",
    dir_y="PrimaryDirectionY",
    dir_z="PrimaryDirectionZ",
    particle={
        "pos_x": "VertexX",
        "pos_y": "VertexY",
        "pos_z": "VertexZ",
        "time": "VertexTime",
        "dir_x": "PrimaryDirectionX",
        "dir_y": "PrimaryDirectionY",
        "dir_z": "PrimaryDirectionZ",
    },
)
"""The golden files do not contain the special labels; these are the collaboration's names."""


BRANCHES = ("upper", "lower", "ic78", "fc", "fc_unc")


@dataclass(frozen=True)
class GoldenFolder:
    """A folder of golden files, with the names of its input data and transformation model.

    Attributes
    ----------
    path
        The folder.
    data
        Name of the input data, ``<data>.npz`` with ``x_ic78``, ``x_deepcore`` and ``labels``.
    transformation
        Name of the transformation model, ``<name>.npz`` and ``<name>_settings.json``.
    """

    path: Path
    data: str
    transformation: str

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """All arrays of ``<name>.npz``."""
        with np.load(self.path / f"{name}.npz", allow_pickle=False) as file:
            return {key: file[key] for key in file.files}

    def read_json(self, name: str) -> Any:
        """The content of ``<name>.json``."""
        return json.loads((self.path / f"{name}.json").read_text(encoding="utf-8"))

    def names(self, pattern: str) -> list[str]:
        """The part of the names of matching files that the star stands for."""
        before, _, after = pattern.partition("*")
        found = self.path.glob(pattern)
        return sorted(path.name[len(before) : len(path.name) - len(after)] for path in found)

    def read_transformation(self, name: str | None = None) -> TransformationModel:
        """The transformation model; by default the one that networks of the folder use."""
        name = self.transformation if name is None else name
        settings, moments = self.read_json(f"{name}_settings"), self.arrays(name)
        num_bins = settings["num_bins"]

        def cells(kind: str) -> NDArray[np.float64]:
            main = moments[f"ic78_{kind}"].reshape(NUM_MAIN_CELLS, num_bins)
            deepcore = np.broadcast_to(moments[f"deepcore_{kind}"], (*DEEPCORE_SHAPE, num_bins))
            return np.concatenate([main, deepcore.reshape(-1, num_bins)])

        names = ("label_names", "misc_names", "log_dom_bins", "log_label_bins", "log_misc_bins")
        values = ("normalize_dom_data", "normalize_label_data", "normalize_misc_data")
        values += ("treat_doms_equally", "norm_constant")
        return TransformationModel(
            TransformSettings(
                **{key: tuple(settings[key]) for key in names},
                **{key: settings[key] for key in values},
            ),
            dom_mean=cells("mean"),
            dom_std=cells("std"),
            label_mean=moments["label_mean"],
            label_std=moments["label_std"],
            misc_mean=moments["misc_mean"],
            misc_std=moments["misc_std"],
        )

    def spec(self, transformation: str | None = None) -> NetworkSpec:
        """The specification of the data for a network."""
        model = self.read_transformation(transformation)
        labels = model.settings.label_names
        keys = replace(LABEL_KEYS, pid=tuple(name for name in labels if name.startswith("p_")))
        return NetworkSpec(model, np.zeros(model.settings.num_bins), keys)

    def hits(self, events: Iterable[int] | None = None) -> HitBatch:
        """Hits of the input data: all DOMs with at least one feature other than 0."""
        data = self.arrays(self.data)
        chosen = list(range(len(data["x_ic78"])) if events is None else events)
        main = data["x_ic78"][chosen].reshape(len(chosen), NUM_MAIN_CELLS, -1)
        deepcore = data["x_deepcore"][chosen].reshape(len(chosen), NUM_CELLS - NUM_MAIN_CELLS, -1)
        doms = np.concatenate([main, deepcore], axis=1)[:, DOM_CELL]
        event, dom = np.nonzero(doms.any(axis=-1))
        features = torch.tensor(doms[event, dom])
        return HitBatch(len(chosen), torch.tensor(event), torch.tensor(dom), features)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels, in order."""
        return self.read_transformation().settings.label_names

    def loss_context(
        self, prediction: Prediction, truth: Truth, event_weights: Tensor | None
    ) -> LossContext:
        """The context of losses at the start of a training."""
        spec = self.spec()
        names = spec.label_names
        period = LabelTransform(spec.transformation).azimuth_period(names, spec.label_keys.azimuth)
        return LossContext(
            label_names=names,
            label_keys=spec.label_keys,
            residual_trafo=residual_trafo(prediction.labels_trafo, truth.labels_trafo, period),
            event_weights=event_weights,
            tukey_scale=torch.full((len(names),), NORMAL_MAD),
        )

    def labels(self) -> Tensor:
        """True labels of the input data [n, L]."""
        return torch.tensor(self.arrays(self.data)["labels"])

    def network(self, name: str, legacy: bool, transformation: str | None = None) -> GeneralIC86CNN:
        """A network of ``model_<name>_*`` with its weights, in inference mode.

        Parameters
        ----------
        legacy
            Whether to reproduce the errors of the reference for vectors longer than 1 and rotated
            kernels.
        transformation
            Name of the transformation model; default: that of the folder.
        """
        kwargs = self.read_json(f"model_{name}_meta")["model_kwargs"]
        if legacy:
            kwargs["legacy_direction_norm"] = True
            kwargs["conv_ic78_settings"]["legacy_rotation"] = True
        network = GeneralIC86CNN(self.spec(transformation), **kwargs)
        network.load_state_dict(parameters(self.arrays(f"model_{name}_weights")))
        return network.eval()


def parameters(arrays: Arrays) -> dict[str, Tensor]:
    """Our parameters from golden weights or gradients, without derived arrays."""
    return our_parameters(
        {key: array for key, array in arrays.items() if not key.endswith("/kernel_assembled")}
    )


def layer_outputs(network: GeneralIC86CNN, hits: HitBatch) -> tuple[dict[str, Tensor], Prediction]:
    """Outputs of all layers by golden key, channels last, and the prediction."""
    outputs: dict[str, Tensor] = {}
    for branch in BRANCHES:
        for i, layer in enumerate(getattr(network, branch)):
            layer.register_forward_hook(
                lambda _, __, output, key=f"act/{branch}/{i}": outputs.__setitem__(key, output)
            )
    inputs = {"act/flat": network.fc, "pre/upper": network.upper, "pre/lower": network.lower}
    for key, part in inputs.items():
        part.register_forward_pre_hook(lambda _, x, key=key: outputs.__setitem__(key, x[0]))
    with torch.inference_mode():
        prediction = network(hits)
    return outputs, prediction


def open_folder(path: Path, data: str | None, transformation: str | None) -> GoldenFolder:
    """Find a transformation model and input data with the same number of features.

    Raises
    ------
    FileNotFoundError
        If there are none.
    """
    folder = GoldenFolder(path, "", "")
    models = [
        f"trafo_{name}"
        for name in folder.names("trafo_*_settings.json")
        if (path / f"trafo_{name}.npz").is_file()
    ]
    for model in models if transformation is None else [transformation]:
        num_bins = folder.read_json(f"{model}_settings")["num_bins"]
        for name in [f"data_{n}" for n in folder.names("data_*.npz")] if data is None else [data]:
            arrays = folder.arrays(name)
            if "x_ic78" in arrays and arrays["x_ic78"].shape[-1] == num_bins:
                return GoldenFolder(path, name, model)
    raise FileNotFoundError(
        f"'{path}' has no transformation model (trafo_*_settings.json with its .npz) with input "
        "data of as many features (data_*.npz): name them with --trafo and --data"
    )
