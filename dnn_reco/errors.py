"""The exceptions of the package, one family.

Each message is written for users in a terminal: what was found, where (file, table, key, line), and
what to do next. The command line prints only the message; a traceback means a bug of the package.
"""


class DnnRecoError(Exception):
    """Base of all errors that users can cause and correct."""


class ConfigError(DnnRecoError):
    """A configuration file, key, value or dotted name that cannot be used."""


class DataError(DnnRecoError):
    """An input file, table, label or event list that cannot be used."""


class ModelError(DnnRecoError):
    """A network, transformation model or checkpoint that does not match the config or data."""


class TrainingError(DnnRecoError):
    """A training that cannot continue, for example because it diverges."""


class ClusterError(DnnRecoError):
    """A job that cannot be described to a batch system, or that the batch system rejects."""
