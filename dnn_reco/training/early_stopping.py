"""Early stopping: a training ends when the validation loss has not improved for long enough."""

from __future__ import annotations

from dataclasses import replace

from dnn_reco.checkpoint_file import BestCheckpoint, Checkpoint


def counting_from(checkpoint: Checkpoint, stage_begin: int) -> Checkpoint:
    """The checkpoint, without the evaluations of an earlier stage if a stage begins with it.

    Each stage has its own patience. The best loss is that of the whole training.

    Parameters
    ----------
    checkpoint
        What a stage resumes from.
    stage_begin
        Iterations done when the stage begins.
    """
    progress = checkpoint.progress
    if progress.best is None or progress.iterations != stage_begin:
        return checkpoint
    best = replace(progress.best, evaluations_since=0)
    return replace(checkpoint, progress=replace(progress, best=best))


def is_out_of_patience(best: BestCheckpoint | None, patience: int | None) -> bool:
    """Whether so many evaluations of the validation set brought no better loss."""
    return best is not None and patience is not None and best.evaluations_since >= patience


def early_stopping_reason(best: BestCheckpoint) -> str:
    """Why training ends before the last iteration."""
    return (
        f"the last {best.evaluations_since} evaluations of the validation set did not improve on "
        f"the loss after {best.iterations} iterations (early_stopping_patience)."
    )
