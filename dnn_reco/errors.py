"""The exceptions of the package, one family.

Each message is written for the physicist who reads it in a terminal: what was found, where (file,
table, key, line), and what to do next. The command line prints the message alone; a traceback
means a bug of ours.
"""


class DnnRecoError(Exception):
    """Base of every error that a user can cause and mend."""


class ConfigError(DnnRecoError):
    """A configuration file, key, value or dotted name that cannot be used."""


class DataError(DnnRecoError):
    """An input file, table, label or event list that cannot be used."""


class ModelError(DnnRecoError):
    """A network, transformation model or checkpoint that does not fit what is asked of it."""


class TrainingError(DnnRecoError):
    """A training that cannot go on as it is, such as one that diverges."""


class ClusterError(DnnRecoError):
    """A job that cannot be described to a batch system, or that it does not take."""
