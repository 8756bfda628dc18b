"""What a report of an evaluation is made of, besides the predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dnn_reco.evaluation.comparison import Comparison
from dnn_reco.evaluation.comparison_report import TrainingCost
from dnn_reco.evaluation.held_out_events import HeldOutFiles
from dnn_reco.evaluation.reconstruction import Evaluation
from dnn_reco.evaluation.robustness import Matrix


@dataclass(frozen=True)
class Origin:
    """Where a reconstruction comes from.

    Attributes
    ----------
    source
        Its config files or model folder.
    cost
        What it took to train it.
    config
        The config of its training, as YAML.
    metrics
        What its training measured, one mapping for each validation, as in ``metrics.jsonl``; empty:
        it is not known.
    events_per_second
        How fast it reconstructed the held-out events, hits read from disk; None: not measured.
    """

    source: str
    cost: TrainingCost
    config: str = ""
    metrics: Sequence[Mapping[str, Any]] = ()
    events_per_second: float | None = None


@dataclass(frozen=True)
class ReportFacts:
    """What a report of an evaluation is made of.

    Attributes
    ----------
    evaluation
        The events and their reconstructions.
    comparison
        The reconstructions side by side, by event type and energy.
    files
        Where the events come from.
    origins
        Where the reconstructions come from, by name.
    software
        Versions, machine and command (:func:`dnn_reco.provenance.software_record`).
    pictures
        Displays of some of the worst events, as PNG, by number of the event.
    robustness
        Figures of merit by change of the hits, of each model that was tried.
    """

    evaluation: Evaluation
    comparison: Comparison
    files: HeldOutFiles
    origins: Mapping[str, Origin]
    software: Mapping[str, Any]
    pictures: Mapping[int, bytes] = field(default_factory=dict)
    robustness: Mapping[str, Matrix] = field(default_factory=dict)
