"""Types and helpers for users' own functions: stable names to import from.

Label, misc and filter functions need none of them. The pages "Functions that a config names",
"Losses" and "Layers of the network" of the reference describe each kind of function.
"""

from dnn_reco.data.hdf5 import read_columns, read_table
from dnn_reco.data.hit_batch import HitBatch, TensorBatch
from dnn_reco.errors import ConfigError, DataError, DnnRecoError, ModelError
from dnn_reco.modules.data.event_weights.interface import EventColumns
from dnn_reco.modules.evaluation.interface import EvaluationBatch, EvaluationContext
from dnn_reco.modules.loss.interface import MIN_UNCERTAINTY, Loss, LossContext, Truth
from dnn_reco.modules.loss.reduction import at_labels, weighted_mean
from dnn_reco.modules.loss.special_labels import label_indices, uses_labels
from dnn_reco.nn.densify import Densify
from dnn_reco.nn.direction import concentration, mean_angle
from dnn_reco.nn.interface import LabelKeys, Network, NetworkSpec, Prediction
from dnn_reco.nn.label_transform import LabelTransform
from dnn_reco.nn.misc_data import MiscData
from dnn_reco.nn.scalars import add_scalar
from dnn_reco.nn.sharded_batch import dropout, mean_and_variance

__all__ = [
    "MIN_UNCERTAINTY",
    "ConfigError",
    "DataError",
    "Densify",
    "DnnRecoError",
    "EvaluationBatch",
    "EvaluationContext",
    "EventColumns",
    "HitBatch",
    "LabelKeys",
    "LabelTransform",
    "Loss",
    "LossContext",
    "MiscData",
    "ModelError",
    "Network",
    "NetworkSpec",
    "Prediction",
    "TensorBatch",
    "Truth",
    "add_scalar",
    "at_labels",
    "concentration",
    "dropout",
    "label_indices",
    "mean_and_variance",
    "mean_angle",
    "read_columns",
    "read_table",
    "uses_labels",
    "weighted_mean",
]
