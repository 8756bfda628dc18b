"""Networks, events and weights of the golden data, in our types."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dnn_reco.detector.grid import DEEPCORE_SHAPE, DOM_CELL, NUM_CELLS, NUM_MAIN_CELLS
from dnn_reco.modules.models.general_IC86_cnn import GeneralIC86CNN
from dnn_reco.nn.interface import Hits, LabelKeys, NetworkSpec
from dnn_reco.transform import TransformationModel, TransformSettings

LABEL_KEYS = LabelKeys(
    zenith="PrimaryZenith",
    azimuth="PrimaryAzimuth",
    dir_x="PrimaryDirectionX",
    dir_y="PrimaryDirectionY",
    dir_z="PrimaryDirectionZ",
)


def transformation(folder: Path, name: str = "trafo_inputs9_5files") -> TransformationModel:
    settings = json.loads((folder / f"{name}_settings.json").read_text())
    moments = np.load(folder / f"{name}.npz")
    num_bins = settings["num_bins"]

    def cells(kind: str) -> NDArray[np.float64]:
        main = moments[f"ic78_{kind}"].reshape(NUM_MAIN_CELLS, num_bins)
        deepcore = np.broadcast_to(moments[f"deepcore_{kind}"], (*DEEPCORE_SHAPE, num_bins))
        return np.concatenate([main, deepcore.reshape(-1, num_bins)])

    return TransformationModel(
        settings=TransformSettings(
            label_names=tuple(settings["label_names"]),
            misc_names=tuple(settings["misc_names"]),
            log_dom_bins=tuple(settings["log_dom_bins"]),
            log_label_bins=tuple(settings["log_label_bins"]),
            log_misc_bins=tuple(settings["log_misc_bins"]),
            normalize_dom_data=settings["normalize_dom_data"],
            normalize_label_data=settings["normalize_label_data"],
            normalize_misc_data=settings["normalize_misc_data"],
            treat_doms_equally=settings["treat_doms_equally"],
            norm_constant=settings["norm_constant"],
        ),
        dom_mean=cells("mean"),
        dom_std=cells("std"),
        label_mean=moments["label_mean"],
        label_std=moments["label_std"],
        misc_mean=moments["misc_mean"],
        misc_std=moments["misc_std"],
    )


def spec(folder: Path, name: str = "trafo_inputs9_5files") -> NetworkSpec:
    trafo = transformation(folder, name)
    classes = tuple(label for label in trafo.settings.label_names if label.startswith("p_"))
    keys = LabelKeys(**{**vars(LABEL_KEYS), "pid": classes})
    return NetworkSpec(trafo, np.zeros(trafo.settings.num_bins), keys)


def hits(folder: Path, events: Iterable[int] = range(32)) -> Hits:
    """Hits of the 32 NuMu events: all DOMs with any feature that is not 0."""
    data = np.load(folder / "data_numu_medium_inputs9.npz")
    chosen = list(events)
    main = data["x_ic78"][chosen].reshape(len(chosen), NUM_MAIN_CELLS, -1)
    deepcore = data["x_deepcore"][chosen].reshape(len(chosen), NUM_CELLS - NUM_MAIN_CELLS, -1)
    doms = np.concatenate([main, deepcore], axis=1)[:, DOM_CELL]
    event, dom = np.nonzero(doms.any(axis=-1))
    return Hits(len(chosen), torch.tensor(event), torch.tensor(dom), torch.tensor(doms[event, dom]))


def model_kwargs(folder: Path, name: str) -> dict[str, Any]:
    """Settings of a golden network, with what makes ours repeat the reference's errors."""
    kwargs = json.loads((folder / f"model_{name}_meta.json").read_text())["model_kwargs"]
    kwargs["legacy_direction_norm"] = True
    kwargs["conv_ic78_settings"]["legacy_rotation"] = True
    return kwargs


def our_parameters(arrays: dict[str, NDArray[np.float32]]) -> dict[str, torch.Tensor]:
    """Weights or gradients by golden key, as ours: `ic78/0/hexcell_a_b` become one tensor."""
    names = {
        "weights": "weight",
        "biases": "bias",
        "local_kernel_0": "weight",
        "act_slope_weight": "act.slope_weight",
    }
    names |= {f"bn_{kind}": f"bn.{kind}" for kind in ("scale", "beta", "pop_mean", "pop_var")}
    ours: dict[str, torch.Tensor] = {}
    parts: dict[str, list[torch.Tensor]] = {}
    for key in sorted(arrays):
        branch, layer, kind = key.split("/")
        of_convolution = kind in ("weights", "biases") or kind.startswith(("hex", "rot", "local"))
        place = f"{branch}.{layer}."
        place += "convolution." if of_convolution and not branch.startswith("fc") else ""
        tensor = torch.tensor(arrays[key])
        if kind.startswith("hexcell_"):
            # sorted keys are row-major in the cells (a, b)
            parts.setdefault(f"{place}weight", []).append(tensor)
        elif kind.startswith("rotvar_"):
            parts.setdefault(f"{place}spatial", []).append(tensor)
        elif kind != "kernel_assembled":
            ours[place + names.get(kind, kind)] = tensor
    for name, tensors in parts.items():
        if name.endswith("spatial"):
            ours[name.replace("spatial", "in_out")] = tensors.pop()
        ours[name] = torch.stack(tensors)
    return ours


def model(
    folder: Path, name: str, trafo: str = "trafo_inputs9_5files", **changes: Any
) -> GeneralIC86CNN:
    """A golden network with its weights, in inference mode."""
    network = GeneralIC86CNN(spec(folder, trafo), **{**model_kwargs(folder, name), **changes})
    network.load_state_dict(our_parameters(dict(np.load(folder / f"model_{name}_weights.npz"))))
    return network.eval()
