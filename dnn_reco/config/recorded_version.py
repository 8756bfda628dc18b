"""The version that a recorded config was written with."""

from collections.abc import Mapping
from typing import Any

from dnn_reco._version import __version__

_KEY = "dnn_reco_version"
_OWN_KEYS = ("machine", "python_version")  # which records of the TensorFlow version do not have
_OF_THE_REFERENCE = (1, 2)


def wrong_version(values: Mapping[str, Any], where: str) -> list[str]:
    """A message if a config was recorded with a version that this one does not understand.

    Such are versions of this package with another major number, and versions of the reference
    beyond those whose configs are read here.

    Parameters
    ----------
    values
        The keys of the config.
    where
        File and line of the recorded version.
    """
    recorded = values.get(_KEY)
    if recorded is None:
        return []
    own = int(__version__.split(".")[0])
    is_own = any(key in values for key in _OWN_KEYS)
    majors = (own,) if is_own else (own, *_OF_THE_REFERENCE)
    major = str(recorded).split(".")[0]
    if major in map(str, majors):
        return []
    return [
        f"{where}: '{_KEY}' is {recorded!r}: this config was recorded with another major version "
        f"of dnn_reco than {', '.join(map(str, majors))}, and its keys may mean something else. "
        f"Use that version; or check the keys and remove '{_KEY}'"
    ]
