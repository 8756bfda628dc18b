"""Early stopping: a training ends when the validation loss has not improved for long enough."""

from __future__ import annotations

from dnn_reco.checkpoint_file import BestCheckpoint


def is_out_of_patience(best: BestCheckpoint | None, patience: int | None) -> bool:
    """Whether so many evaluations of the validation set brought no better loss."""
    return best is not None and patience is not None and best.evaluations_since >= patience


def early_stopping_reason(best: BestCheckpoint) -> str:
    """Why training ends before the last iteration."""
    return (
        f"the last {best.evaluations_since} evaluations of the validation set did not improve on "
        f"the loss after {best.iterations} iterations (early_stopping_patience)."
    )
