"""Which evaluation of the validation set was the best, and how long ago."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class BestCheckpoint:
    """The smallest loss on the validation set; kept in checkpoints.

    Attributes
    ----------
    measure
        Digest of what was measured: only losses of one measure can be compared.
    loss
        The smallest loss; None as long as there was no finite one.
    iterations
        Iterations that were done when it was found.
    evaluations_since
        Evaluations since then, none of them better.
    """

    measure: str
    loss: float | None = None
    iterations: int = 0
    evaluations_since: int = 0

    def after(self, loss: float, iterations: int) -> BestCheckpoint:
        """How it stands after one more evaluation; a loss that is no number is never better."""
        if math.isfinite(loss) and (self.loss is None or loss < self.loss):
            return BestCheckpoint(self.measure, loss, iterations)
        return replace(self, evaluations_since=self.evaluations_since + 1)

    @classmethod
    def read(cls, description: Mapping[str, Any] | None) -> BestCheckpoint | None:
        """What `dataclasses.asdict` made; None of older checkpoints, which do not have it."""
        if description is None:
            return None
        loss = description["loss"]
        return cls(
            measure=str(description["measure"]),
            loss=None if loss is None else float(loss),
            iterations=int(description["iterations"]),
            evaluations_since=int(description["evaluations_since"]),
        )
