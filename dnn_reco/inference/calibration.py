"""Calibration of predicted uncertainties: stored in the model folder, applied by every backend.

A correction multiplies the width of a predicted density by a factor that depends on that width, on
the number of hit DOMs and on the predicted classes of the event. :mod:`dnn_reco.evaluation` fits
it. NumPy only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from dnn_reco.data.file_events import FileEvents
from dnn_reco.data.hits import Hits
from dnn_reco.errors import ModelError
from dnn_reco.foreign_files import MAX_TEXT_SIZE, check_foreign_file, parse_json
from dnn_reco.inference.backend import Backend, NetworkOutput
from dnn_reco.inference.cone import vector_concentration, with_concentration_scaled
from dnn_reco.inference.manifest import Manifest
from dnn_reco.inference.model_info import ModelInfo
from dnn_reco.nn.density_layout import (
    DIRECTION,
    MAX_KAPPA,
    MIN_KAPPA,
    PredictedShapes,
    columns_of,
    predicted_shapes,
)

CALIBRATION_FILE = "calibration.json"

_FORMAT = "dnn_reco calibration 1"
_MIN_WIDTH = 1e-12
_MIN_PROBABILITY = 1e-6

Values = NDArray[np.float64]


@dataclass(frozen=True)
class EventFeatures:
    """What corrections depend on, for n events.

    Attributes
    ----------
    log_width
        Logarithm [n] of what is corrected: of σ, or of the concentration κ.
    log_hits
        ln(1 + number of hit DOMs) [n].
    classes
        Probabilities [n, C] of the classes.
    """

    log_width: Values
    log_hits: Values
    classes: Values

    def select(self, rows: NDArray[np.bool_]) -> EventFeatures:
        """Those of some of the events."""
        return EventFeatures(self.log_width[rows], self.log_hits[rows], self.classes[rows])


@dataclass(frozen=True)
class Terms:
    """The terms of a correction, which is linear in its coefficients.

    Attributes
    ----------
    degree
        Of the polynomial in the logarithm of the width.
    uses_hits
        Whether there is a term linear in ln(1 + number of hit DOMs).
    uses_classes
        Whether there is one such sum of terms for all events, and one more times the probability
        of each class.
    """

    degree: int
    uses_hits: bool = False
    uses_classes: bool = False


@dataclass(frozen=True)
class Correction:
    """The logarithm of the factor on a width.

    Outside of the range of the events that it was fitted to, it is that at the nearest end.

    Attributes
    ----------
    terms
        Its terms.
    coefficients
        One for each term.
    width_range, hits_range
        Least and greatest logarithm of the width, and ln(1 + number of hit DOMs), of the events
        that it was fitted to.
    """

    terms: Terms
    coefficients: tuple[float, ...]
    width_range: tuple[float, float]
    hits_range: tuple[float, float]

    def log_factor(self, features: EventFeatures) -> Values:
        """Logarithm [n] of the factor on the width of each event."""
        matrix = design_matrix(self.terms, features, self.width_range, self.hits_range)
        return np.asarray(matrix @ np.array(self.coefficients))


@dataclass(frozen=True)
class Calibration:
    """Corrections of the predictions of one model.

    Attributes
    ----------
    widths
        Correction of σ, by label.
    direction
        Correction of the concentration κ of the direction; None: there is none.
    temperatures
        By class label: its logit is divided by this.
    classes
        The class labels that corrections may depend on.
    record
        How it was fitted.
    density
        Correction of the concentrations of all components of the density of the direction, where
        that is a mixture or a flow; None: there is none.
    """

    widths: Mapping[str, Correction] = field(default_factory=dict)
    direction: Correction | None = None
    temperatures: Mapping[str, float] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    density: Correction | None = None

    def to_json(self) -> str:
        """The content of the file."""
        values = {"format": _FORMAT, **asdict(self)}
        return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def apply(
        self, output: NetworkOutput, num_hits: NDArray[np.integer], info: ModelInfo
    ) -> NetworkOutput:
        """Calibrated predictions of n events; see :meth:`correct`."""
        before = predicted_shapes(info.densities, output.shapes)
        labels, sigma, shapes = self.correct(
            output.labels, output.uncertainty, before, num_hits, info
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.where(output.uncertainty > 0, sigma / output.uncertainty, 1.0)
        dtype = output.labels.dtype
        return replace(
            output,
            labels=labels.astype(dtype),
            uncertainty=sigma.astype(dtype),
            uncertainty_trafo=(output.uncertainty_trafo * ratio).astype(dtype),
            shapes=output.shapes if shapes is None else shapes.values.astype(dtype),
        )

    def correct(
        self,
        labels: NDArray[np.floating],
        uncertainty: NDArray[np.floating],
        shapes: PredictedShapes | None,
        num_hits: NDArray[np.integer],
        info: ModelInfo,
    ) -> tuple[Values, Values, PredictedShapes | None]:
        """Calibrated labels and uncertainties [n, L], and shapes of densities.

        Of labels only probabilities change, of shapes only that of the direction.

        Parameters
        ----------
        labels, uncertainty, shapes
            What the network predicts for n events: [n, L], in physical units; shapes: None, if it
            predicts none.
        num_hits
            Number of hit DOMs [n].
        info
            What the model predicts.
        """
        names = info.label_names
        changed, sigma = labels.astype(np.float64), uncertainty.astype(np.float64)
        for name, temperature in self.temperatures.items():
            column = names.index(name)
            probability = tempered(changed[:, column], temperature)
            sigma[:, column] *= _spread(probability) / _spread(changed[:, column])
            changed[:, column] = probability
        classes = changed[:, [names.index(name) for name in self.classes]]
        for name, correction in self.widths.items():
            column = names.index(name)
            features = event_features(sigma[:, column], num_hits, classes)
            sigma[:, column] *= np.exp(correction.log_factor(features))
        if info.direction is not None:
            columns = [names.index(name) for name in info.direction]
            kappa = vector_concentration(sigma[:, columns])
            features = event_features(kappa, num_hits, classes)
            if self.direction is not None:
                factor = np.exp(self.direction.log_factor(features))
                corrected = _between(kappa * factor, MIN_KAPPA, MAX_KAPPA)
                sigma[:, columns] *= np.sqrt(kappa / corrected)[:, None]
            components = None if shapes is None else shapes.of(DIRECTION)
            if self.density is not None and shapes is not None and components is not None:
                factor = np.exp(self.density.log_factor(features))
                scaled = with_concentration_scaled(components, factor)
                shapes = shapes.with_components(DIRECTION, scaled)
        return changed, sigma, shapes


_CALIBRATION = TypeAdapter(Calibration)


def recorded_files(calibration: Calibration) -> set[tuple[int, str]]:
    """Size in bytes and digest of the files that a calibration was fitted to."""
    files = calibration.record.get("files", [])
    return {(int(each["size"]), str(each["digest"])) for each in files}


class CalibratedBackend:
    """A backend whose predictions are calibrated.

    Parameters
    ----------
    backend
        What computes.
    calibration
        Of the model of this backend.
    """

    def __init__(self, backend: Backend, calibration: Calibration) -> None:
        self.raw = backend
        self.calibration = calibration

    @property
    def info(self) -> ModelInfo:
        """What the model predicts and reads."""
        return self.raw.info

    def predict(self, hits: Hits, misc: NDArray[np.floating] | None = None) -> NetworkOutput:
        """Predict all events of some hits as one batch (see `Backend`)."""
        output = self.raw.predict(hits, misc)
        return self.calibration.apply(output, np.diff(hits.offsets), self.info)

    def predict_transformed(
        self, main: NDArray[np.floating], deepcore: NDArray[np.floating]
    ) -> NetworkOutput:
        """Not offered: such arrays do not show which DOMs were hit (see `Backend`)."""
        raise ModelError(
            f"'{self.info.name}' is calibrated, and its calibration needs the number of hit DOMs, "
            "which transformed arrays do not contain: give it hits, or request uncalibrated "
            "predictions (raw=True)"
        )

    def read_misc(self, path: Path, events: FileEvents) -> NDArray[np.floating] | None:
        """Misc data [n, M] of the events of a file; None: the network reads none."""
        return self.raw.read_misc(path, events)

    def members(self) -> list[CalibratedBackend]:
        """Itself where there is one network: an ensemble is calibrated as a whole."""
        if len(self.raw.members()) > 1:
            raise ModelError(
                f"the ensemble '{self.info.name}' is calibrated as a whole, its networks are not: "
                "request uncalibrated predictions (raw=True)"
            )
        return [self]


def calibrated(backend: Backend, calibration: Calibration | None, raw: bool = False) -> Backend:
    """The backend with the calibration of its model, if there is one and `raw` does not forbid."""
    return backend if raw or calibration is None else CalibratedBackend(backend, calibration)


def read_calibration(folder: Path, manifest: Manifest, info: ModelInfo) -> Calibration | None:
    """The calibration of a model folder, whose checksums are verified; None: it has none.

    Parameters
    ----------
    folder
        The model folder.
    manifest
        Its manifest; a file that it does not list is not part of the model.
    info
        What the model predicts.

    Raises
    ------
    ModelError
        If it is damaged, or does not fit the model.
    """
    path = folder / CALIBRATION_FILE
    if CALIBRATION_FILE not in manifest.files:
        return None
    check_foreign_file(path, MAX_TEXT_SIZE, folder=folder)
    try:
        values = dict(parse_json(path.read_text(encoding="utf-8")))
        if values.pop("format") != _FORMAT:
            raise ModelError(
                f"'{path}' is not a calibration of this version of the package: run dnn-reco "
                "calibrate again"
            )
        calibration = _CALIBRATION.validate_python(values)
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"'{path}' is damaged: {error!r}") from error
    check_calibration(calibration, info, str(path))
    try:
        recorded_files(calibration)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"'{path}' is damaged: its record of files: {error!r}") from error
    return calibration


def check_calibration(calibration: Calibration, info: ModelInfo, origin: str) -> None:
    """Check that a calibration has labels of the model, valid numbers, and all coefficients.

    Raises
    ------
    ModelError
        Naming what does not fit.
    """
    named = {*calibration.widths, *calibration.temperatures, *calibration.classes}
    if unknown := sorted(named - set(info.trained_labels)):
        raise ModelError(f"'{origin}' names labels that the model does not predict: {unknown}")
    if calibration.direction is not None and info.direction is None:
        raise ModelError(f"'{origin}' corrects a direction, but the model predicts no vector of it")
    if calibration.density is not None and columns_of(info.densities, DIRECTION) is None:
        raise ModelError(f"'{origin}' corrects a density that the model does not predict")
    numbers = list(calibration.temperatures.values())
    corrections = [*calibration.widths.values(), calibration.direction, calibration.density]
    for correction in (each for each in corrections if each is not None):
        expected = num_terms(correction.terms, len(calibration.classes))
        ranges = (correction.width_range, correction.hits_range)
        if correction.terms.degree < 0 or any(low > high for low, high in ranges):
            raise ModelError(
                f"'{origin}' is damaged: the degree of a correction is negative, or a range has "
                "its limits in the wrong order"
            )
        if len(correction.coefficients) != expected:
            raise ModelError(
                f"'{origin}' is damaged: a correction has {len(correction.coefficients)} "
                f"coefficients instead of {expected}"
            )
        numbers += [*correction.coefficients, *correction.width_range, *correction.hits_range]
    if not np.isfinite(numbers).all() or min(calibration.temperatures.values(), default=1.0) <= 0:
        raise ModelError(f"'{origin}' is damaged: numbers are not finite, or a temperature is 0")


def event_features(width: Values, num_hits: NDArray[np.integer], classes: Values) -> EventFeatures:
    """Features of n events from a width [n], numbers of hit DOMs [n] and classes [n, C]."""
    return EventFeatures(np.log(np.maximum(width, _MIN_WIDTH)), np.log1p(num_hits), classes)


def num_terms(terms: Terms, num_classes: int) -> int:
    """Number of coefficients of a correction."""
    return (1 + terms.degree + terms.uses_hits) * (1 + num_classes * terms.uses_classes)


def design_matrix(
    terms: Terms,
    features: EventFeatures,
    width_range: tuple[float, float],
    hits_range: tuple[float, float],
) -> Values:
    """Values [n, K] of the K terms of a correction.

    Logarithms are mapped from their range to -1 … 1, so that all terms are of the same size.
    """
    # Filled in place: of single events, as in alerts, most time is that of calls of NumPy.
    width = _to_unit_range(features.log_width, width_range)
    matrix = np.empty(
        (len(width), 1 + features.classes.shape[1] * terms.uses_classes, num_terms(terms, 0))
    )
    base = matrix[:, 0]
    base[:, 0] = 1.0
    for power in range(1, terms.degree + 1):
        np.multiply(base[:, power - 1], width, out=base[:, power])
    if terms.uses_hits:
        base[:, -1] = _to_unit_range(features.log_hits, hits_range)
    if terms.uses_classes:
        np.multiply(features.classes[:, :, None], base[:, None], out=matrix[:, 1:])
    return matrix.reshape(len(width), -1)


def _to_unit_range(values: Values, limits: tuple[float, float]) -> Values:
    low, high = limits
    middle, half = (low + high) / 2, max((high - low) / 2, 1e-6)
    return np.asarray((_between(values, low, high) - middle) / half)


def _between(values: NDArray[np.floating], low: float, high: float) -> Values:
    """As `np.clip`, which takes several times as long for few values."""
    return np.asarray(np.minimum(np.maximum(values, low), high))


def tempered(probability: Values, temperature: float) -> Values:
    """Probabilities whose logits are divided by a temperature (Guo et al., arXiv:1706.04599)."""
    known = _between(probability, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
    return np.asarray(1 / (1 + np.exp(-np.log(known / (1 - known)) / temperature)))


def _spread(probability: Values) -> Values:
    """Standard deviation √(p (1 - p)) of a class."""
    known = _between(probability, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
    return np.asarray(np.sqrt(known * (1 - known)))
