"""The specification of made-up data for a network."""

from collections.abc import Sequence

import numpy as np

from dnn_reco.detector.grid import NUM_CELLS
from dnn_reco.nn.interface import LabelKeys, NetworkSpec
from dnn_reco.transform import TransformationModel, TransformSettings


def made_up_spec(
    names: Sequence[str],
    keys: LabelKeys,
    label_mean: Sequence[float],
    label_std: Sequence[float],
    num_bins: int = 9,
    log: str | None = "energy",
    normalize: bool = True,
) -> NetworkSpec:
    """Labels with these moments, that named `log` with logarithm; inputs of mean 0 and spread 1."""
    settings = TransformSettings(
        label_names=tuple(names),
        misc_names=(),
        log_dom_bins=(False,) * num_bins,
        log_label_bins=tuple(name == log for name in names),
        log_misc_bins=(),
        normalize_dom_data=True,
        normalize_label_data=normalize,
        normalize_misc_data=False,
        treat_doms_equally=True,
        norm_constant=1e-4,
    )
    nothing = np.zeros(0)
    inputs = np.zeros((NUM_CELLS, num_bins)), np.ones((NUM_CELLS, num_bins))
    labels = np.array(label_mean), np.array(label_std)
    transformation = TransformationModel(settings, *inputs, *labels, nothing, nothing)
    return NetworkSpec(transformation, np.zeros(num_bins), keys)
