"""Angles between directions, under the names of the TensorFlow version's module."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from dnn_reco.errors import DataError


def get_angle_deviation(
    azimuth1: ArrayLike, zenith1: ArrayLike, azimuth2: ArrayLike, zenith2: ArrayLike
) -> Any:
    """Angle between two directions given by azimuth and zenith, all in radian, any shape.

    Half the angle from its sine and cosine, which is exact for directions that are almost equal or
    almost opposite.
    """
    half_azimuth = np.subtract(azimuth1, azimuth2) / 2
    half_sum, half_difference = np.add(zenith1, zenith2) / 2, np.subtract(zenith1, zenith2) / 2
    along, across = np.cos(half_azimuth), np.sin(half_azimuth)
    sine = np.hypot(along * np.sin(half_difference), across * np.sin(half_sum))
    cosine = np.hypot(along * np.cos(half_difference), across * np.cos(half_sum))
    return 2 * np.arctan2(sine, cosine)


def get_angle(vec1: ArrayLike, vec2: ArrayLike, dtype: DTypeLike = np.float64) -> Any:
    """Angle [radian] between vectors [..., 3] of any length.

    Twice the arc tangent of |u - v| / |u + v| for vectors u, v of one length (Kahan), which is
    exact for all angles.

    Raises
    ------
    DataError
        If the last axis does not hold three components.
    """
    first, second = np.asarray(vec1, dtype=dtype), np.asarray(vec2, dtype=dtype)
    for vector in (first, second):
        if vector.ndim == 0 or vector.shape[-1] != 3:
            raise DataError(f"vectors have the shape [..., 3], not {list(vector.shape)}")
    u, v = first * _length(second), second * _length(first)
    return 2 * np.arctan2(_length(u - v)[..., 0], _length(u + v)[..., 0])


def _length(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    length: NDArray[np.floating] = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return length


def __getattr__(name: str) -> Any:
    if name == "tf_get_angle_deviation":
        raise ImportError(
            f"{name} is for tensors of TensorFlow: for those of PyTorch take "
            "dnn_reco.nn.direction.angle_between(zenith1, azimuth1, zenith2, azimuth2)"
        )
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
