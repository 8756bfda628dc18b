"""Weights of events: a column of their files, or what a flux of primary particles gives.

Weights for a flux come from the package simweights, which needs the tables that the simulation of
IceCube writes: I3MCWeightDict for neutrinos, I3CorsikaWeight, I3CorsikaInfo or CorsikaWeightMap for
showers of CORSIKA.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.hdf5 import list_tables, read_num_inputs, read_table
from dnn_reco.data.hdf5.tables import event_ids, match_ids
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.evaluation.events_of_files import EventsOfFile, read_column
from dnn_reco.suggestions import did_you_mean

Values = NDArray[np.float64]
Tables = Mapping[str, NDArray[np.void]]

_log = logging.getLogger(__name__)

_NEUTRINOS = "I3MCWeightDict"
_SHOWERS = ("I3CorsikaWeight", "I3PrimaryInjectorInfo", "I3CorsikaInfo", "CorsikaWeightMap")
_PRIMARY = "PolyplopiaPrimary"

_NUMBER = r"\d*\.?\d+(?:[eE][+-]?\d+)?"
_POWER_LAW = re.compile(rf"(?:({_NUMBER})\*)?E\^-({_NUMBER})")
_PIVOT = 1e5  # GeV
_PER_FLAVOUR = 1e-18  # / GeV cm² s sr, about that of astrophysical neutrinos


def event_weights(
    source: str, misc: Mapping[str, NDArray[np.floating]], files: Sequence[EventsOfFile]
) -> Values:
    """Weights [n] from misc data, or from a column of a table of the files.

    Parameters
    ----------
    source
        Name of the misc data, or `TABLE.COLUMN`.
    misc
        Misc data [n] of the events, by name.
    files
        The events of each file, n in all.

    Raises
    ------
    ConfigError
        If it is neither.
    DataError
        If a file has no such table or column, or the weights cannot be used.
    """
    if source in misc:
        return checked_weights(np.asarray(misc[source], dtype=np.float64), source)
    table, dot, column = source.partition(".")
    if not (table and dot and column):
        raise ConfigError(
            f"--weights {source}: there is no such misc data.{did_you_mean(source, misc)} Give a "
            f"name of these: {', '.join(misc) or 'none'}; or TABLE.COLUMN of the event files"
        )
    return checked_weights(read_column(files, table, column), source)


def flux_weights(flux: str, files: Sequence[EventsOfFile], jobs_per_file: float = 1.0) -> Values:
    """Weights [n] in Hz of simulated events, for a flux of primary particles.

    Parameters
    ----------
    flux
        A power law for each kind of neutrino, `E^-2.37`, or `7.2e-19*E^-2.37` with its value at
        100 TeV in 1 / (GeV cm² s sr); or the name of a flux of cosmic rays of simweights,
        `GaisserH4a`.
    files
        The events of each file, n in all. Files are one sample together: also those of several
        simulations, and those of which no event is used.
    jobs_per_file
        How many jobs of the simulation each input of an event file holds; a file that does not
        record its inputs is one itself.

    Raises
    ------
    ConfigError
        If simweights is not installed, or the flux is unknown.
    DataError
        If a file lacks the tables that are needed, or the weights cannot be used.
    """
    simweights = _simweights()
    model = _flux(flux, simweights)
    weighters, positions = [], []
    num_rows = 0
    for file in files:
        try:
            weighter, ids = _weighter(file.path, simweights, jobs_per_file)
        except DataError as error:
            if len(file):
                raise
            _log.warning(
                "The events generated for '%s', of which none is used, are not counted: weights "
                "are too large by its share. %s",
                file.path,
                error,
            )
            continue
        position = match_ids(file.ids, ids, f"the weights of '{file.path}'")
        if (position < 0).any():
            raise DataError(
                f"'{file.path}' has no weights for {(position < 0).sum()} of the {len(file)} "
                "events: write them for all events, or remove these with a filter"
            )
        weighters.append(weighter)
        positions.append(position + num_rows)
        num_rows += len(ids)
    if not weighters:
        return np.empty(0)
    try:
        weights = sum(weighters).get_weights(model)
    except (AssertionError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"--flux {flux}: simweights cannot weight these events ({_reason(error)}). The flux "
            "must be one of the particles that were simulated"
        ) from error
    return checked_weights(np.asarray(weights, dtype=np.float64)[np.concatenate(positions)], flux)


def checked_weights(weights: Values, source: str) -> Values:
    """The weights [n] themselves, if events can be weighted with them.

    Raises
    ------
    DataError
        If some are negative or not finite, or all are 0.
    """
    for problem, wrong in (
        ("not finite", ~np.isfinite(weights)),
        ("negative", weights < 0),
    ):
        if wrong.any():
            raise DataError(
                f"weights '{source}': {wrong.sum():,} of {len(weights):,} are {problem}, the first "
                f"that of event {int(np.argmax(wrong))} of the evaluated ones. Choose other "
                "weights, or remove these events with a filter"
            )
    if len(weights) and not weights.any():
        raise DataError(f"weights '{source}': all {len(weights):,} are 0. Choose other weights")
    return weights


def _weighter(path: Path, simweights: Any, num_jobs: float) -> tuple[Any, NDArray[np.void]]:
    """The weighter of a file, and the ids of the events that it weights.

    Each input of the file holds so many jobs.
    """
    num_jobs *= read_num_inputs(path) or 1
    there = list_tables(path)
    names = [name for name in (_NEUTRINOS, *_SHOWERS, _PRIMARY) if name in there]
    tables = {name: _existing(read_table(path, name)) for name in names}
    try:
        if _NEUTRINOS in tables:
            return simweights.NuGenWeighter(tables, num_jobs), event_ids(tables[_NEUTRINOS])
        if "I3CorsikaWeight" in tables:
            return simweights.CorsikaWeighter(tables), event_ids(tables["I3CorsikaWeight"])
        if _PRIMARY in tables and {"I3CorsikaInfo", "CorsikaWeightMap"} & tables.keys():
            jobs = None if "I3CorsikaInfo" in tables else num_jobs
            return simweights.CorsikaWeighter(tables, jobs), event_ids(tables[_PRIMARY])
    except (AssertionError, IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"simweights cannot use the tables {', '.join(names)} of '{path}' ({_reason(error)})"
        ) from error
    raise DataError(
        f"'{path}' has no tables that weights for a flux are computed from: {_NEUTRINOS} "
        f"(neutrinos), or {', '.join(_SHOWERS)} with {_PRIMARY} (CORSIKA). Its tables: "
        f"{', '.join(there)}. Write them into the files, or give weights that the files hold by "
        "--weights TABLE.COLUMN"
    )


def _existing(rows: NDArray[np.void]) -> NDArray[np.void]:
    """Rows of a table that hold an object."""
    return rows[rows["exists"] != 0] if "exists" in (rows.dtype.names or ()) else rows


def _flux(name: str, simweights: Any) -> Any:
    """What simweights takes as a flux."""
    power_law = _POWER_LAW.fullmatch(name.replace(" ", ""))
    if power_law:
        norm, index = float(power_law[1] or _PER_FLAVOUR), float(power_law[2])
        return lambda energy: norm * (energy / _PIVOT) ** -index
    models = [name for name in simweights.__all__ if _is_flux(getattr(simweights, name))]
    if name in models:
        return getattr(simweights, name)()
    raise ConfigError(
        f"--flux {name}: there is no such flux.{did_you_mean(name, models)} Give a power law of "
        f"neutrinos such as E^-2.37, or a flux of cosmic rays: {', '.join(models)}"
    )


def _is_flux(of_package: Any) -> bool:
    """Whether something is a flux that needs no arguments to be made."""
    if not (inspect.isclass(of_package) and hasattr(of_package, "pdgids")):
        return False
    needed = inspect.signature(of_package).parameters.values()
    return all(each.default is not each.empty for each in needed)


def _simweights() -> Any:
    try:
        return importlib.import_module("simweights")
    except ImportError as error:
        raise ConfigError(
            "weights for a flux need the package simweights: pip install 'dnn_reco[weights]'"
        ) from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
