"""The density of an event's direction from the labels that a model predicts for it."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from dnn_reco.detector.directions import angles_of, unit_vectors, vector_of
from dnn_reco.errors import ConfigError, DataError, ModelError
from dnn_reco.inference.model_info import ModelInfo
from dnn_reco.inference.prediction_table import REASONS, PredictionTable, Status
from dnn_reco.inference.sky import SkyDensity
from dnn_reco.inference.sky_densities import (
    AngularGaussian,
    VectorGaussian,
    VonMisesFisher,
    predicted_density,
)
from dnn_reco.nn.density_layout import DIRECTION

Shape: TypeAlias = Literal["auto", "predicted", "fisher", "vector", "circular", "elliptical"]
"""Shape of a density: `predicted` is a mixture or flow, of networks that predict one; `fisher` and
`vector` follow from the direction vector, `circular` and `elliptical` from zenith and azimuth;
`auto`: the first of predicted, fisher and elliptical that is there."""


def sky_density(
    predictions: PredictionTable,
    event: int,
    info: ModelInfo,
    shape: str = "auto",
    name: str | None = None,
) -> SkyDensity:
    """The density of the direction of one event.

    Parameters
    ----------
    predictions
        Predictions of a model for n events.
    event
        Number of the event, 0 … n - 1.
    info
        What the model predicts.
    shape
        One of :data:`Shape`.
    name
        What messages call the event; None: its number among the predictions.

    Raises
    ------
    ConfigError
        If there is no such shape.
    DataError
        If there is no such event, or it could not be reconstructed.
    ModelError
        If the model was not trained for the labels of the shape.
    """
    check_event(event, len(predictions), "these predictions")
    name = f"event {event}" if name is None else name
    status = Status.OK if predictions.status is None else Status(predictions.status[event])
    if status != Status.OK:
        raise DataError(f"{name} has no reconstructed direction: {REASONS[status]}")
    if shape in ("auto", "predicted"):
        shapes = predictions.shapes
        kind = None if shapes is None else shapes.kind(DIRECTION)
        if (
            shapes is not None
            and kind is not None
            and set(info.direction or ()) <= set(info.trained_labels)
        ):
            components = shapes.of(DIRECTION)
            assert components is not None
            return predicted_density(components[event], kind)
        if shape == "predicted":
            raise ModelError(
                f"'{info.name}' predicts no other density for the direction, or the predictions "
                "come from a file, which does not hold it: choose another density"
            )
    names, shape = _labels_of(info, shape)
    columns = [predictions.label_names.index(name) for name in names]
    values = predictions.labels[event, columns]
    sigma = predictions.uncertainty[event, columns]
    if not np.isfinite([values, sigma]).all() or (sigma <= 0).any():
        raise DataError(
            f"{name} has no reconstructed direction: {', '.join(names)} are {values} with "
            f"the uncertainties {sigma}"
        )
    return _density(shape, values, sigma)


def check_event(event: int, num_events: int, source: str) -> None:
    """Check that there is an event of this number.

    Raises
    ------
    DataError
        If not.
    """
    if not 0 <= event < num_events:
        raise DataError(
            f"there is no event {event} in {source}: there are {num_events}, counted from 0"
        )


def true_direction(labels: dict[str, float], info: ModelInfo) -> NDArray[np.float64] | None:
    """The unit vector [3] of an event's true labels by name; None: they are not all there."""
    if info.direction is not None and all(name in labels for name in info.direction):
        vector = unit_vectors([labels[name] for name in info.direction])
    elif info.zenith in labels and info.azimuth in labels:
        vector = vector_of(labels[info.zenith], labels[info.azimuth])
    else:
        return None
    return vector if np.isfinite(vector).all() else None


def _density(shape: str, values: NDArray[np.float64], sigma: NDArray[np.float64]) -> SkyDensity:
    """A density of values and uncertainties of the vector [3] or of zenith and azimuth [2]."""
    if shape == "fisher":
        return VonMisesFisher.of_vector(values, sigma)
    if shape == "vector":
        return VectorGaussian.of_vector(values, sigma)
    # by way of the vector, so that the angles are in their ranges
    zenith, azimuth = (float(angle) for angle in angles_of(vector_of(*values)))
    kind = VonMisesFisher.of_angles if shape == "circular" else AngularGaussian
    return kind(zenith, azimuth, *(float(each) for each in sigma))


def _labels_of(info: ModelInfo, shape: str) -> tuple[tuple[str, ...], str]:
    """Names of the labels that a shape needs, and the shape itself where it is `auto`."""
    if shape not in get_args(Shape):
        raise ConfigError(
            f"there is no density '{shape}': choose one of {', '.join(get_args(Shape))}"
        )
    angles = (info.zenith, info.azimuth)
    names = {"vector": info.direction, "angles": None if None in angles else angles}
    trained = {
        kind: labels
        for kind, labels in names.items()
        if labels is not None and set(labels) <= set(info.trained_labels)
    }
    if not trained:
        raise ModelError(
            f"'{info.name}' predicts no direction: use a model that was trained for the labels "
            "of the direction vector, or for zenith and azimuth (label_dir_x_key … or "
            "label_zenith_key and label_azimuth_key of its config)"
        )
    if shape == "auto":
        shape = "fisher" if "vector" in trained else "elliptical"
    needed = "vector" if shape in ("fisher", "vector") else "angles"
    if needed not in trained:
        other = ("circular", "elliptical") if needed == "vector" else ("fisher", "vector")
        raise ModelError(
            f"'{info.name}' was not trained for the {needed} of the direction that the density "
            f"'{shape}' needs: choose {' or '.join(other)}"
        )
    return tuple(str(name) for name in trained[needed]), shape
