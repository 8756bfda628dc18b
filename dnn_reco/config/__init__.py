"""The config: YAML files are loaded once as typed, validated settings."""

from dnn_reco.config.key_lists import TRAFO_KEYS, TRAINING_KEYS
from dnn_reco.config.load import load_config, load_stages, load_with_stages, stage_at
from dnn_reco.config.plugin_config import PluginConfig, needed_setting
from dnn_reco.config.plugins import (
    allow_plugins_beside,
    call_plugin,
    check_signature,
    defined_in_source,
    is_of_package,
    plugin_folders,
    resolve,
    source_hash,
)
from dnn_reco.config.report import show_config, unknown_keys_text
from dnn_reco.config.schema import BiasedSelectionSettings, OptimizerSettings, PartOptimizerSettings
from dnn_reco.config.settings import DEFAULT_SEED, Config
from dnn_reco.config.sources import Notice, Origin
from dnn_reco.config.value_types import ScheduleSettings

__all__ = [
    "DEFAULT_SEED",
    "TRAFO_KEYS",
    "TRAINING_KEYS",
    "BiasedSelectionSettings",
    "Config",
    "Notice",
    "OptimizerSettings",
    "Origin",
    "PartOptimizerSettings",
    "PluginConfig",
    "ScheduleSettings",
    "allow_plugins_beside",
    "call_plugin",
    "check_signature",
    "defined_in_source",
    "is_of_package",
    "load_config",
    "load_stages",
    "load_with_stages",
    "needed_setting",
    "plugin_folders",
    "resolve",
    "show_config",
    "source_hash",
    "stage_at",
    "unknown_keys_text",
]
