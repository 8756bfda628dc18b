"""What losses compare, for some events: it can be cut to a part of them, and joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

from dnn_reco.modules.loss.interface import LossContext, Truth
from dnn_reco.nn.interface import Prediction
from dnn_reco.nn.misc_data import joined
from dnn_reco.training.label_weights import NORMAL_MAD

_Tensors = TypeVar("_Tensors", Prediction, Truth)


@dataclass(frozen=True)
class LossInputs:
    """Arguments of a loss function: labels of weight 0 are blanked.

    Attributes
    ----------
    prediction, truth
        Prediction and truth of B events; all tensors [B, L].
    context
        What else losses may need, among it the transformed residual [B, L].
    """

    prediction: Prediction
    truth: Truth
    context: LossContext

    def select(self, chosen: Tensor) -> LossInputs:
        """The same for a part of the events, chosen by a mask [B]."""
        weights, residual = self.context.event_weights, self.context.residual_trafo
        misc = self.context.misc
        return LossInputs(
            _select(self.prediction, chosen),
            _select(self.truth, chosen),
            replace(
                self.context,
                residual_trafo=residual[chosen],
                event_weights=None if weights is None else weights[chosen],
                misc=None if misc is None else misc.select(chosen),
            ),
        )


def concatenate(parts: Sequence[LossInputs]) -> LossInputs:
    """The inputs of all events together; the Tukey scale is that of the start of a training."""
    contexts = [part.context for part in parts]
    weights = [c.event_weights for c in contexts if c.event_weights is not None]
    misc = [c.misc for c in contexts if c.misc is not None]
    return LossInputs(
        _concatenate([part.prediction for part in parts]),
        _concatenate([part.truth for part in parts]),
        replace(
            contexts[0],
            residual_trafo=torch.cat([context.residual_trafo for context in contexts]),
            event_weights=torch.cat(weights) if weights else None,
            misc=joined(misc) if misc else None,
            tukey_scale=torch.full_like(contexts[0].tukey_scale, NORMAL_MAD),
        ),
    )


def _select(values: _Tensors, chosen: Tensor) -> _Tensors:
    return type(values)(*(getattr(values, field.name)[chosen] for field in fields(values)))


def _concatenate(parts: Sequence[_Tensors]) -> _Tensors:
    names = [field.name for field in fields(parts[0])]
    return type(parts[0])(*(torch.cat([getattr(p, name) for p in parts]) for name in names))
