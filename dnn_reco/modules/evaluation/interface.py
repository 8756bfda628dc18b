"""The arguments of an evaluation function.

An evaluation function is ``evaluate(train, val, context) -> None``: called at each validation,
after the printed metrics, with one batch of training and one of validation events, it may print
lines and write scalars to TensorBoard. It does not change the training.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from dnn_reco.data.hit_batch import TensorBatch
from dnn_reco.nn.interface import LabelKeys, Prediction


class EvaluationBatch(Protocol):
    """A batch of B events with the prediction of all its labels, trained or not."""

    @property
    def batch(self) -> TensorBatch:
        """Hits, true labels [B, L], misc data [B, M] and weights of the events."""

    @property
    def prediction(self) -> Prediction:
        """Predicted labels and uncertainties [B, L], in physical units and transformed."""


PredictedBatch = EvaluationBatch
"""The former name."""


@dataclass(frozen=True)
class EvaluationContext:
    """Further input of evaluation functions, in addition to the batches.

    Attributes
    ----------
    iteration
        Number of the iteration, from 0.
    label_names, misc_names
        Names of the columns of labels and misc data.
    label_keys
        Names of special labels.
    config
        The configuration.
    print_line
        Prints a line below the validation.
    add_scalar
        ``add_scalar(batch, tag, value)`` writes a scalar to TensorBoard; `batch` is "train" or
        "val".
    """

    iteration: int
    label_names: tuple[str, ...]
    misc_names: tuple[str, ...]
    label_keys: LabelKeys
    config: Mapping[str, Any]
    print_line: Callable[[str], None]
    add_scalar: Callable[[str, str, float], None]
