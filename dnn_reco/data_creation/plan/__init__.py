"""What a creation of training data consists of: from a config or options to a list of files."""

from dnn_reco.data_creation.plan.direct import DirectOptions, plan_from_options
from dnn_reco.data_creation.plan.load import load_plan
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
    "CreationPlan",
    "DirectOptions",
    "Outputs",
    "PlannedFile",
    "Segment",
    "SkippedRun",
    "load_plan",
    "plan_from_options",
]
