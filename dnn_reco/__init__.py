"""dnn_reco: deep networks for the reconstruction of IceCube events.

Importing the package is cheap: nothing heavy (torch, matplotlib, tensorboard) is loaded before a
command needs it.
"""

from dnn_reco._version import __version__
from dnn_reco.errors import ConfigError, DataError, DnnRecoError, ModelError, TrainingError

__all__ = [
    "ConfigError",
    "DataError",
    "DnnRecoError",
    "ModelError",
    "TrainingError",
    "__version__",
]
