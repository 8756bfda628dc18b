"""The data transformation model: logarithm and normalisation of inputs, labels and misc data.

Forward, element by element: where the log flag of a column is set, y = ln(1 + x); then, if
normalisation is on, (y - mean) / (c + std), with c the normalisation constant. Uncertainties
transform with the scale alone. mean and std are population moments over events, taken after the
logarithm.

This module is numpy only, so that fitting needs no deep-learning library; networks apply the same
model on their device through :mod:`dnn_reco.nn.densify` and :mod:`dnn_reco.nn.label_transform`.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dnn_reco.detector.geometry import NUM_DOMS
from dnn_reco.detector.grid import DOM_CELL, NUM_CELLS, NUM_MAIN_CELLS
from dnn_reco.errors import DataError, ModelError
from dnn_reco.files import write_atomically

_FORMAT = "dnn_reco transformation model 1"
# Relative difference below which two moments are equal: a smaller variance is a rounding error.
_ROUNDING = 1e-13
_NUM_PARTS = 2  # the main array and DeepCore
_RELATIVE_TIMES = ("relative_time_labels", "relative_time_misc")
_EMPTY_CELL = {"dom_mean": 0.0, "dom_std": 1.0}


@dataclass(frozen=True)
class TransformSettings:
    """The settings of a transformation model, with one log flag for each column.

    The last two name the columns that are relative to the time offset of the event; None: not
    recorded, as in older files. They change no moment, but what the moments are of.
    """

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
    relative_time_labels: tuple[str, ...] | None = None
    relative_time_misc: tuple[str, ...] | None = None

    @property
    def num_bins(self) -> int:
        """Number of input features of a DOM."""
        return len(self.log_dom_bins)


@dataclass(frozen=True)
class TransformationModel:
    """Settings, and moments of the data (float64).

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

    @property
    def digest(self) -> str:
        """SHA-256 of all that transforms values: equal only for equal transformations."""
        settings = {k: v for k, v in asdict(self.settings).items() if k not in _RELATIVE_TIMES}
        content = hashlib.sha256(json.dumps(settings).encode())
        for name, array in _arrays(self).items():
            content.update(name.encode() + array.tobytes())
        return content.hexdigest()


