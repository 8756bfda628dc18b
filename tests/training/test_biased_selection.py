"""Biased selection in training: what is seen, with which weights, and that it goes on exactly."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import functions_of_a_user
import numpy as np
import pytest
import torch
from event_files import random_events, write_events
from made_up_spec import made_up_spec
from numpy.typing import NDArray
from safetensors.torch import load_file
from small_run import MODEL_CLASS, MODEL_KWARGS, ON_CPU, SmallRun, make_small_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_network import tiny

from dnn_reco.checkpoint_file import load_latest
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train
from dnn_reco.data.build import open_events
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.hit_batch import HitBatch, TensorBatch
from dnn_reco.data.loader import to_tensors
from dnn_reco.data.sampling import EventOrder
from dnn_reco.data.selection import Residuals, SelectionCriterion
from dnn_reco.event_sources import event_store
from dnn_reco.nn.from_config import make_network, network_spec
from dnn_reco.nn.interface import LabelKeys, Prediction
from dnn_reco.nn.label_transform import LabelTransform
from dnn_reco.training.biased_selection import BiasedSelection, SelectionSettings, Snapshot
from dnn_reco.transform import load_transformation

NUM_EVENTS = 1000  # of each of the two training files
RARE, RANK = "VertexX", "VertexY"  # labels: 1 for one event in a hundred; 0 … 1999
SELECTION = {
    "biased_fraction": 0.6,
    "cut_abs_diff_trafo": {"EnergyVisible": 1.5},
    "cut_unc_weighted_diff_trafo": {"PrimaryAzimuth": 1.5},
    "true_minus_pred_greater": {"EnergyVisible": 700.0},
    "reload_frequency": 2,
}
POOLS = {"num_add_files": 0, "num_repetitions": 1}


# ---- Which events, from labels alone and from a network that is easy to foresee


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> EventDataset:
    """2,000 events, of which every hundredth is rare."""
    run = make_small_run(tmp_path_factory.mktemp("many"), num_events=2)
    files = []
    for number in range(2):
        events = random_events(number, NUM_EVENTS, num_bins=3, mean_hits=2, run=number)
        place = np.arange(NUM_EVENTS)
        labels = {
            **events.labels,
            RARE: (place % 100 == 50).astype(float),
            RANK: place + float(NUM_EVENTS * number),
        }
        path = run.folder / f"many_{number}.hdf5"
        files.append(write_events(path, replace(events, labels=labels)))
    return open_events(event_store(run.config(), None), files, 1)


def column(events: EventDataset, name: str) -> int:
    return events.names.labels.index(name)


def selection(
    events: EventDataset,
    key: str,
    label: str,
    value: float,
    snapshot: Snapshot | None = None,
    batch_size: int = 32,
    **plan: Any,
) -> BiasedSelection:
    defaults: dict[str, Any] = {
        "criteria": (SelectionCriterion(key, column(events, label), value),),
        "fraction": 0.5,
        "max_imbalance": 100,
        "pool_size": 500,
        "num_repetitions": 1,
        "reload_frequency": 2,
        "prediction_batch_size": 64,
    }
    order = EventOrder(events.events_per_shard, 1, "biased selection")
    return BiasedSelection(
        SelectionSettings(**(defaults | plan)), events, order, batch_size, snapshot
    )


def trained(source: BiasedSelection, num_batches: int) -> NDArray[np.int64]:
    """Event numbers of the next batches [num_batches, batch_size], as training takes them."""
    batches = []
    for numbers in islice(source.batches(), num_batches):
        batches.append(numbers)
        source.batch_is_trained()
    return np.array(batches)


@pytest.mark.parametrize("pool_size", [100, 500, 2000])
def test_a_rare_event_reaches_its_fraction(many: EventDataset, pool_size: int) -> None:
    source = selection(many, "label_equal", RARE, 1.0, pool_size=pool_size)
    events = trained(source, 40).ravel()
    is_rare = many.read_labels(events)[:, column(many, RARE)] == 1
    assert is_rare.mean() == pytest.approx(0.5, abs=0.08)  # some may run ahead
    assert np.unique(events[is_rare]).size == 20  # all there are


def test_every_event_is_offered_once_an_epoch_and_used_so_often(many: EventDataset) -> None:
    """All events of a pool are interesting: all are taken, pool by pool."""
    source = selection(
        many, "label_greater", RANK, -1.0, batch_size=100, pool_size=500, num_repetitions=3
    )
    pools = trained(source, 4 * 15).reshape(4, 3, 500)
    for pool in pools:
        for repetition in pool[1:]:
            assert np.array_equal(np.sort(repetition), np.sort(pool[0]))
            assert not np.array_equal(repetition, pool[0])
    assert np.array_equal(np.sort(pools[:, 0].ravel()), np.arange(2000))


def test_all_random_events_come_equally_often(many: EventDataset) -> None:
    source = selection(many, "label_equal", RARE, 1.0, fraction=0.05, batch_size=400)
    events = trained(source, 400).ravel()
    counts = np.bincount(events, minlength=2000)
    is_rare = many.read_labels(np.arange(2000))[:, column(many, RARE)] == 1
    assert np.ptp(counts[is_rare]) <= 1
    expected = counts[~is_rare].mean()
    assert expected == pytest.approx(counts[is_rare].mean() * 19 * 20 / 1980, rel=0.01)
    chance = expected / counts[is_rare].mean()
    chi_square = ((counts[~is_rare] - expected) ** 2 / (expected * (1 - chance))).sum()
    assert abs(chi_square - 1979) < 5 * np.sqrt(2 * 1979)


def test_fewer_events_than_a_batch(tmp_path: Path) -> None:
    run = make_small_run(tmp_path, num_events=5)
    store = event_store(run.config(), None)
    events = open_events(store, [tmp_path / "train_0.hdf5"], 1)
    source = selection(events, "label_greater", "EnergyVisible", 0.0, pool_size=5)
    batches = trained(source, 20)
    assert batches.shape == (20, 32)
    assert np.ptp(np.bincount(batches.ravel(), minlength=5)) <= 1


def test_more_interesting_events_than_asked_for(
    many: EventDataset, caplog: pytest.LogCaptureFixture
) -> None:
    """All are taken, and that is told once; not where all that is asked for is all."""
    with caplog.at_level("INFO", "dnn_reco"):
        trained(selection(many, "label_greater", RANK, -1.0, fraction=0.25), 40)
        (message,) = caplog.messages
        assert message == (
            "nn_biased_selection: 100% of the available events are interesting, more than the "
            "biased_fraction of 25%: all events are used."
        )
        caplog.clear()
        trained(selection(many, "label_greater", RANK, -1.0, fraction=1.0), 40)
        trained(selection(many, "label_equal", RARE, 1.0), 40)
        assert caplog.messages == []


@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_no_interesting_event_at_all(
    many: EventDataset, caplog: pytest.LogCaptureFixture, fraction: float
) -> None:
    """It goes on with all events as they are, and says so once."""
    source = selection(many, "label_greater", RANK, 1e9, fraction=fraction)
    events = trained(source, 400).ravel()
    assert len(np.unique(events)) == 2000
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "none of the last 2,000 available events is interesting" in record.message
    assert "num_add_files" in record.message
    assert source.interesting_share == 0


def test_interesting_events_that_come_back_are_preferred_again(many: EventDataset) -> None:
    """A stretch without any does not count as random events running ahead."""
    source = selection(many, "label_less", RANK, 0.0)
    trained(source, 300)
    balance = source.balance
    source.settings = replace(
        source.settings, criteria=(SelectionCriterion("label_equal", column(many, RARE), 1.0),)
    )
    trained(source, 70)  # what was chosen before
    events = trained(source, 40).ravel()
    is_rare = many.read_labels(events)[:, column(many, RARE)] == 1
    assert balance <= 101
    assert is_rare.mean() > 0.4


class Level(torch.nn.Module):
    """A network that says the same of every event: its one weight."""

    batch_sizes: ClassVar[list[int]] = []

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.level = torch.nn.Parameter(torch.zeros(()))
        self.num_labels = num_labels

    def forward(self, hits: HitBatch) -> Prediction:
        assert not self.training  # the one in training is left alone
        self.batch_sizes.append(hits.num_events)
        said = self.level.expand(hits.num_events, self.num_labels)
        return Prediction(said, torch.ones_like(said), said, torch.ones_like(said), said)

    def parameter_groups(self) -> dict[str, list[torch.nn.Parameter]]:
        return {"pred": [self.level], "unc": []}


def unscaled(events: EventDataset) -> LabelTransform:
    """A transformation of labels that leaves them as they are."""
    names = events.names.labels
    moments = np.zeros(len(names)), np.ones(len(names))
    spec = made_up_spec(names, LabelKeys(), *moments, log=None, normalize=False)
    return LabelTransform(spec.transformation)


def level_selection(events: EventDataset, network: Level, **plan: Any) -> BiasedSelection:
    """Interesting is what has a higher rank than the network's weight."""
    transform = unscaled(events)
    snapshot = Snapshot(network, transform, transform.azimuth_period(events.names.labels, None))
    return selection(
        events, "true_minus_pred_greater", RANK, 0.0, snapshot, fraction=1.0, batch_size=50, **plan
    )


