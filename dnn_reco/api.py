"""The public Python interface: what `from dnn_reco import …` offers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnn_reco import config as _config
from dnn_reco.config import Config
from dnn_reco.data.event_table import EventTable, NamedColumns, join_tables
from dnn_reco.data.hits import Hits, check_hits, dense_cells
from dnn_reco.detector import grid
from dnn_reco.errors import ConfigError
from dnn_reco.files import find_files
from dnn_reco.labelled_events import FileContent, read_as_configured, read_as_written
from dnn_reco.simulation.event_table import simulated_events
from dnn_reco.simulation.settings import load_settings

if TYPE_CHECKING:
    from dnn_reco.inference.prediction_table import PredictionTable
    from dnn_reco.inference.trained_model import TrainedModel

Names: TypeAlias = str | Path | Sequence[str | Path]


def open_events(
    files: Names,
    config: Config | Names | None = None,
    *,
    max_events: int | None = None,
    inputs: str | None = None,
    num_bins: int | None = None,
    labels: str | None = None,
    misc: Mapping[str, Sequence[str]] | None = None,
) -> EventTable:
    """Read events of files into memory, with their labels and misc data.

    With a config they are the events that a training with it uses: its tables, label and misc
    loaders and filter apply. Without one, the tables are named here or found in the first file, all
    events are taken, and labels stay as they are in the file (NaN where it has none).

    Parameters
    ----------
    files
        Path or glob pattern of event files, or several; they are read in sorted order.
    config
        Config, or its file or files.
    max_events
        Read no more than these first events.
    inputs
        Common beginning of the names of the three input tables; needed where a file has several.
    num_bins
        Number of input features of a DOM; needed where DOMs do not list all of them.
    labels
        Name of the table of labels; None: LabelsDeepLearning if the first file has it.
    misc
        Columns to read of other tables with one row per event, by table; they are named
        `<table>_<column>`.

    Returns
    -------
    events
        With `hits`, `labels`, `misc`, `ids` and `time_offset`.

    Raises
    ------
    ConfigError
        If the config is wrong, or tables are named beside a config.
    DataError
        If no file matches, or one of them cannot be used.

    Examples
    --------
    >>> from dnn_reco import open_events
    >>> events = open_events("data/*.hdf5", max_events=50)
    >>> len(events), events.hits.num_features
    (50, 9)
    >>> events.labels["EnergyVisible"].shape
    (50,)
    >>> bright = events[events.labels["EnergyVisible"] > 200]
    >>> table = bright.to_pandas()
    """
    if max_events is not None and max_events < 1:
        raise ConfigError(f"max_events is {max_events}: give at least 1")
    paths = find_files([str(name) for name in _list(files)], "the argument 'files'")
    if config is None:
        content = FileContent(inputs, num_bins, labels, misc)
        return _first_events(read_as_written(paths, content), max_events)
    if any(argument is not None for argument in (inputs, num_bins, labels, misc)):
        raise ConfigError(
            "open_events takes inputs, num_bins, labels and misc from the config: name them there, "
            "or give no config"
        )
    config = config if isinstance(config, Config) else load_config(config)
    return _first_events(read_as_configured(paths, config), max_events)


def simulate_events(
    num_events: int = 100, preset: str | Path | None = None, **settings: Any
) -> EventTable:
    """Simulate events with the labels and input features of IceCube's files.

    Parameters
    ----------
    num_events
        Number of events that trigger the detector.
    preset
        YAML file of settings, as in configs/simulation; None: the defaults.
    settings
        Settings that replace those of the preset, such as `flavor="numu"`,
        `energy=(1e3, 1e5)` [GeV], `seed=2`: see `configs/simulation`.

    Raises
    ------
    ConfigError
        If a setting is unknown or wrong.
    DataError
        If next to no event triggers the detector.

    Examples
    --------
    >>> from dnn_reco import simulate_events
    >>> events = simulate_events(10, flavor="nue", energy=(1e4, 1e5))
    >>> len(events), events.hits.num_features
    (10, 9)
    """
    if num_events < 1:
        raise ConfigError(f"num_events is {num_events}: give at least 1")
    path = None if preset is None else Path(preset)
    return simulated_events(load_settings(path, settings), num_events)


def load_config(files: Names) -> Config:
    """Load a config from its file, or from several that are merged.

    Modules beside the file can be named in it: its folder is added to the end of `sys.path`.

    Raises
    ------
    ConfigError
        Naming everything that is wrong with the files, with file and line.

    Examples
    --------
    >>> from dnn_reco import load_config
    >>> config = load_config("config.yaml")
    >>> config.general.batch_size
    8
    """
    paths = _list(files)
    _config.allow_plugins_beside(paths)
    return _config.load_config(paths)


def load_model(
    source: Config | Names, device: str = "auto", num_checkpoints: int = 1
) -> TrainedModel:
    """Load a trained model from a model folder, or from the checkpoints of a training.

    Parameters
    ----------
    source
        A model folder, `pretrained:NAME` for a model of the package, or the config of a training:
        its newest checkpoint is loaded, with the settings of its stage if there are
        `training_stages`.
    device
        Such as "cpu" or "cuda:1"; "auto": a GPU if there is one.
    num_checkpoints
        Number of newest checkpoints of a training; several make an ensemble.

    Raises
    ------
    ConfigError
        If the config is wrong, or the device cannot be used.
    ModelError
        If there is no model, or it is damaged or does not fit its config.

    Examples
    --------
    >>> from dnn_reco import load_model
    >>> model = load_model("config.yaml", device="cpu")
    >>> model.trained_labels
    ('EnergyVisible', 'PrimaryAzimuth')
    """
    from dnn_reco.checkpoint_file import latest_iterations
    from dnn_reco.inference.model_folder import load_model_folder
    from dnn_reco.inference.trained_model import load_trained_model
    from dnn_reco.nn.device import choose_device
    from dnn_reco.pretrained_models import model_folder

    on = choose_device(device)
    source = model_folder(source) if isinstance(source, str | Path) else source
    if isinstance(source, Path) and source.is_dir():
        if num_checkpoints != 1:
            raise ConfigError(
                f"num_checkpoints is {num_checkpoints}, but the model folder '{source}' holds one "
                "set of weights: name the config of the training instead"
            )
        return load_model_folder(source, on)
    config = source if isinstance(source, Config) else load_config(source)
    if config.training.training_stages:
        done = latest_iterations(Path(config.model.model_checkpoint_path))
        config = _config.stage_at(_config.load_stages(config.paths), done)
    return load_trained_model(config, on, num_checkpoints)


def predict(
    model: TrainedModel, hits: Hits, batch_size: int = 256, misc: NamedColumns | None = None
) -> PredictionTable:
    """Predict the trained labels and their uncertainties.

    Parameters
    ----------
    model
        A trained model.
    hits
        Hits of n events.
    batch_size
        Events to predict at once.
    misc
        Their misc data (`events.misc`), for networks that read them.

    Returns
    -------
    predictions
        Named columns [n]: each label and its uncertainty.

    Raises
    ------
    DataError
        If the hits are invalid, or have another number of features than those of the training, or
        misc data that the network reads are missing.

    Examples
    --------
    >>> from dnn_reco import load_model, open_events, predict
    >>> events = open_events("data/*.hdf5", "config.yaml")
    >>> predictions = predict(load_model("config.yaml", device="cpu"), events.hits)
    >>> predictions["EnergyVisible"].shape, predictions["EnergyVisible_log_uncertainty"].shape
    ((60,), (60,))
    """
    from dnn_reco.inference.reconstructor import Reconstructor

    return Reconstructor(model, batch_size=batch_size).predict(hits, misc=misc)


def densify(
    hits: Hits, init_values: ArrayLike = 0.0
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Dense arrays of the input features, untransformed.

    Parameters
    ----------
    hits
        Hits of n events.
    init_values
        Values of DOMs without hit (`DOM_init_values`): one number, or one for each feature.

    Returns
    -------
    main_array
        [n, 10, 10, 60, F]: string 36 is at [4, 5], the third axis runs from the top DOM down;
        places without string hold `init_values`.
    deepcore
        [n, 8, 60, F]: strings 79 to 86.

    Raises
    ------
    DataError
        If the hits are invalid.

    Examples
    --------
    >>> from dnn_reco import densify, open_events
    >>> events = open_events("data/*.hdf5", max_events=3)
    >>> main_array, deepcore = densify(events.hits)
    >>> main_array.shape, deepcore.shape
    ((3, 10, 10, 60, 9), (3, 8, 60, 9))
    """
    check_hits(hits)
    cells = dense_cells(hits, init_values)
    return grid.main_array(cells), grid.deepcore(cells)


def _list(names: Names) -> list[str | Path]:
    return [names] if isinstance(names, str | Path) else list(names)


def _first_events(tables: Iterator[EventTable], max_events: int | None) -> EventTable:
    """The events of all tables, or the first of them."""
    parts: list[EventTable] = []
    num_events = 0
    for table in tables:
        parts.append(table)
        num_events += len(table)
        if max_events is not None and num_events >= max_events:
            break
    return join_tables(parts)[:max_events]
