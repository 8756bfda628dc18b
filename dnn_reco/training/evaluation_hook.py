"""The user's function that is called at each validation (`evaluation_class`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from dnn_reco.config import call_plugin, check_signature
from dnn_reco.data.records import ColumnNames
from dnn_reco.modules.evaluation.interface import EvaluationBatch, EvaluationContext
from dnn_reco.nn.interface import LabelKeys

_KEY = "evaluation_class"

Evaluate = Callable[[EvaluationBatch, EvaluationBatch, EvaluationContext], None]


@dataclass(frozen=True)
class EvaluationHook:
    """Calls an evaluation function.

    Attributes
    ----------
    function
        The function that `evaluation_class` names.
    name
        Its dotted name.
    config
        What it sees of the configuration.
    columns
        Names of labels and misc values.
    label_keys
        Names of special labels.
    """

    function: Evaluate
    name: str
    config: Mapping[str, Any]
    columns: ColumnNames
    label_keys: LabelKeys

    def __post_init__(self) -> None:
        check_signature(self.function, self.name, _KEY)

    @torch.no_grad()
    def __call__(
        self,
        iteration: int,
        train: EvaluationBatch,
        val: EvaluationBatch,
        print_line: Callable[[str], None],
        add_scalar: Callable[[str, str, float, int], None],
    ) -> None:
        """Evaluate a batch of training and one of validation events.

        Parameters
        ----------
        iteration
            Number of the iteration, from 0.
        train, val
            The batches.
        print_line
            Prints a line.
        add_scalar
            ``add_scalar(batch, tag, value, iteration)`` writes to TensorBoard.

        Raises
        ------
        DataError
            If the function fails.
        """
        context = EvaluationContext(
            iteration,
            self.columns.labels,
            self.columns.misc,
            self.label_keys,
            self.config,
            print_line,
            lambda batch, tag, value: add_scalar(batch, tag, value, iteration),
        )
        occasion = f"in iteration {iteration}"
        call_plugin(self.function, self.name, _KEY, occasion, train, val, context)