class Moments:
    """Mean and standard deviation of columns, accumulated over blocks of events.

    Sums are taken in float64 relative to a fixed value near the data (the `shift`), which avoids
    cancellation in the variance; blocks may have any size and order.

    Parameters
    ----------
    shift
        A value near the data of each column, any shape.
    """

    def __init__(self, shift: NDArray[np.float64]) -> None:
        self.shift = shift
        self.count = np.zeros(shift.shape[-1], dtype=np.int64)
        self.sum = np.zeros_like(shift)
        self.sum_of_squares = np.zeros_like(shift)

    def add(self, count: int, total: NDArray[np.float64], squares: NDArray[np.float64]) -> None:
        """Add `count` events with their sums of (x - shift) and (x - shift)²."""
        self.count += count
        self.sum += total
        self.sum_of_squares += squares

    def mean_and_std(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Population mean and standard deviation; a standard deviation of exactly 0 becomes 1."""
        count = np.maximum(self.count, 1)
        mean = self.sum / count
        mean_square = self.sum_of_squares / count
        variance = mean_square - mean**2
        variance[variance <= _ROUNDING * mean_square] = 0.0
        std = np.sqrt(variance)
        return self.shift + mean, np.where(std == 0.0, 1.0, std)


class TransformFit:
    """Fits a transformation model in one pass over events.

    Parameters
    ----------
    settings
        Flags and names of the model to fit.
    dom_init_values
        Values [F] of bins of a DOM that are not listed.
    """

    def __init__(self, settings: TransformSettings, dom_init_values: NDArray[np.float64]) -> None:
        self.settings = settings
        self._background = _log_columns(
            dom_init_values[None],
            settings.log_dom_bins,
            [f"bin {i}" for i in range(settings.num_bins)],
        )[0]
        # [F, 5160]: each bin is one row, since sums over hits are taken for one bin at a time
        self._doms = Moments(np.repeat(self._background[:, None], NUM_DOMS, axis=1))
        self._num_events = 0
        self._labels: Moments | None = None
        self._misc: Moments | None = None

    @property
    def num_events(self) -> int:
        """Number of events added so far."""
        return self._num_events

    def add(
        self,
        dom: NDArray[np.integer],
        features: NDArray[np.floating],
        labels: NDArray[np.floating],
        misc: NDArray[np.floating],
    ) -> None:
        """Add a block of n events.

        Parameters
        ----------
        dom, features
            DOM index [k] and input features [k, F] of all hits of the block.
        labels, misc
            Labels [n, L] and misc data [n, M].

        Raises
        ------
        DataError
            Where a column with log flag holds a value of -1 or less.
        """
        settings = self.settings
        index = dom.astype(np.intp)
        total = np.empty((settings.num_bins, NUM_DOMS))
        squares = np.empty((settings.num_bins, NUM_DOMS))
        for column, use_log in enumerate(settings.log_dom_bins):
            values = features[:, column].astype(np.float64)
            if use_log:
                _log(values, f"input bin {column}")
            if self._background[column] != 0.0:
                values -= self._background[column]
            total[column] = np.bincount(index, weights=values, minlength=NUM_DOMS)
            values *= values
            squares[column] = np.bincount(index, weights=values, minlength=NUM_DOMS)
        self._num_events += len(labels)
        self._doms.add(len(labels), total, squares)
        self._labels = _add_rows(
            self._labels, _log_columns(labels, settings.log_label_bins, settings.label_names)
        )
        self._misc = _add_rows(
            self._misc, _log_columns(misc, settings.log_misc_bins, settings.misc_names)
        )

    def result(self) -> TransformationModel:
        """The fitted model.

        Raises
        ------
        DataError
            If no event was added.
        """
        if self._labels is None or self._misc is None or self.num_events == 0:
            raise DataError("a transformation model cannot be fitted to 0 events")
        mean, std = self._doms.mean_and_std()
        dom_mean, dom_std = _cells_from_doms(mean.T, std.T, self.settings.treat_doms_equally)
        return TransformationModel(
            self.settings,
            dom_mean,
            dom_std,
            *self._labels.mean_and_std(),
            *self._misc.mean_and_std(),
        )


def _add_rows(moments: Moments | None, rows: NDArray[np.float64]) -> Moments | None:
    if len(rows) == 0:
        return moments
    finite = np.isfinite(rows)
    if moments is None:
        # the first event is near enough to the data, and exact for constant columns
        moments = Moments(np.where(finite[0], rows[0], 0.0))
    shifted = np.where(finite, rows - moments.shift, 0.0)
    moments.add(finite.sum(axis=0), shifted.sum(axis=0), (shifted**2).sum(axis=0))
    return moments


def _log(values: NDArray[np.float64], name: str) -> None:
    """Replace values x by ln(1 + x)."""
    values += 1.0
    smallest = np.fmin.reduce(values, axis=None, initial=1.0)  # NaN is masked later
    if smallest <= 0.0:
        raise DataError(
            f"the logarithm ln(1 + x) is configured for {name}, which has values down to "
            f"{smallest - 1.0:g}: switch its log flag off (trafo_log_dom_bins, "
            "trafo_log_label_bins, trafo_log_misc_bins) or drop such events with a filter"
        )
    np.log(values, out=values)


def _log_columns(
    rows: NDArray[np.floating], log_columns: Sequence[bool], names: Sequence[str]
) -> NDArray[np.float64]:
    """Rows [n, C] in float64, with ln(1 + x) taken of the flagged columns."""
    result = rows.astype(np.float64)
    for column, (use_log, name) in enumerate(zip(log_columns, names, strict=True)):
        if use_log:
            _log(result[:, column], f"'{name}'")
    return result


def _cells_from_doms(
    mean: NDArray[np.float64], std: NDArray[np.float64], treat_doms_equally: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Moments by cell [6480, F] from moments by DOM index [5160, F].

    With `treat_doms_equally` the DOMs of the main array share the mean of their means and the mean
    of their standard deviations (not the pooled one), and so do those of DeepCore.
    """
    in_main = DOM_CELL < NUM_MAIN_CELLS
    cells = []
    for name, moments in (("dom_mean", mean), ("dom_std", std)):
        if treat_doms_equally:
            parts = np.stack([moments[in_main].mean(axis=0), moments[~in_main].mean(axis=0)])
            cells.append(_cells_from_parts(parts, name))
        else:
            cells.append(_cells(moments, name))
    return cells[0], cells[1]


def _cells(moments: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Moments by cell [6480, F] from those by DOM index [5160, F]."""
    by_cell = np.full((NUM_CELLS, moments.shape[1]), _EMPTY_CELL[name])
    by_cell[DOM_CELL] = moments
    return by_cell


def _cells_from_parts(parts: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Moments by cell [6480, F] from those of the main array and of DeepCore [2, F]."""
    in_deepcore = (DOM_CELL >= NUM_MAIN_CELLS).astype(np.intp)
    return _cells(parts[in_deepcore], name)


def _parts_from_cells(cells: NDArray[np.float64], name: str) -> NDArray[np.float64] | None:
    """Inverse of `_cells_from_parts`; None: the DOMs of a part differ."""
    parts = cells[[DOM_CELL.min(), DOM_CELL.max()]]
    return parts if np.array_equal(_cells_from_parts(parts, name), cells) else None


def _arrays(model: TransformationModel) -> dict[str, NDArray[np.float64]]:
    return {
        field.name: np.ascontiguousarray(getattr(model, field.name))
        for field in fields(TransformationModel)
        if field.name != "settings"
    }


def save_transformation(model: TransformationModel, path: Path) -> None:
    """Write the model to `path` in the format safetensors, whatever the suffix.

    Where all DOMs of the main array are alike, and those of DeepCore, two rows [2, F] stand for
    the moments of all.
    """
    header = {"format": _FORMAT, "settings": json.dumps(asdict(model.settings))}
    arrays = _arrays(model)
    parts = {name: _parts_from_cells(arrays[name], name) for name in _EMPTY_CELL}
    arrays |= {name: rows for name, rows in parts.items() if rows is not None}
    write_atomically(path, save(arrays, metadata=header))


def load_transformation(path: Path) -> TransformationModel:
    """Read a model written by :func:`save_transformation`.

    Raises
    ------
    ModelError
        If there is no such file, or it has another format (a pickle of the reference is not read).
    """
    if not path.is_file():
        raise ModelError(
            f"there is no transformation model '{path}' (trafo_model_path): create it first with "
            "`dnn-reco trafo` (or create_trafo_model.py), with the same config in the same folder"
        )
    try:
        with safe_open(path, framework="np") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"'{path}' is not a transformation model of this package ({error}). A file made by the "
            "TensorFlow version is a pickle and cannot be read: create the model again with "
            "create_trafo_model.py, or import it with its trained network (dnn-reco import)"
        ) from error
    if header.get("format") != _FORMAT:
        raise ModelError(f"'{path}' is not a transformation model but {header.get('format')!r}")
    return _checked_model(header.get("settings", ""), arrays, path)


def _checked_model(
    settings_json: str, arrays: dict[str, NDArray[np.float64]], path: Path
) -> TransformationModel:
    for name in _EMPTY_CELL.keys() & arrays.keys():
        if arrays[name].ndim == 2 and len(arrays[name]) == _NUM_PARTS:
            arrays[name] = _cells_from_parts(arrays[name], name)
    try:
        settings = TypeAdapter(TransformSettings).validate_json(settings_json)
        model = TransformationModel(settings, **arrays)
    except (ValidationError, TypeError) as error:
        raise ModelError(f"'{path}' is damaged: {error}. Create the model again.") from error
    shapes = {
        "dom": (NUM_CELLS, settings.num_bins),
        "label": (len(settings.label_names),),
        "misc": (len(settings.misc_names),),
    }
    for name, shape in shapes.items():
        for moment in (f"{name}_mean", f"{name}_std"):
            if arrays[moment].shape != shape:
                raise ModelError(
                    f"'{path}' is damaged: {moment} has shape {arrays[moment].shape}, not {shape}. "
                    "Create the model again."
                )
        _check_moments(name, arrays, path)
    return model


def _check_moments(name: str, arrays: dict[str, NDArray[np.float64]], path: Path) -> None:
    """Refuse moments that no fit gives: standard deviations are positive, all are finite."""
    mean, std = arrays[f"{name}_mean"], arrays[f"{name}_std"]
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        bad = std[~(np.isfinite(std) & (std > 0))]
        what = (
            f"standard deviations such as {bad[0]:g}" if bad.size else "means that are not finite"
        )
        raise ModelError(
            f"'{path}' is damaged: {name}_std and {name}_mean have {what}. Create the model again."
        )


def settings_differences(model: TransformationModel, wanted: TransformSettings) -> list[str]:
    """One line for each setting in which a model differs from the wanted settings.

    What one of them does not record is not compared.
    """
    differences = []
    for field in fields(TransformSettings):
        found, expected = getattr(model.settings, field.name), getattr(wanted, field.name)
        if found != expected and None not in (found, expected):
            differences.append(f"  {field.name}: {_difference(found, expected)}")
    return differences


def check_settings(model: TransformationModel, wanted: TransformSettings, path: Path) -> None:
    """Check that a loaded model was created with the settings of the config.

    Raises
    ------
    ModelError
        Naming each setting that differs.
    """
    differences = settings_differences(model, wanted)
    if differences:
        raise ModelError(
            f"the transformation model '{path}' does not fit the config:\n"
            + "\n".join(differences)
            + "\nCreate it again with create_trafo_model.py (dnn-reco trafo), or set another "
            "trafo_model_path in this config."
        )


def _difference(found: object, expected: object) -> str:
    if isinstance(found, tuple) and isinstance(expected, tuple) and len(found) > 4:
        missing = [value for value in expected if value not in found]
        extra = [value for value in found if value not in expected]
        if missing or extra:
            return f"only in the config: {missing or 'none'}; only in the model: {extra or 'none'}"
    return f"{found!r} in the model, {expected!r} in the config"
