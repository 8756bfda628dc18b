"""The config that is passed to users' label, misc and filter functions."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from dnn_reco.errors import ConfigError
from dnn_reco.suggestions import nearest


class PluginConfig(MutableMapping[str, Any]):
    """All settings, under their newer and their older names.

    It records which keys were read, so that it is known on which settings the result of a function
    depends when it is stored. A function gets a copy of its own, as it may assign to it.

    `np_float_precision` is always float64: times are made relative to the event's time offset only
    after the functions have run, and float32 cannot hold absolute times to the nanosecond.

    Parameters
    ----------
    values
        Value of each key.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        import numpy as np  # imported here so that loading a config does not need numpy

        self._values: dict[str, Any] = {**values, "np_float_precision": np.float64}
        self._keys_read: set[str] = set()

    @property
    def keys_read(self) -> frozenset[str]:
        """The keys that were read so far, whether they are set or not."""
        return frozenset(self._keys_read)

    def plain_values(self) -> dict[str, Any]:
        """The values as plain YAML types, from which the same config can be made; none is read."""
        return {key: value for key, value in self._values.items() if key != "np_float_precision"}

    def fresh(self) -> PluginConfig:
        """A copy of which no key has been read yet."""
        return PluginConfig(self._values)

    def private_copy(self) -> PluginConfig:
        """A copy to change, values included; the keys that are read are recorded here as well."""
        private = PluginConfig(copy.deepcopy(self._values))
        private._keys_read = self._keys_read
        return private

    def __getitem__(self, key: str) -> Any:
        self._keys_read.add(key)
        if key not in self._values:
            raise KeyError(
                f"the config key '{key}' is not set; the nearest that is set is "
                f"'{nearest(str(key), self._values)}'"
            )
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._values[key] = value

    def __delitem__(self, key: str) -> None:
        del self._values[key]

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, `default` if it is not set."""
        if key in self:  # avoids the search for the nearest name
            return self[key]
        return default

    def __contains__(self, key: object) -> bool:
        self._keys_read.add(str(key))
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def needed_setting(config: Mapping[str, Any], key: str, who: str) -> Any:
    """The value of a key that a function requires.

    Parameters
    ----------
    config
        The settings.
    key
        The key.
    who
        The function that requires it, for the message.

    Raises
    ------
    ConfigError
        If the key is not set.
    """
    value = config.get(key)
    if value is None:
        raise ConfigError(f"{who} needs the key '{key}' in the configuration")
    return value
