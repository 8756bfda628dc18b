"""Reading the transformation model of the TensorFlow version.

Its file is the pickle of a dictionary: names, flags, and moments by part of the detector
(``ic78_mean`` [10, 10, 60, F], ``deepcore_mean`` [8, 60, F] and so on; axes of length 1 where all
DOMs have the same), with the meaning that they have in `TransformationModel`. Misc data may be
absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.detector.grid import DEEPCORE_SHAPE, MAIN_SHAPE
from dnn_reco.errors import ModelError
from dnn_reco.tf_import.restricted_pickle import read_plain_pickle
from dnn_reco.transform import TransformationModel, TransformSettings


def read_reference_transformation(path: Path) -> TransformationModel:
    """Read a transformation model that the TensorFlow version wrote.

    Raises
    ------
    ModelError
        If there is none, or the file does not hold what such a model needs.
    """
    if not path.is_file():
        raise ModelError(f"there is no transformation model '{path}'")
    try:
        content = read_plain_pickle(path.read_bytes())
        if not isinstance(content, dict):
            raise ModelError("it does not hold a dictionary")
        return _transformation(content)
    except ModelError as error:
        raise ModelError(
            f"'{path}' is not a readable transformation model of the TensorFlow version: {error}"
        ) from error


def _transformation(content: Mapping[str, Any]) -> TransformationModel:
    labels = _names(content, "label_names")
    has_misc = content.get("misc_names") is not None
    misc = _names(content, "misc_names") if has_misc else ()
    num_bins = _value(content, "num_bins", int)
    settings = TransformSettings(
        label_names=labels,
        misc_names=misc,
        log_dom_bins=_flags(content, "log_dom_bins", num_bins),
        log_label_bins=_flags(content, "log_label_bins", len(labels)),
        log_misc_bins=_flags(content, "log_misc_bins", len(misc)) if misc else (),
        normalize_dom_data=_value(content, "normalize_dom_data", bool),
        normalize_label_data=_value(content, "normalize_label_data", bool),
        normalize_misc_data=_value(content, "normalize_misc_data", bool),
        treat_doms_equally=_value(content, "treat_doms_equally", bool),
        norm_constant=_value(content, "norm_constant", float),
    )
    dom = {kind: _by_cell(content, kind, num_bins) for kind in ("mean", "std")}
    nothing = np.zeros(0)
    return TransformationModel(
        settings,
        dom_mean=dom["mean"],
        dom_std=dom["std"],
        label_mean=_moments(content, "label_mean", (len(labels),)),
        label_std=_moments(content, "label_std", (len(labels),)),
        misc_mean=_moments(content, "misc_mean", (len(misc),)) if misc else nothing,
        misc_std=_moments(content, "misc_std", (len(misc),)) if misc else nothing,
    )


def _by_cell(content: Mapping[str, Any], kind: str, num_bins: int) -> NDArray[np.float64]:
    """Moments of the inputs by cell [6480, F]."""
    main = _moments(content, f"ic78_{kind}", (*MAIN_SHAPE, num_bins))
    deepcore = _moments(content, f"deepcore_{kind}", (*DEEPCORE_SHAPE, num_bins))
    return np.concatenate([main.reshape(-1, num_bins), deepcore.reshape(-1, num_bins)])


def _get(content: Mapping[str, Any], key: str) -> Any:
    if key not in content:
        raise ModelError(f"it has no '{key}'")
    return content[key]


def _value(content: Mapping[str, Any], key: str, kind: type) -> Any:
    value = _get(content, key)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise ModelError(f"its '{key}' is not of type {kind.__name__}")
    return value


def _names(content: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = _get(content, key)
    if not isinstance(names, list | tuple) or not all(
        isinstance(name, str) and name.isprintable() and name for name in names
    ):
        raise ModelError(f"its '{key}' is not a list of names")
    if len(set(names)) != len(names):
        raise ModelError(f"its '{key}' holds a name twice")
    return tuple(names)


def _flags(content: Mapping[str, Any], key: str, length: int) -> tuple[bool, ...]:
    flags = _get(content, key)
    if isinstance(flags, np.ndarray) and flags.dtype == np.bool_ and flags.ndim == 1:
        flags = flags.tolist()
    if not isinstance(flags, list | tuple) or not all(type(flag) is bool for flag in flags):
        raise ModelError(f"its '{key}' is not a list of true and false")
    if len(flags) != length:
        raise ModelError(f"its '{key}' has {len(flags)} entries instead of {length}")
    return tuple(flags)


def _moments(content: Mapping[str, Any], key: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    moments = _get(content, key)
    if not isinstance(moments, np.ndarray) or moments.dtype.kind != "f":
        raise ModelError(f"its '{key}' is not an array of floating-point numbers")
    if not np.isfinite(moments).all():
        raise ModelError(f"its '{key}' holds numbers that are not finite")
    one_for_all = (*[1] * (len(shape) - 1), shape[-1])
    if moments.shape not in (shape, one_for_all):
        raise ModelError(f"its '{key}' has shape {list(moments.shape)} instead of {list(shape)}")
    return np.broadcast_to(moments, shape).astype(np.float64)
