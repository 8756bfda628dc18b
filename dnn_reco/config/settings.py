"""The loaded config: typed groups of settings, and the origin of each value."""

from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML

from dnn_reco.config.keys import extra_of, missing_key
from dnn_reco.config.legacy import older_names
from dnn_reco.config.plugin_config import PluginConfig
from dnn_reco.config.schema import (
    FIELDS,
    GROUPS,
    BiasedSelectionGroup,
    DataFilesGroup,
    DataHandlerGroup,
    EventWeightsGroup,
    FilterGroup,
    GeneralGroup,
    LabelsGroup,
    MiscGroup,
    ModelGroup,
    OptimizerSettings,
    TrafoGroup,
    TrainingGroup,
)
from dnn_reco.config.sources import Notice, Origin
from dnn_reco.errors import ConfigError
from dnn_reco.files import is_in_package

DEFAULT_SEED = 42
"""Seed where neither `seed` nor `model_kwargs.random_seed` is set."""

_OUTPUT_PATHS = ("log_path", "model_checkpoint_path", "trafo_model_path", "data_cache_dir")


@dataclass(frozen=True)
class Config:
    """All settings of a run.

    Attributes
    ----------
    name
        Names of the config files without `.yaml`, joined by `__`.
    paths
        The config files.
    general, data_files, data_handler, misc, filter, labels, event_weights, biased_selection, \
training, trafo, model
        The settings by group; attributes are the keys of the YAML files (newer spelling). Reading
        one that has no default and was not set raises a `ConfigError`.
    extra
        Unknown keys, kept for users' own modules.
    origins
        Origin of the value of each key.
    notices
        Warnings and information for the user.
    """

    name: str
    paths: tuple[Path, ...]
    general: GeneralGroup
    data_files: DataFilesGroup
    data_handler: DataHandlerGroup
    misc: MiscGroup
    filter: FilterGroup
    labels: LabelsGroup
    event_weights: EventWeightsGroup
    biased_selection: BiasedSelectionGroup
    training: TrainingGroup
    trafo: TrafoGroup
    model: ModelGroup
    extra: Mapping[str, Any]
    origins: Mapping[str, Origin]
    notices: tuple[Notice, ...]

    @property
    def optimizers(self) -> dict[str, OptimizerSettings]:
        """Settings of each optimizer (`model_optimizer_dict`)."""
        return self.model.model_optimizer_dict

    @property
    def seed(self) -> int:
        """Seed of all random numbers: `seed`, else `model_kwargs.random_seed`, else 42."""
        if self.general.seed is not None:
            return self.general.seed
        random_seed = self.model.model_kwargs.get("random_seed")
        return DEFAULT_SEED if random_seed is None else int(random_seed)

    @property
    def unknown_keys(self) -> tuple[str, ...]:
        """Keys that nothing in this package reads: misspelt, or of users' own modules."""
        return tuple(notice.unknown_key for notice in self.notices if notice.unknown_key)

    @property
    def dom_init_values(self) -> tuple[float, ...]:
        """Values of bins that are not listed in the file (`DOM_init_values`): one value per bin.

        Raises
        ------
        ConfigError
            If there are neither one nor `data_handler_num_bins` values.
        """
        values = self.data_handler.DOM_init_values
        num_bins = self.data_handler.data_handler_num_bins
        if len(values) == 1:
            return values * num_bins
        if len(values) != num_bins:
            raise ConfigError(
                f"DOM_init_values holds {len(values)} numbers, but data_handler_num_bins is "
                f"{num_bins}: give one number, or one for each bin"
            )
        return values

    @property
    def event_store(self) -> Path:
        """Folder of the event store.

        It is `data_cache_dir`, else `event_store` next to the folder of `trafo_model_path`.
        """
        if self.general.data_cache_dir is not None:
            return Path(self.general.data_cache_dir)
        return Path(self.trafo.trafo_model_path).parent.parent / "event_store"

    def require(self, *keys: str) -> None:
        """Check that keys are set and not empty: each command calls this first for its keys.

        Raises
        ------
        ConfigError
            Naming every missing key, its description, and a line that sets it.
        """
        values = self.values()
        missing = [missing_key(key, FIELDS[key]) for key in keys if values.get(key) is None]
        if missing:
            files = ", ".join(f"'{path}'" for path in self.paths)
            raise ConfigError(f"the config ({files}) is incomplete:\n" + "\n".join(missing))

    def refuse_output_in_package(self) -> None:
        """Check that no path to write to lies in the folder of this package.

        Raises
        ------
        ConfigError
            Naming each key with such a path.
        """
        values = self.values()
        paths = {key: values.get(key) for key in _OUTPUT_PATHS}
        if paths["data_cache_dir"] is None and paths["trafo_model_path"] is not None:
            paths["data_cache_dir"] = str(self.event_store)
        wrong = [
            f"{self.origins[key]}: {key} is '{path}', which lies in the folder of the package "
            "dnn_reco itself: give another path, such as one that begins with '../'"
            for key, path in paths.items()
            if path is not None and is_in_package(path)
        ]
        if wrong:
            raise ConfigError("\n".join(wrong))

    def values(self) -> dict[str, Any]:
        """Value of each key as plain YAML types, defaults included, unknown keys last."""
        plain = {
            key: _plain(getattr(self, name).__dict__[key])
            for name, group in GROUPS.items()
            for key in group.model_fields
            if key in getattr(self, name).__dict__
        }
        return plain | {key: _plain(value) for key, value in self.extra.items()}

    def to_yaml(self) -> str:
        """The complete merged config in the newer spelling; loading it gives the same settings."""
        yaml = YAML(typ="safe", pure=True)
        yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
        yaml.width = 100
        text = StringIO()
        yaml.dump(self.values(), text)
        return text.getvalue()

    def plugin_view(self) -> PluginConfig:
        """The settings as a mapping, for users' label, misc and filter functions."""
        values = self.values()
        of_module = {key for key, field in FIELDS.items() if extra_of(field, "of_module")}
        unset = {key for key in of_module if values[key] is None}
        newer = {key: value for key, value in values.items() if key not in unset}
        older = {"tf_random_seed": self.seed, **older_names(values)}
        return PluginConfig({**older, **newer, "config_name": self.name})


def _plain(value: Any) -> Any:
    """A value as the plain types of YAML: mappings, lists, texts, numbers."""
    if isinstance(value, BaseModel):
        return _plain({**value.__dict__, **(value.model_extra or {})})
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
