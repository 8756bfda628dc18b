"""Settings of event files, records, transformation and label weights from the config."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from dnn_reco.config import Config
from dnn_reco.data.file_events import HitsSettings, InputTables
from dnn_reco.data.hdf5 import input_tables
from dnn_reco.data.label_definitions import relative_time_names
from dnn_reco.data.records import ColumnNames, RecordSettings
from dnn_reco.data.sampling import FileSampling
from dnn_reco.errors import ConfigError
from dnn_reco.files import count_files
from dnn_reco.suggestions import did_you_mean
from dnn_reco.transform import TransformationModel, TransformSettings

_log = logging.getLogger(__name__)


def file_sampling(config: Config, key: str) -> FileSampling:
    """How the files of a key are drawn from: those listed several times are visited as often."""
    return FileSampling(
        count_files(getattr(config.data_files, key), key),
        config.data_handler.data_handler_max_events_per_file,
    )


def with_input_tables(config: Config, prefix: str) -> Config:
    """The same config with other names of the input tables.

    Parameters
    ----------
    config
        The config.
    prefix
        Common beginning of the names, such as dnn_data for dnn_data_bin_values.
    """
    tables = input_tables(prefix)
    names = {
        "data_handler_bin_values_name": tables.values,
        "data_handler_bin_indices_name": tables.indices,
        "data_handler_time_offset_name": tables.time_offset,
    }
    return replace(config, data_handler=config.data_handler.model_copy(update=names))


def hits_settings(config: Config) -> HitsSettings:
    """What the hits depend on."""
    handler = config.data_handler
    return HitsSettings(
        InputTables(
            handler.data_handler_bin_values_name,
            handler.data_handler_bin_indices_name,
            handler.data_handler_time_offset_name,
        ),
        handler.data_handler_num_bins,
        config.dom_init_values,
        config.general.float_precision,
        handler.data_handler_verify == "full",
    )


def record_settings(config: Config) -> RecordSettings:
    """What labels, misc data and the selection of events depend on."""
    handler, labels = config.data_handler, config.labels
    return RecordSettings(
        label_class=handler.data_handler_label_class,
        misc_class=handler.data_handler_misc_class,
        filter_class=handler.data_handler_filter_class,
        label_fill_values=tuple(sorted((labels.label_nan_fill_value or {}).items())),
        nan_fill_value=handler.data_handler_nan_fill_value,
        pid_keys=tuple(labels.label_pid_keys),
        pid_smoothing=labels.label_pid_smooth_labels,
        relative_time_keys=tuple(handler.data_handler_relative_time_keys),
        relative_time_pattern=handler.data_handler_relative_time_key_pattern,
        dtype=config.general.float_precision,
    )


def transform_settings(config: Config, names: ColumnNames) -> TransformSettings:
    """Settings of the transformation model for the columns found in the data.

    Raises
    ------
    ConfigError
        If a list of log flags has not one flag a column.
    """
    trafo = config.trafo
    bins = [str(number) for number in range(config.data_handler.data_handler_num_bins)]
    return TransformSettings(
        label_names=names.labels,
        misc_names=names.misc,
        log_dom_bins=_log_flags("trafo_log_dom_bins", trafo.trafo_log_dom_bins, bins),
        log_label_bins=_log_flags("trafo_log_label_bins", trafo.trafo_log_label_bins, names.labels),
        log_misc_bins=_log_flags("trafo_log_misc_bins", trafo.trafo_log_misc_bins, names.misc),
        normalize_dom_data=trafo.trafo_normalize_dom_data,
        normalize_label_data=trafo.trafo_normalize_label_data,
        normalize_misc_data=trafo.trafo_normalize_misc_data,
        treat_doms_equally=trafo.trafo_treat_doms_equally,
        norm_constant=trafo.trafo_norm_constant,
        relative_time_labels=relative_time_names(names.labels, record_settings(config)),
        relative_time_misc=relative_time_names(names.misc, record_settings(config)),
    )


def with_relative_times(model: TransformationModel, config: Config) -> TransformationModel:
    """A transformation model that records relative times; an older one those of a config.

    Parameters
    ----------
    model
        The transformation model.
    config
        The config of a training with it.
    """
    if model.settings.relative_time_labels is not None:
        return model
    settings = record_settings(config)
    labels, misc = (
        relative_time_names(names, settings)
        for names in (model.settings.label_names, model.settings.misc_names)
    )
    return replace(
        model,
        settings=replace(model.settings, relative_time_labels=labels, relative_time_misc=misc),
    )


def _log_flags(
    key: str, flags: bool | Sequence[bool] | Mapping[str, bool], names: Sequence[str]
) -> tuple[bool, ...]:
    if isinstance(flags, bool):
        return (flags,) * len(names)
    if isinstance(flags, Mapping):
        for text in _unknown_names(key, flags, names):
            _log.warning("%s", text)
        return tuple(bool(flags.get(name, False)) for name in names)
    if len(flags) != len(names):
        raise ConfigError(
            f"{key} lists {len(flags)} flags for {len(names)} columns ({', '.join(names)}): give "
            "one flag for each, a single flag for all, or a mapping by name"
        )
    return tuple(flags)


def _unknown_names(key: str, named: Iterable[str], names: Sequence[str]) -> list[str]:
    """A text for each name in a key of the config that the data do not have."""
    return [
        f"{key} names '{name}', which is not in the data.{did_you_mean(name, names)}"
        for name in sorted(set(named) - set(names))
    ]


def unknown_fill_values(config: Config, names: Sequence[str]) -> list[str]:
    """A text for each fill value of a label that the data do not have: it may be misspelt."""
    return _unknown_names("label_nan_fill_value", config.labels.label_nan_fill_value or {}, names)


def label_weights(config: Config, names: Sequence[str]) -> list[float]:
    """Weight in the loss of each label.

    Raises
    ------
    ConfigError
        If a label that should be trained is not there, or no label has a weight.
    """
    labels = config.labels
    for name in sorted(set(labels.label_weight_dict) - set(names)):
        if labels.label_weight_dict[name] > 0:
            raise ConfigError(
                f"label_weight_dict: the data have no label '{name}'.{did_you_mean(name, names)} "
                f"Available: {', '.join(names)}"
            )
    weights = [label_weight(config, name) for name in names]
    if not any(weights):
        raise ConfigError(
            "no label has a weight above 0, so there is nothing to train: name labels in "
            f"label_weight_dict. Available: {', '.join(names)}"
        )
    return weights


def label_weight(config: Config, name: str) -> float:
    """Weight in the loss of one label."""
    labels = config.labels
    return float(labels.label_weight_dict.get(name, labels.label_weight_initialization))
