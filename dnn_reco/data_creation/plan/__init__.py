"""What a creation of training data consists of: from a config or options to a list of files."""

from dnn_reco.data_creation.plan.direct import DirectOptions, direct_segments, plan_from_options
from dnn_reco.data_creation.plan.load import ConfiguredSteps, load_plan, load_steps
from dnn_reco.data_creation.plan.records import (
    CREATE_DATA,
    CreationPlan,
    Outputs,
    PlannedFile,
    Segment,
    SkippedRun,
)

__all__ = [
    "CREATE_DATA",
    "ConfiguredSteps",
    "CreationPlan",
    "DirectOptions",
    "Outputs",
    "PlannedFile",
    "Segment",
    "SkippedRun",
    "direct_segments",
    "load_plan",
    "load_steps",
    "plan_from_options",
]
