"""The data transformation model: logarithm and normalisation of inputs, labels and misc data.

Forward, element by element: where the log flag of a column is set, y = ln(1 + x); then, if
normalisation is on, (y - mean) / (c + std), with c the normalisation constant. Uncertainties
transform with the scale alone. mean and std are population moments over events, taken after the
logarithm.

This module is numpy only, so that fitting needs no deep-learning library; networks apply the same
model on their device through :mod:`dnn_reco.nn.densify` and :mod:`dnn_reco.nn.label_transform`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TransformSettings:
    """What a transformation model does, and to which columns: one flag for each."""

    label_names: tuple[str, ...]
    misc_names: tuple[str, ...]
    log_dom_bins: tuple[bool, ...]
    log_label_bins: tuple[bool, ...]
    log_misc_bins: tuple[bool, ...]
    normalize_dom_data: bool
    normalize_label_data: bool
    normalize_misc_data: bool
    treat_doms_equally: bool
    norm_constant: float

    @property
    def num_bins(self) -> int:
        """Number of input features of a DOM."""
        return len(self.log_dom_bins)


@dataclass(frozen=True)
class TransformationModel:
    """Settings and the moments found in data, all float64.

    Attributes
    ----------
    settings
        Flags and names.
    dom_mean, dom_std
        Moments of the inputs [6480, F] by cell (see :mod:`dnn_reco.detector.grid`); cells without
        a DOM have mean 0, std 1.
    label_mean, label_std
        Moments of the labels [L].
    misc_mean, misc_std
        Moments of the misc data [M]; M may be 0.
    """

    settings: TransformSettings
    dom_mean: NDArray[np.float64]
    dom_std: NDArray[np.float64]
    label_mean: NDArray[np.float64]
    label_std: NDArray[np.float64]
    misc_mean: NDArray[np.float64]
    misc_std: NDArray[np.float64]