def while_the_weight_rises(
    source: BiasedSelection, network: Level, num_batches: int
) -> list[NDArray[np.int64]]:
    """Events of the next batches; each step of training raises the network's weight by 10."""
    batches = []
    for numbers in islice(source.batches(), num_batches):
        batches.append(numbers)
        with torch.no_grad():
            network.level += 10
        source.batch_is_trained()
    return batches


def test_marks_are_made_with_the_weights_of_the_last_refresh(many: EventDataset) -> None:
    """Pools of 2,000 events hold all ranks: those above the weight at the refresh are taken.

    Pools 0 and 1 give 1,999 events each (weight 0), so that batch 79 of 50 events needs pool 2: its
    weight is 790 then, and 1,209 events have a higher rank. Batch 128 needs pool 4.
    """
    network = Level(len(many.names.labels))
    source = level_selection(many, network, pool_size=2000)
    events = np.concatenate(while_the_weight_rises(source, network, 140))
    ranks = many.read_labels(events)[:, column(many, RANK)]
    pools = np.split(ranks, np.cumsum([1999, 1999, 1209, 1209]))
    for pool, weight in zip(pools, (0, 0, 790, 790), strict=False):
        assert np.array_equal(np.sort(pool), np.arange(weight + 1, 2000))
    assert pools[4].min() > 1280


