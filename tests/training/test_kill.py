"""`kill -9` at random moments of training and saving: only the last few iterations are lost."""

from pathlib import Path

import pytest
from killed_training import differences, train_and_kill
from small_run import ON_CPU, make_small_run
from tiny_network import tiny

from dnn_reco.commands.trafo import run_trafo

SAVE_FREQUENCY = 3


@pytest.mark.parametrize("kills", [3, pytest.param(12, marks=pytest.mark.long)])
def test_killed_again_and_again(tmp_path: Path, kills: int) -> None:
    run = make_small_run(
        tmp_path, 40, **tiny(), validation_frequency=1, save_frequency=SAVE_FREQUENCY, ema_decay=0.9
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
