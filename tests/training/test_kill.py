"""`kill -9` at random moments of training and saving: only the last few iterations are lost."""

from pathlib import Path
from typing import Any

import pytest
from event_files import random_events, write_events
from killed_training import NEVER, differences, train_and_kill
from small_run import ON_CPU, make_small_run
from tiny_network import tiny

from dnn_reco.commands.trafo import run_trafo

SAVE_FREQUENCY = 3


def stages(folder: Path) -> dict[str, Any]:
    """A short stage with events of its own, in which a part is frozen, and one without end."""
    write_events(folder / "other.hdf5", random_events(7, 30, num_bins=3, run=7))
    adam = {
        "optimizer": "Adam",
        "optimizer_settings": {"learning_rate": 0.01},
        "loss_class": "dnn_reco.modules.loss.default_loss.mse",
    }
    first = {"model_optimizer_dict": {"adam": {**adam, "learning_rate_factors": {"unc": 0}}}}
    return {
        "num_training_iterations": None,
        "training_stages": [
            {"num_training_iterations": 4, "training_data_file": f"{folder}/other.hdf5", **first},
            {"num_training_iterations": NEVER},
        ],
    }


@pytest.mark.parametrize("kills", [3, pytest.param(12, marks=pytest.mark.long)])
@pytest.mark.parametrize("in_stages", [False, True])
def test_killed_again_and_again(tmp_path: Path, kills: int, in_stages: bool) -> None:
    changes: dict[str, Any] = {} if not in_stages else stages(tmp_path)
    run = make_small_run(
        tmp_path,
        40,
        **tiny(),
        **changes,
        validation_frequency=1,
        save_frequency=SAVE_FREQUENCY,
        ema_decay=0.9,
    )
    run_trafo(run.config(), ON_CPU, overwrite=False)
    kept = 0
    for kill in train_and_kill(run, kills, seed=1):
        assert kill.kept >= kept
        assert kill.reached - kill.kept <= SAVE_FREQUENCY
        kept = kill.kept
    assert kept > kills // 4 * SAVE_FREQUENCY  # it came forward in spite of all
    assert differences(run, kept + 2) == []
    assert not list(run.checkpoints.glob(".tmp-*"))