def test_without_a_reload_frequency_the_weights_of_the_beginning_stay(many: EventDataset) -> None:
    network = Level(len(many.names.labels))
    with torch.no_grad():
        network.level += 1500
    source = level_selection(many, network, pool_size=2000, reload_frequency=None)
    for batches in (while_the_weight_rises(source, network, 49) for _ in range(2)):
        ranks = many.read_labels(np.concatenate(batches))[:, column(many, RANK)]
        assert ranks.min() == 1501
    state = source.state()
    again = level_selection(many, network, pool_size=2000, reload_frequency=None)
    again.restore(state)
    assert np.array_equal(trained(again, 100), trained(source, 100))


@pytest.mark.parametrize("stop_after", [1, 39, 40, 78, 79, 80, 128])
def test_a_selection_goes_on_as_if_never_stopped(many: EventDataset, stop_after: int) -> None:
    """Before, at and after the batches that need another pool or other weights."""
    whole_network, network = Level(len(many.names.labels)), Level(len(many.names.labels))
    whole = level_selection(many, whole_network, pool_size=2000)
    expected = while_the_weight_rises(whole, whole_network, 200)
    source = level_selection(many, network, pool_size=2000)
    before = while_the_weight_rises(source, network, stop_after)
    state = source.state()
    while_the_weight_rises(source, network, 30)  # goes on, and is killed
    with torch.no_grad():
        network.level.fill_(10.0 * stop_after)
    again = level_selection(many, network, pool_size=2000)
    again.restore(state)
    after = while_the_weight_rises(again, network, 200 - stop_after)
    assert np.array_equal(np.array(before + after), np.array(expected))


def test_it_remembers_how_long_nothing_was_interesting(many: EventDataset) -> None:
    """One random event from each of the first nine pools, then all events of each pool."""
    plan: dict[str, Any] = {"batch_size": 1, "pool_size": 100}
    whole = selection(many, "label_greater", RANK, 1e9, **plan)
    expected = trained(whole, 409)
    source = selection(many, "label_greater", RANK, 1e9, **plan)
    trained(source, 5)
    again = selection(many, "label_greater", RANK, 1e9, **plan)
    again.restore(source.state())
    assert np.array_equal(trained(again, 404), expected[5:])
    order = EventOrder(many.events_per_shard, 1, "biased selection")
    for number, pool in enumerate(np.split(expected.ravel(), [*range(1, 10), 109, 209, 309])):
        offered = order.batch(number, 100)
        assert np.isin(pool, offered).all()
        assert len(np.unique(pool)) == (1 if number < 9 else 100)


