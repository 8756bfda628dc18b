"""Predictions of other reconstructions that event files hold, as reconstructions to compare with.

Two kinds are read: tables `DeepLearningReco_<name>` of labels with uncertainties, together with
their table `_I3Particle`, and any other table with the columns of an I3Particle, which gives values
without uncertainties. Names of the particle's properties are mapped to those of the labels.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.hdf5.tables import HEADER_COLUMNS, open_file
from dnn_reco.detector.directions import vector_of
from dnn_reco.errors import DataError
from dnn_reco.evaluation.events_of_files import EventsOfFile, rows_of_events, values_at
from dnn_reco.evaluation.reconstruction import Reconstruction
from dnn_reco.inference.particle import USUAL_LABELS
from dnn_reco.inference.prediction_table import PARTICLE_SUFFIX, TABLE_PREFIX, UNCERTAINTY
from dnn_reco.inference.stored_predictions import stored_predictions
from dnn_reco.nn.interface import LabelKeys
from dnn_reco.suggestions import did_you_mean

_log = logging.getLogger(__name__)

Columns = dict[str, NDArray[np.float64]]

_PARTICLE_COLUMNS = {"x", "y", "z", "time", "zenith", "azimuth", "energy", "fit_status"}
ALL_STORED = "all"
"""Stands for all reconstructions of networks that the files hold."""

_TRUTH = "MC"
_POSITION = {"pos_x": "x", "pos_y": "y", "pos_z": "z", "length": "length"}


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
        Whether to include particles of the simulation: tables with `MC` in their names.

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
        name
        for name in tables - particles
        if name.startswith(TABLE_PREFIX)
        and any(column.endswith(UNCERTAINTY[False]) for column in columns[name])
    )
    found = [
        StoredReconstruction(
            name.removeprefix(TABLE_PREFIX),
            name,
            f"{name}{PARTICLE_SUFFIX}" if f"{name}{PARTICLE_SUFFIX}" in particles else None,
        )
        for name in of_networks
    ]
    others = particles - {each.particle for each in found}
    return found + [
        StoredReconstruction(name, None, name)
        for name in sorted(others)
        if with_truth or _TRUTH not in name
    ]


def read_asked(
    asked: Sequence[str], files: Sequence[EventsOfFile], truth: TrueLabels
) -> list[Reconstruction]:
    """The stored reconstructions of these names; `all` stands for those of networks.

    Parameters and errors are those of :func:`read_stored` and :func:`read_stored_networks`.
    """
    named = [name for name in dict.fromkeys(asked) if name != ALL_STORED]
    found = read_stored_networks(files, truth) if ALL_STORED in asked else []
    return [*(each for each in found if each.name not in named), *read_stored(named, files, truth)]


def read_stored(
    names: Sequence[str], files: Sequence[EventsOfFile], truth: TrueLabels
) -> list[Reconstruction]:
    """Reconstructions by name, for the events of files.

    Parameters
    ----------
    names
        Names, as :func:`list_stored` gives them; particles of the simulation can also be named.
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
                f"no file holds a reconstruction '{name}'.{did_you_mean(name, known)} Available: "
                f"{', '.join(known) or 'none'}"
            )
    found = []
    for name in names:
        reconstruction = _read_from_files(name, offered, files, truth)
        if reconstruction is None:
            raise DataError(
                f"the reconstruction '{name}' has no values of the evaluated labels "
                f"({', '.join(truth.names)}) for any of the events: remove it"
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
                "The stored reconstruction '%s' is skipped: it has none of the evaluated labels.",
                name,
            )
        else:
            found.append(reconstruction)
    if not found:
        raise DataError(
            f"no file holds a table {TABLE_PREFIX}… with uncertainties of the evaluated labels "
            f"({', '.join(truth.names)}): name the table of a reconstruction"
        )
    return found


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
    columns = {
        column: np.concatenate(
            [
                part.get(column, np.full(len(file), np.nan))
                for part, file in zip(parts, files, strict=True)
            ]
        )
        for column in dict.fromkeys(column for part in parts for column in part)
    }
    table = stored_predictions(columns, sum(map(len, files)))
    known = [label for label in table.label_names if np.isfinite(columns[label]).any()]
    if not known:
        return None
    ids = np.concatenate([file.ids for file in files])
    table = replace(table.select(known), ids=ids, particle_labels=dict(truth.keys.particle))
    return Reconstruction(name, table, truth.keys)


def _read(file: EventsOfFile, stored: StoredReconstruction | None, truth: TrueLabels) -> Columns:
    """Labels and uncertainties of the events of one file; nothing if it has no such tables."""
    found: Columns = {}
    if stored is not None and stored.labels is not None:
        rows, position = rows_of_events(file, stored.labels)
        names = set(truth.names) & set(rows.dtype.names or ())
        wanted = {f"{name}{end}" for name in names for end in ("", *UNCERTAINTY.values())}
        for column in rows.dtype.names or ():
            if column in wanted:
                found[column] = values_at(rows, column, position)
    if stored is not None and stored.particle is not None:
        # what the table of labels gives is what was predicted
        found = _particle_labels(file, stored.particle, truth) | found
    for name in truth.relative_times:
        if name in found:
            found[name] = found[name] - file.time_offset
    return found


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
    vector = vector_of(values["zenith"], values["azimuth"]).T
    keys = truth.keys
    for label, component in zip((keys.dir_x, keys.dir_y, keys.dir_z), vector, strict=True):
        if label is not None and label in truth.names:
            found[label] = component
    return found


def _label_columns(truth: TrueLabels) -> Mapping[str, str]:
    """Column of the particle that holds each label, as far as the particle has them."""
    particle = truth.keys.particle
    energy = next(
        (n for n in (particle.get("energy"), *USUAL_LABELS["energy"]) if n in truth.names), None
    )
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
