"""A YAML file of another program's layout: its keys as written, and where each stands."""

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnn_reco.config.sources import KeyPath, RawConfig, locate, read_files
from dnn_reco.config.typed_settings import kind_of
from dnn_reco.errors import ConfigError

_MOST_BYTES = 2**20


@dataclass(frozen=True)
class YamlFile:
    """A YAML file: its keys, as written."""

    path: Path
    raw: RawConfig

    @property
    def values(self) -> Mapping[str, Any]:
        """Value of each top-level key."""
        return self.raw.values

    def where(self, at: KeyPath) -> str:
        """File and line of a key, for messages."""
        return str(locate(self.raw.locations, at) or self.path)

    def mappings(
        self, at: KeyPath, content: Mapping[Any, Any], key: str
    ) -> list[tuple[KeyPath, Mapping[Any, Any]]]:
        """Entries of a list of mappings, with their key paths; none if the key is not there.

        Parameters
        ----------
        at
            Key path of the mapping `content`.
        content
            The mapping with the list.
        key
            The list's key.

        Raises
        ------
        ConfigError
            If the value is something else.
        """
        value = content.get(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
            raise self.wrong((*at, key), value, "a list of mappings")
        return [((*at, key, number), entry) for number, entry in enumerate(value)]

    def wrong(self, at: KeyPath, value: Any, expected: str) -> ConfigError:
        """The error for a value of an unexpected kind."""
        return ConfigError(
            f"{self.where(at)}: '{at[-1]}' is {value!r} ({kind_of(value)}); allowed: {expected}"
        )


def read_yaml_file(path: Path, what: str) -> YamlFile:
    """Read a YAML file; tags are ignored.

    Parameters
    ----------
    path
        The file.
    what
        What it should be, such as `file of data settings`, for messages.

    Raises
    ------
    ConfigError
        If it cannot be read, is very large, or defines a key twice.
    """
    try:
        status = path.stat()
    except OSError:
        status = None  # `read_files` describes the reason
    if status is not None and not (stat.S_ISREG(status.st_mode) and status.st_size <= _MOST_BYTES):
        raise ConfigError(
            f"'{path}' is not a {what}: it must be a regular file of at most {_MOST_BYTES:,} bytes"
        )
    problems: list[str] = []
    raw = read_files([path], problems, ignore_tags=True)
    if problems:
        raise ConfigError("\n".join(f"{problem}: remove one of the two" for problem in problems))
    return YamlFile(path, raw)
