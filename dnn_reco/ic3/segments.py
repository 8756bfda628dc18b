"""Tray segment that applies models to the pulses of each event."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from icecube import icetray

from dnn_reco.errors import ConfigError
from dnn_reco.ic3.container import DNNDataContainer
from dnn_reco.ic3.modules import DeepLearningReco, DNNContainerHandler
from dnn_reco.pretrained_models import PREFIX, is_pretrained, model_folder


@icetray.traysegment
def ApplyDNNRecos(
    tray: Any,
    name: str,
    model_names: str | Sequence[str],
    pulse_key: str | None = None,
    dom_exclusions: Sequence[str] | None = None,
    partial_exclusion: bool | None = None,
    output_keys: str | Sequence[str] | None = None,
    models_dir: str | Path = ".",
    cascade_key: str | None = "MCCascade",
    ignore_misconfigured_settings_list: Sequence[str] | None = None,
    measure_time: bool = True,
    batch_size: int = 1,
    num_cpus: int = 1,
    verbose: bool = False,
) -> None:
    """Apply one or several models that were trained on the same kind of data.

    The first model sets up the features, which are computed once; all models are checked against
    them. `None` takes the setting of the first model.

    Parameters
    ----------
    tray, name
        The tray, and the name of this segment in it.
    model_names
        Names of the model folders, or `pretrained:NAME` for models of the package.
    pulse_key
        Name of the pulse map, mask or union.
    dom_exclusions
        Names of frame objects with DOMs or time windows to exclude, such as BrightDOMs,
        SaturationWindows, BadDomsList, CalibrationErrata; those that a frame lacks are skipped.
    partial_exclusion
        Whether only pulses inside of time windows are left out, not all of the DOM.
    output_keys
        Frame key of each result; None: DeepLearningReco_<model>, as the TensorFlow version writes
        it (its documentation says dnn_reco_<model>).
    models_dir
        Folder of the model folders.
    cascade_key
        Particle that gives the vertex, for features that are relative to it.
    ignore_misconfigured_settings_list
        Data settings that may differ from those of the training, with a warning. Use with caution.
    measure_time
        Write the time for preprocessing, prediction and writing.
    batch_size
        Number of P frames to predict at once.
    num_cpus
        CPU threads to use.
    verbose
        Print how many pulses are excluded in each event.

    Raises
    ------
    ConfigError
        If there is no model, or not one output key for each.
    DataError
        If settings differ from those of the training.
    ModelError
        If there is no such model, or it is damaged.
    """
    models = [model_names] if isinstance(model_names, str) else list(model_names)
    keys = _output_keys(models, output_keys)
    folders = [
        model_folder(model) if is_pretrained(model) else Path(models_dir) / model
        for model in models
    ]
    container = DNNDataContainer(batch_size=batch_size)
    container.load_configuration(folders[0])
    container.set_up(
        pulse_key=pulse_key,
        dom_exclusions=dom_exclusions,
        partial_exclusion=partial_exclusion,
        cascade_key=cascade_key,
        ignore_misconfigured_settings_list=ignore_misconfigured_settings_list,
    )
    tray.AddModule(
        DNNContainerHandler,
        f"DNNContainerHandler_{name}",
        DNNDataContainer=container,
        Verbose=verbose,
    )
    for model, folder, key in zip(models, folders, keys, strict=True):
        tray.AddModule(
            DeepLearningReco,
            f"DeepLearningReco_{model}{name}",
            ModelPath=str(folder),
            DNNDataContainer=container,
            OutputBaseName=key,
            MeasureTime=measure_time,
            ParallelismThreads=num_cpus,
            IgnoreMisconfiguredSettingsList=ignore_misconfigured_settings_list,
        )


def _output_keys(models: Sequence[str], keys: str | Sequence[str] | None) -> list[str]:
    """Frame key of the result of each model."""
    if not models:
        raise ConfigError("model_names is empty: name at least one model")
    if keys is None:
        return [f"DeepLearningReco_{model.removeprefix(PREFIX)}" for model in models]
    found = [keys] if isinstance(keys, str) else list(keys)
    if len(found) != len(models):
        raise ConfigError(
            f"there are {len(models)} models and {len(found)} output_keys: give one for each"
        )
    return found