def test_the_batch_size_of_predictions(many: EventDataset) -> None:
    network = Level(len(many.names.labels))
    source = level_selection(many, network, pool_size=500, prediction_batch_size=120)
    Level.batch_sizes.clear()
    trained(source, 1)
    assert Level.batch_sizes == [120, 120, 120, 120, 20]


def test_another_number_of_events_begins_anew(
    many: EventDataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Numbers of events mean nothing in other data."""
    run = make_small_run(tmp_path, num_events=30)
    store = event_store(run.config(), None)
    few = open_events(store, [tmp_path / "train_0.hdf5"], 1)
    source = selection(many, "label_greater", RANK, -1.0)
    trained(source, 3)
    other = selection(few, "label_greater", "EnergyVisible", 0.0, pool_size=30)
    expected = trained(selection(few, "label_greater", "EnergyVisible", 0.0, pool_size=30), 5)
    other.restore(source.state())
    assert np.array_equal(trained(other, 5), expected)
    assert "there are 30 training events now, but there were 2000" in caplog.text


# ---- Whole trainings


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """Data, transformation model and event store, to be shared by runs with paths of their own."""
    run = make_small_run(
        tmp_path_factory.mktemp("prepared"),
        **tiny(),
        nn_biased_selection=SELECTION,
        num_training_iterations=40,
        save_frequency=1,
        model_checkpoint_manager_kwargs={"max_to_keep": None},
        **POOLS,
    )
    run_trafo(run.config(), ON_CPU, overwrite=False)
    return run


def run_of(prepared: SmallRun, folder: Path) -> SmallRun:
    """A run on the prepared data that writes to a folder of its own."""
    run = SmallRun(folder)
    text = prepared.config_file.read_text()
    for name in ("checkpoints", "logs"):
        text = text.replace(str(prepared.folder / name), str(folder / name))
    run.config_file.write_text(text)
    return run


def train(run: SmallRun, **overrides: Any) -> dict[str, torch.Tensor]:
    """Train on one thread; returns the state at the end."""
    assert run_train(run.config(**overrides), ON_CPU) == 0
    return final_state(run)


def final_state(run: SmallRun) -> dict[str, torch.Tensor]:
    checkpoint = load_latest(run.checkpoints)
    assert checkpoint is not None
    return dict(checkpoint.tensors)


def assert_same_state(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


@pytest.fixture(scope="module")
def whole(prepared: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A run that was not interrupted, with a checkpoint for each iteration."""
    run = run_of(prepared, tmp_path_factory.mktemp("whole"))
    train(run)
    return run


def of_selection(run: SmallRun, name: str) -> list[int]:
    """A number of the selection's state in the checkpoint of each iteration, 1 … 40."""
    files = [run.checkpoints / f"checkpoint-{i:08d}" / "state.safetensors" for i in range(1, 41)]
    return [int(load_file(file)[f"biased_selection/{name}"]) for file in files]


def test_the_run_meets_all_that_the_selection_can_do(whole: SmallRun) -> None:
    """What the tests below rely on: several pools and refreshes, and a choice."""
    pools, snapshots = of_selection(whole, "pool"), of_selection(whole, "snapshot_pool")
    assert len(set(pools)) >= 4
    assert len(set(snapshots)) >= 3
    state = final_state(whole)
    start = "biased_selection/snapshot/"
    different = [
        name
        for name, tensor in state.items()
        if name.startswith(start)
        and not torch.equal(tensor, state["network/" + name.removeprefix(start)])
    ]
    assert different


def test_two_runs_with_one_seed_are_identical(prepared: SmallRun, tmp_path: Path) -> None:
    """Whatever the frequencies of validating and saving, label weights aside."""
    settings = {"label_update_weights": False, "num_training_iterations": 25}
    states = []
    for name, frequencies in (("rare", (50, 60)), ("often", (1, 7))):
        (tmp_path / name).mkdir()
        run = run_of(prepared, tmp_path / name)
        validation, save = frequencies
        states.append(train(run, **settings, validation_frequency=validation, save_frequency=save))
    assert_same_state(*states)


def test_a_run_stopped_anywhere_goes_on_as_if_never_stopped(
    prepared: SmallRun, whole: SmallRun, tmp_path: Path
) -> None:
    """At the beginning, within a pool, and before, at and after a refresh of the weights."""
    snapshots = of_selection(whole, "snapshot_pool")
    refreshed = next(i for i in range(10, 39) if snapshots[i] != snapshots[i - 1]) + 1
    for stop in {1, 2, refreshed - 2, refreshed - 1, refreshed, refreshed + 1, 39}:
        (tmp_path / str(stop)).mkdir()
        run = run_of(prepared, tmp_path / str(stop))
        name = f"checkpoint-{stop:08d}"
        shutil.copytree(whole.checkpoints / name, run.checkpoints / name)
        assert_same_state(train(run, save_frequency=40), final_state(whole))


def test_a_run_killed_again_and_again_goes_on(
    prepared: SmallRun, whole: SmallRun, tmp_path: Path
) -> None:
    run = run_of(prepared, tmp_path)
    command = [sys.executable, "-m", "dnn_reco", "train", str(run.config_file), "--num_threads=1"]
    done = 0
    for wanted in (5, 20):
        process = subprocess.Popen(
            [*command, "--device=cpu"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while done < wanted and process.poll() is None:
            time.sleep(0.002)
            names = [path.name for path in run.checkpoints.glob("checkpoint-*")]
            done = max((int(name.split("-")[1]) for name in names), default=0)
        process.kill()
        process.wait()
    assert_same_state(train(run), final_state(whole))


def test_selection_changes_the_run_and_can_be_switched_off(
    prepared: SmallRun, whole: SmallRun, tmp_path: Path
) -> None:
    states = []
    for name, settings in (("none", None), ("off", {**SELECTION, "apply_biased_selection": False})):
        (tmp_path / name).mkdir()
        run = run_of(prepared, tmp_path / name)
        states.append(train(run, nn_biased_selection=settings))
    assert_same_state(*states)
    assert not any(name.startswith("biased_selection") for name in states[0])
    name = "network/prediction"
    assert not torch.equal(states[0][name], final_state(whole)[name])


def test_selection_can_be_switched_on_and_changed_later(
    prepared: SmallRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The network that marks is the one that was trained so far."""
    run = run_of(prepared, tmp_path)
    train(run, nn_biased_selection=None, num_training_iterations=5)
    network = {k: v for k, v in final_state(run).items() if k.startswith("network/")}
    with caplog.at_level("INFO", "dnn_reco"):
        by_label = train(
            run, nn_biased_selection={"label_less": {"VertexX": -100}}, num_training_iterations=5
        )
        assert "Nothing to do" in caplog.text
        train(run, num_training_iterations=6)
    assert "Biased selection begins now" in caplog.text
    assert not any(name.startswith("biased_selection") for name in by_label)
    state = final_state(run)
    for name, tensor in network.items():
        kept = state["biased_selection/snapshot/" + name.removeprefix("network/")]
        assert torch.equal(kept, tensor)
    train(run, nn_biased_selection={"label_less": {"VertexX": -100}}, num_training_iterations=9)
    assert "biased_selection/snapshot_pool" not in final_state(run)
    train(run, num_training_iterations=30)
    assert int(final_state(run)["biased_selection/snapshot_pool"]) > 0


def test_marks_are_made_without_a_trace_in_the_network(prepared: SmallRun) -> None:
    """In evaluation mode, from labels in both units; azimuth angles are compared across 2π."""
    config = prepared.config(model_class=MODEL_CLASS, model_kwargs=MODEL_KWARGS)
    transformation = load_transformation(Path(config.trafo.trafo_model_path))
    spec = network_spec(config, transformation)
    network = make_network(config, spec, torch.device("cpu"))
    transform = LabelTransform(transformation)
    period = transform.azimuth_period(spec.label_names, spec.label_keys.azimuth)
    events = open_events(event_store(config, None), [prepared.folder / "train_0.hdf5"], 1)
    batch = to_tensors(events.read(np.arange(40)))
    network.eval()
    with torch.no_grad():
        said = network(batch.hits)
    network.train()
    snapshot = Snapshot(network, transform, period)
    snapshot.refresh()
    random_state = torch.get_rng_state()
    residuals = snapshot.residuals(batch)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(module.training for module in network.modules())  # type: ignore[attr-defined]
    scale = transformation.label_std + transformation.settings.norm_constant
    difference = batch.labels.double().numpy() - said.labels.double().numpy()
    azimuth = spec.label_names.index("PrimaryAzimuth")
    turned = np.angle(np.exp(1j * difference[:, azimuth]))
    assert not np.allclose(turned, difference[:, azimuth])
    assert residuals.physical[:, azimuth].numpy() == pytest.approx(turned, abs=1e-5)
    assert residuals.trafo[:, azimuth].numpy() == pytest.approx(turned / scale[azimuth], abs=1e-5)
    energy = spec.label_names.index("EnergyVisible")
    in_logs = batch.labels[:, energy].log1p() - said.labels[:, energy].log1p()
    assert residuals.physical[:, energy].numpy() == pytest.approx(difference[:, energy], rel=1e-4)
    assert residuals.trafo[:, energy].numpy() == pytest.approx(
        (in_logs / scale[energy]).numpy(), abs=1e-4
    )
    assert torch.equal(residuals.uncertainty_trafo, said.uncertainty_trafo)


def test_event_weights_travel_with_the_events_chosen(prepared: SmallRun, tmp_path: Path) -> None:
    """A loss function of the user fails unless the weights are those of the events."""
    run = run_of(prepared, tmp_path)
    loss = {"adam": {"loss_class": "functions_of_a_user.loss_that_checks_weights"}}
    train(
        run,
        event_weight_class="functions_of_a_user.energy_as_weight",
        model_optimizer_dict=loss,
        num_training_iterations=20,
    )


def test_printed_metrics_and_validation_see_what_they_see_without_selection(
    prepared: SmallRun, tmp_path: Path
) -> None:
    seen = []
    for name, settings in (("none", None), ("biased", SELECTION)):
        (tmp_path / name).mkdir()
        functions_of_a_user.seen["evaluations"] = []
        train(
            run_of(prepared, tmp_path / name),
            nn_biased_selection=settings,
            evaluation_class="functions_of_a_user.note_evaluation",
            validation_frequency=3,
            num_training_iterations=10,
        )
        seen.append(functions_of_a_user.seen["evaluations"])
    assert len(seen[0]) == len(seen[1]) == 4
    for plain, biased in zip(*seen, strict=True):
        for number in (0, 1):
            assert torch.equal(plain[number].batch.labels, biased[number].batch.labels)


def test_tensorboard_tells_how_selection_goes(whole: SmallRun) -> None:
    log = EventAccumulator(str(whole.logs / "train"))
    log.Reload()
    for name in ("interesting_share", "share_of_time"):
        values = [point.value for point in log.Scalars(f"biased_selection/{name}")]
        assert len(values) >= 2
        assert all(0 < value < 1 for value in values)
    assert len(log.Scalars("biased_selection/balance")) == len(values)


@pytest.mark.parametrize("looks", [5, 204, 222])
def test_a_signal_stops_the_look_at_a_pool_which_is_taken_again(
    prepared: SmallRun,
    tmp_path: Path,
    looks: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A large pool must not keep the user waiting; here a batch needs several, each refreshed."""
    settings: dict[str, Any] = {
        "nn_biased_selection": {**SELECTION, "reload_frequency": 1, "max_size": 7},
        "batch_size": 150,
        "num_training_iterations": 8,
    }
    runs = []
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
        runs.append(run_of(prepared, tmp_path / name))
    train(runs[0], **settings)
    residuals, calls = Snapshot.residuals, iter(range(1, 10**6))

    def interrupt(snapshot: Snapshot, batch: TensorBatch) -> Residuals:
        call = next(calls)
        assert call <= looks
        if call == looks:
            os.kill(os.getpid(), signal.SIGINT)
        return residuals(snapshot, batch)

    with monkeypatch.context() as patched, caplog.at_level("INFO", "dnn_reco"):
        patched.setattr(Snapshot, "residuals", interrupt)
        assert run_train(runs[1].config(**settings), ON_CPU) == 0
    stopped = load_latest(runs[1].checkpoints)
    assert ("Stopped after 0 iterations, so there is nothing to save yet" in caplog.text) == (
        stopped is None
    )
    assert stopped is None or stopped.progress.iterations < 8
    assert_same_state(train(runs[1], **settings), final_state(runs[0]))
