"""Predictions of other reconstructions that event files hold, as reconstructions to compare with.

Two kinds are read: tables `DeepLearningReco_<name>` of labels with uncertainties, together with
their table `_I3Particle`, and any other table with the columns of an I3Particle, which gives values
without uncertainties. Names of the particle's properties are mapped to those of the labels.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.hdf5.tables import HEADER_COLUMNS, open_file
from dnn_reco.errors import DataError
from dnn_reco.evaluation.events_of_files import EventsOfFile, rows_of_events, values_at
from dnn_reco.evaluation.reconstruction import Reconstruction
from dnn_reco.inference.prediction_table import PredictionTable
from dnn_reco.nn.interface import LabelKeys
from dnn_reco.suggestions import did_you_mean

_log = logging.getLogger(__name__)

Columns = dict[str, NDArray[np.float64]]

_PREFIX, _PARTICLE = "DeepLearningReco_", "_I3Particle"
_LOG, _PLAIN = "_log_uncertainty", "_uncertainty"
_PARTICLE_COLUMNS = {"x", "y", "z", "time", "zenith", "azimuth", "energy", "fit_status"}
_TRUTH = re.compile("MC")
_POSITION = {"pos_x": "x", "pos_y": "y", "pos_z": "z", "length": "length"}
_ENERGY_LABELS = ("EnergyVisible", "PrimaryEnergy")


@dataclass(frozen=True)
class StoredReconstruction:
    """A reconstruction that a file holds.

    Attributes
    ----------
    name
        Its name: that of its tables without the beginning `DeepLearningReco_`.
    labels, particle
        Names of its tables of labels and of particles; None: there is none.
    """

    name: str
    labels: str | None
    particle: str | None


@dataclass(frozen=True)
class TrueLabels:
    """What is known of the labels with which reconstructions are compared.

    Attributes
    ----------
    names
        Names of the true labels.
    keys
        Which of them are directions, classes and properties of a particle.
    relative_times
        Those that are relative to the time offset of the event; files hold absolute times.
    """

    names: Collection[str]
    keys: LabelKeys
    relative_times: Collection[str] = ()


def list_stored(path: str | PathLike[str], with_truth: bool = False) -> list[StoredReconstruction]:
    """Reconstructions that a file holds.

    Parameters
    ----------
    path
        The file.
    with_truth
        Whether to list particles of the simulation, too: tables with `MC` in their names.

    Raises
    ------
    DataError
        If the file cannot be read.
    """
    with open_file(path) as file:
        columns = {
            name: set(node.dtype.names)
            for name, node in file.items()
            if getattr(node, "dtype", None) is not None and node.dtype.names
        }
    tables = {name for name, of_table in columns.items() if set(HEADER_COLUMNS) <= of_table}
    particles = {name for name in tables if columns[name] >= _PARTICLE_COLUMNS}
    of_networks = sorted(
        name for name in tables - particles
        if name.startswith(_PREFIX) and any(c.endswith(_PLAIN) for c in columns[name])
    )  # fmt: skip
    found = [
        StoredReconstruction(
            name.removeprefix(_PREFIX),
            name,
            f"{name}{_PARTICLE}" if f"{name}{_PARTICLE}" in particles else None,
        )
        for name in of_networks
    ]
    others = particles - {each.particle for each in found}
    return found + [
        StoredReconstruction(name, None, name)
        for name in sorted(others)
        if with_truth or not _TRUTH.search(name)
    ]


def read_stored(
    names: Sequence[str], files: Sequence[EventsOfFile], truth: TrueLabels
) -> list[Reconstruction]:
    """Reconstructions by name, for the events of files.

    Parameters
    ----------
    names
        Names, as :func:`list_stored` gives them; particles of the simulation can be named, too.
    files
        The events of each file, n in all. A file without a reconstruction that another one has
        gives NaN.
    truth
        The labels with which they are compared.

    Raises
    ------
    DataError
        If no file holds a reconstruction of a name, it holds none of the labels, or several rows
        for one event.
    """
    offered = [{each.name: each for each in list_stored(file.path, True)} for file in files]
    known = sorted({name for of_file in offered for name in of_file})
    for name in names:
        if name not in known:
            raise DataError(
                f"no file holds a reconstruction '{name}'.{did_you_mean(name, known)} There are: "
                f"{', '.join(known) or 'none'}"
            )
    found = []
    for name in names:
        reconstruction = _read_from_files(name, offered, files, truth)
        if reconstruction is None:
            raise DataError(
                f"the reconstruction '{name}' has no values of the labels that are evaluated "
                f"({', '.join(truth.names)}) for any of the events: leave it out"
            )
        found.append(reconstruction)
    return found


def read_stored_networks(files: Sequence[EventsOfFile], truth: TrueLabels) -> list[Reconstruction]:
    """All reconstructions of networks that give one of the labels, for the events of files.

    Those of other labels are named in a warning, and left out.

    Raises
    ------
    DataError
        If there is none, or one has several rows for one event.
    """
    offered = [{each.name: each for each in list_stored(file.path)} for file in files]
    of_networks = dict.fromkeys(
        name for of_file in offered for name, each in of_file.items() if each.labels is not None
    )
    found = []
    for name in of_networks:
        reconstruction = _read_from_files(name, offered, files, truth)
        if reconstruction is None:
            _log.warning(
                "The stored reconstruction '%s' is left out: it gives none of the labels that are "
                "evaluated.",
                name,
            )
        else:
            found.append(reconstruction)
    if not found:
        raise DataError(
            f"no file holds a table {_PREFIX}… with uncertainties of the labels that are evaluated "
            f"({', '.join(truth.names)}): name the table of a reconstruction"
        )
    return found


@dataclass(frozen=True)
class _Part:
    """Labels and uncertainties of the events of one file, by column."""

    labels: Columns
    sigmas: Columns
    num_events: int


def _read_from_files(
    name: str,
    offered: Sequence[Mapping[str, StoredReconstruction]],
    files: Sequence[EventsOfFile],
    truth: TrueLabels,
) -> Reconstruction | None:
    """One reconstruction of the events of all files; None if it has no values of the labels."""
    parts = [
        _read(file, of_file.get(name), truth) for file, of_file in zip(files, offered, strict=True)
    ]
    labels = [
        label
        for label in dict.fromkeys(label for part in parts for label in part.labels)
        if any(np.isfinite(part.labels[label]).any() for part in parts if label in part.labels)
    ]
    if not labels:
        return None
    has_log = tuple(any(f"{label}{_LOG}" in part.sigmas for part in parts) for label in labels)
    sigmas = [
        f"{label}{_LOG if log else _PLAIN}" for label, log in zip(labels, has_log, strict=True)
    ]
    table = PredictionTable(
        tuple(labels),
        has_log,
        np.concatenate([_stacked(part.labels, labels, part.num_events) for part in parts]),
        np.concatenate([_stacked(part.sigmas, sigmas, part.num_events) for part in parts]),
        np.concatenate([file.ids for file in files]),
        particle_labels=dict(truth.keys.particle),
    )
    return Reconstruction(name, table, truth.keys)


def _stacked(columns: Columns, names: Sequence[str], num_events: int) -> NDArray[np.float64]:
    """Columns [n, L] by name, NaN for those that are not there."""
    unknown = np.full(num_events, np.nan)
    return np.stack([columns.get(name, unknown) for name in names], axis=1)


def _read(file: EventsOfFile, stored: StoredReconstruction | None, truth: TrueLabels) -> _Part:
    """Labels and uncertainties of the events of one file; nothing if it has no such tables."""
    labels: Columns = {}
    sigmas: Columns = {}
    if stored is not None and stored.labels is not None:
        rows, position = rows_of_events(file, stored.labels)
        there = rows.dtype.names or ()
        for column in there:
            name = column.removesuffix(_LOG).removesuffix(_PLAIN)
            if name in truth.names and name in there:
                where = labels if column == name else sigmas
                where[column] = values_at(rows, column, position)
    if stored is not None and stored.particle is not None:
        # what the table of labels gives is what was predicted
        labels = _particle_labels(file, stored.particle, truth) | labels
    for name in truth.relative_times:
        if name in labels:
            labels[name] = labels[name] - file.time_offset
    return _Part(labels, sigmas, len(file))


def _particle_labels(file: EventsOfFile, table: str, truth: TrueLabels) -> Columns:
    """Properties of a particle by the names of the labels; NaN where the fit has failed."""
    rows, position = rows_of_events(file, table)
    there = [name for name in (*_PARTICLE_COLUMNS, "length") if name in (rows.dtype.names or ())]
    values = {name: values_at(rows, name, position) for name in there}
    failed = values.pop("fit_status") > 0  # 0: it succeeded, -1: not set
    # IceTray's default of one of the angles may be a number
    no_direction = ~np.isfinite(values["zenith"] + values["azimuth"])
    for name, column in values.items():
        unknown = failed | no_direction if name in ("zenith", "azimuth") else failed
        column[unknown] = np.nan
    found = {
        label: values[column] for label, column in _label_columns(truth).items() if column in values
    }
    sine = np.sin(values["zenith"])
    x, y = -sine * np.cos(values["azimuth"]), -sine * np.sin(values["azimuth"])
    # the vector points along the motion, zenith and azimuth to where the particle comes from
    vector = (x, y, -np.cos(values["zenith"]))
    keys = truth.keys
    for label, component in zip((keys.dir_x, keys.dir_y, keys.dir_z), vector, strict=True):
        if label is not None and label in truth.names:
            found[label] = component
    return found


def _label_columns(truth: TrueLabels) -> Mapping[str, str]:
    """Column of the particle that holds each label, as far as the particle has them."""
    particle = truth.keys.particle
    energy = next((n for n in (particle.get("energy"), *_ENERGY_LABELS) if n in truth.names), None)
    by_label = {
        energy: "energy",
        particle.get("time"): "time",
        truth.keys.zenith: "zenith",
        truth.keys.azimuth: "azimuth",
        **{particle.get(part): column for part, column in _POSITION.items()},
    }
    return {
        label: column
        for label, column in by_label.items()
        if label is not None and label in truth.names
    }
