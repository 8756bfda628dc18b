"""Event weights in training: each event keeps its own, and nonsense is told."""

from pathlib import Path
from typing import Any

import functions_of_a_user
import numpy as np
import pytest
import torch
from event_files import random_events
from small_run import ON_CPU, SmallRun, make_small_run

from dnn_reco.checkpoint_file import load_latest
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train
from dnn_reco.data.build import open_events
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.loader import PrefetchLoader, read_tensors
from dnn_reco.data.sampling import EventOrder
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.event_sources import event_store
from dnn_reco.modules.data.event_weights.event_weights import event_selection_weight
from dnn_reco.training.event_weights import EventWeights

WEIGHTS = "dnn_reco.modules.data.event_weights.event_weights"
MISC = {"misc_load_dict": {"MCPrimary": ["energy", "pdg_encoding"]}}
SELECTION = {
    **MISC,
    "event_weight_class": f"{WEIGHTS}.event_selection_weight",
    "event_weights_nugen_keys": ["MCPrimary_energy"],
    "event_weights_num_nugen_files": 1e10,
}


@pytest.fixture
def run(tmp_path: Path) -> SmallRun:
    return make_small_run(
        tmp_path, num_training_iterations=12, validation_frequency=5, my_own_key=5, **MISC
    )


def train(run: SmallRun, **overrides: Any) -> dict[str, torch.Tensor]:
    """Train again on one thread; returns the state at the end."""
    if not Path(run.config().trafo.trafo_model_path).exists():
        run_trafo(run.config(), ON_CPU, overwrite=False)
    assert run_train(run.config(**overrides), ON_CPU) == 0
    checkpoint = load_latest(run.checkpoints)
    assert checkpoint is not None
    return dict(checkpoint.tensors)


def adam(loss: str) -> dict[str, Any]:
    return {"adam": {"optimizer_settings": {"learning_rate": 0.01}, "loss_class": loss}}


def events_of(run: SmallRun) -> EventDataset:
    return open_events(event_store(run.config(), None), [run.folder / "train_0.hdf5"], 1)


def test_every_event_has_its_own_weight_in_training_and_printed_metrics(
    run: SmallRun, capsys: pytest.CaptureFixture[str]
) -> None:
    """A loss function of the user fails unless the weights are those of the events."""
    train(
        run,
        event_weight_class="functions_of_a_user.energy_as_weight",
        model_optimizer_dict=adam("functions_of_a_user.loss_that_checks_weights"),
    )
    assert capsys.readouterr().out.count("[Validation]") == 3
    assert "VertexX" in functions_of_a_user.seen["labels"]
    assert functions_of_a_user.seen["misc"] == ("MCPrimary_energy", "MCPrimary_pdg_encoding")
    assert functions_of_a_user.seen["config"]["my_own_key"] == 5


def test_equal_weights_are_no_weights(run: SmallRun) -> None:
    plain = train(run)
    weighted = train(
        run, event_weight_class="functions_of_a_user.same_weights", model_restore_model=False
    )
    for name, tensor in plain.items():
        torch.testing.assert_close(weighted[name], tensor, rtol=1e-3, atol=1e-5)


def test_weights_change_the_training_which_goes_on_exactly(run: SmallRun) -> None:
    plain = train(run)
    whole = train(run, **SELECTION, model_restore_model=False)
    assert not torch.equal(plain["network/fc.0.weight"], whole["network/fc.0.weight"])
    train(run, **SELECTION, model_restore_model=False, num_training_iterations=7)
    continued = train(run, **SELECTION)
    assert whole.keys() == continued.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, continued[name]), name


def test_weights_of_batches_read_ahead(run: SmallRun) -> None:
    """Primary energies over the number of files, times the seconds of a year."""
    events = events_of(run)
    config = run.config(**SELECTION).plugin_view()
    weigh = EventWeights(event_selection_weight, "name", config, events.names)
    order = EventOrder(events.events_per_shard, seed=1, stream="training")
    energy = random_events(0, 60, num_bins=3).primary["energy"]
    with PrefetchLoader(events, order.batches(3, 8), weight_function=weigh) as batches:
        batch = next(iter(batches))
    assert batch.event_weights is not None
    assert batch.event_weights.dtype == batch.labels.dtype
    expected = energy[order.batch(3, 8)] * 31536000 / 1e10
    np.testing.assert_allclose(batch.event_weights[:, 0], expected, rtol=1e-6)
    assert read_tensors(events, order, 3, 8).event_weights is None


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("no_weights", r"gives all 60 events of a batch the weight 0.*with a filter"),
        ("negative_weight", r"1 of 60 .* negative; the first is -3.0 for Run 0, Event 2, SubEvent"),
        ("infinite_weight", r"not a finite number; the first is inf for Run 0, Event 1,"),
        (
            "flat_weights",
            r"of shape \[60, 1\] for 60 events, but returned a Tensor of shape \[60\]",
        ),
        ("numbers", "returned a list"),
        (
            "broken_weight",
            r"failed for a batch: ZeroDivisionError: no files \(line \d+ of .*user.py",
        ),
    ],
)
def test_weights_that_cannot_be_used(run: SmallRun, function: str, message: str) -> None:
    events = events_of(run)
    name = f"functions_of_a_user.{function}"
    weigh = EventWeights(getattr(functions_of_a_user, function), name, {}, events.names)
    with pytest.raises(DataError, match=message) as error:
        weigh(events.read(np.arange(60)))
    assert f"{name} (event_weight_class)" in str(error.value)


def test_misc_values_that_are_not_there_make_no_weight(run: SmallRun) -> None:
    """A missing misc value drops no event; its weight must not slip through."""
    events = events_of(run)
    read = events.read(np.arange(60))
    read.misc[33, 0] = np.nan
    config = run.config(**SELECTION).plugin_view()
    weigh = EventWeights(event_selection_weight, "name", config, events.names)
    with pytest.raises(DataError, match=r"not a finite number.*Event 33.*misc_fill_values"):
        weigh(read)


def test_what_goes_wrong_while_reading_ahead_ends_the_training(run: SmallRun) -> None:
    """(Weights of the validation set are asked for before.)"""
    no_set = {"validation_events": 0}
    with pytest.raises(DataError, match="all 8 events of a batch the weight 0"):
        train(run, event_weight_class="functions_of_a_user.no_weights", **no_set)
    with pytest.raises(ConfigError, match=r"'weights_astro'.*MCPrimary_energy"):
        train(run, **SELECTION | {"event_weights_nugen_keys": ["weights_astro"]}, **no_set)
    assert load_latest(run.checkpoints) is None
