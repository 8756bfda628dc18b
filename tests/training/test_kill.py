"""`kill -9` at random moments of training and saving: only the last few iterations are lost."""

from pathlib import Path

from killed_training import differences, train_and_kill
from small_run import ON_CPU, make_small_run
from tiny_network import tiny

from dnn_reco.commands.trafo import run_trafo

SAVE_FREQUENCY = 3


def test_killed_twelve_times(tmp_path: Path) -> None:
    run = make_small_run(
        tmp_path, 40, **tiny(), validation_frequency=1, save_frequency=SAVE_FREQUENCY, ema_decay=0.9
    )
    run_trafo(run.config(), ON_CPU, overwrite=False)
    kept = 0
    for kill in train_and_kill(run, 12, seed=1):
        assert kill.kept >= kept
        assert kill.reached - kill.kept <= SAVE_FREQUENCY
        kept = kill.kept
    assert kept > 3 * SAVE_FREQUENCY  # it came forward in spite of all
    assert differences(run, kept + 2) == []
    assert not list(run.checkpoints.glob(".tmp-*"))
