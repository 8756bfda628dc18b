"""Training stages: parts of a training with different settings (`training_stages`)."""

from typing import Any

from dnn_reco.config.legacy import CLASSES
from dnn_reco.config.schema import (
    DataFilesGroup,
    DataHandlerGroup,
    FilterGroup,
    MiscGroup,
    TrafoGroup,
)
from dnn_reco.config.sources import RawConfig, locate

STAGES = "training_stages"
ITERATIONS = "num_training_iterations"

TRAINING_FILES = "training_data_file"
"""The only list of files that a stage may replace: validation and the transformation model, fitted
once, belong to the whole training."""

_DATA_GROUPS = (DataFilesGroup, DataHandlerGroup, MiscGroup, FilterGroup, TrafoGroup)
# Keys that must be the same for the whole training.
_NOT_IN_STAGES = {
    *(key for group in _DATA_GROUPS for key in group.model_fields if key != TRAINING_FILES),
    *("unique_name", "log_path", "data_cache_dir", "float_precision", "seed"),
    *("model_class", CLASSES["model_class"].file, CLASSES["model_class"].name),
    *("model_checkpoint_path", "model_restore_model", "model_save_model", STAGES),
    "model_initial_weights",
}


def wrong_stages(raw: RawConfig) -> list[str]:
    """Messages for wrong stages of a config, with file and line."""
    stages = raw.values[STAGES]
    where = locate(raw.locations, (STAGES,))
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
        return [
            f"{where}: '{STAGES}' is not a list of mappings; give one mapping per stage, with "
            f"'{ITERATIONS}' and the keys that change in it"
        ]
    problems = []
    if raw.values.get(ITERATIONS) is not None:
        problems.append(
            f"{locate(raw.locations, (ITERATIONS,))}: '{ITERATIONS}' is also set outside of "
            f"'{STAGES}' ({where}): with stages, set it only in each stage"
        )
    for number, stage in enumerate(stages):
        problems += _wrong_stage(raw, number, stage)
    return problems


def _wrong_stage(raw: RawConfig, number: int, stage: dict[str, Any]) -> list[str]:
    where = locate(raw.locations, (STAGES, number))
    iterations = stage.get(ITERATIONS)
    problems = [
        f"{locate(raw.locations, (STAGES, number, key))}: '{key}' cannot change between "
        f"'{STAGES}': it belongs to the whole training"
        for key in stage
        if key in _NOT_IN_STAGES
    ]
    if not isinstance(iterations, int) or isinstance(iterations, bool) or iterations < 1:
        problems.append(
            f"{where}: stage {number + 1} of '{STAGES}' needs '{ITERATIONS}', the number of its "
            f"iterations: a whole number > 0, not {iterations!r}"
        )
    return problems
