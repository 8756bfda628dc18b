"""Training stages: what editing the config between calls gives, wherever they are stopped."""

from pathlib import Path
from typing import Any

import pytest
import torch
from event_files import random_events, write_events
from safetensors.torch import load_file
from small_run import ON_CPU, SmallRun, make_small_run
from tiny_network import tiny

from dnn_reco.checkpoint_file import latest_iterations, load_latest
from dnn_reco.commands.export import ExportSettings, run_export
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_stages, run_train
from dnn_reco.config import load_config, load_stages
from dnn_reco.data.overlap import files_recorded
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.files import find_files

LOSSES = "dnn_reco.modules.loss.default_loss"


def optimizer(loss: str, rate: float, name: str = "adam") -> dict[str, Any]:
    return {
        name: {
            "optimizer": "Adam",
            "optimizer_settings": {"learning_rate": rate},
            "loss_class": f"{LOSSES}.{loss}",
        }
    }


FIRST = {"num_training_iterations": 4, "model_optimizer_dict": optimizer("mse", 0.01)}
SECOND = {
    "num_training_iterations": 5,
    "model_optimizer_dict": optimizer("gaussian_likelihood", 0.001),
    "label_weight_dict": {"EnergyVisible": 2.0},
}
THIRD = {
    "num_training_iterations": 3,
    "model_optimizer_dict": {
        "last": {
            "optimizer": "AdamOptimizer",
            "optimizer_settings": {"learning_rate": 0.001},
            "loss_file": "default_loss",
            "loss_name": "pull_distribution_scale",
            "vars": "unc",
        }
    },
    "batch_size": 4,
}
STAGES = {"training_stages": [FIRST, SECOND, THIRD], "num_training_iterations": None}


def prepared(folder: Path, **changes: Any) -> SmallRun:
    folder.mkdir()
    run = make_small_run(folder, **{**tiny(), **changes})
    run_trafo(load_config([run.config_file]), ON_CPU, overwrite=False)
    return run


def train_stages(run: SmallRun, **overrides: Any) -> None:
    assert run_stages(load_stages([run.config_file], overrides), ON_CPU) == 0


def state(run: SmallRun) -> dict[str, torch.Tensor]:
    checkpoint = load_latest(run.checkpoints)
    assert checkpoint is not None
    return load_file(checkpoint.path / "state.safetensors")


def assert_same_state(first: SmallRun, second: SmallRun) -> None:
    states = state(first), state(second)
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


def test_stages_are_edited_configs_and_calls(tmp_path: Path) -> None:
    staged = prepared(tmp_path / "staged", **STAGES)
    train_stages(staged)
    edited = prepared(tmp_path / "edited")
    for stage, end in ((FIRST, 4), (SECOND, 9), (THIRD, 12)):
        make_small_run(edited.folder, **tiny(), **{**stage, "num_training_iterations": end})
        run_train(load_config([edited.config_file]), ON_CPU)
    assert_same_state(staged, edited)
    for run in (staged, edited):
        steps = (run.records / "training_steps.yaml").read_text()
        assert steps == "0: 4\n1: 5\n2: 3\n"
    for number in range(3):
        name = f"config_training_{number:04d}.yaml"
        settings = [load_config([run.records / name]).values() for run in (staged, edited)]
        differing = {key for key in settings[0] if settings[0][key] != settings[1].get(key)}
        assert all(str(staged.folder) in str(settings[0][key]) for key in differing)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    run = prepared(tmp_path_factory.mktemp("stages") / "whole", **STAGES)
    train_stages(run)
    return run


@pytest.mark.parametrize("stops", [(2,), (4,), (6, 10), (1, 9)])
def test_stopping_anywhere_changes_nothing(
    whole: SmallRun, tmp_path: Path, stops: tuple[int, ...]
) -> None:
    stopped = prepared(tmp_path / "stopped", **STAGES)
    for iterations in stops:
        train_stages(stopped, num_training_iterations=iterations)
        checkpoint = load_latest(stopped.checkpoints)
        assert checkpoint is not None and checkpoint.progress.iterations == iterations
    train_stages(stopped)
    assert_same_state(whole, stopped)


def test_beginning_anew_moves_the_old_model_away_once(tmp_path: Path) -> None:
    run = prepared(tmp_path / "run", **STAGES, model_restore_model=False)
    train_stages(run)
    first = state(run)
    train_stages(run)
    assert all(torch.equal(first[name], tensor) for name, tensor in state(run).items())
    assert len(list(run.records.parent.glob("*_old_*"))) == 1


def test_a_config_without_stages_is_one_stage(tmp_path: Path) -> None:
    run = make_small_run(tmp_path)
    (config,) = load_stages([run.config_file])
    assert config.training.num_training_iterations == 60


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"num_training_iterations": 7}, ["'num_training_iterations'", "outside"]),
        ({"training_stages": {"a": 1}}, ["'training_stages'", "list of mappings"]),
        ({"training_stages": [{"batch_size": 3}]}, ["stage 1", "'num_training_iterations'"]),
        (
            {"training_stages": [FIRST, {**SECOND, "trafo_num_batches": 3}]},
            ["'trafo_num_batches'", "whole training"],
        ),
        (
            {"training_stages": [FIRST, {**SECOND, "batch_size": -1}]},
            ["'batch_size' is -1", "whole number > 0"],
        ),
    ],
)
def test_mistakes_are_told_with_their_line(
    tmp_path: Path, changes: dict[str, Any], parts: list[str]
) -> None:
    run = make_small_run(tmp_path, **{**STAGES, **changes})
    with pytest.raises(ConfigError) as error:
        load_stages([run.config_file])
    for part in [f"{run.config_file}:", *parts]:
        assert part in str(error.value)


PRETRAINING = {
    **FIRST,
    "model_optimizer_dict": {
        "adam": {**optimizer("mse", 0.01)["adam"], "learning_rate_factors": {"unc": 0}}
    },
}
FINE_TUNING = {
    "num_training_iterations": 6,
    "model_optimizer_dict": {
        "adam": {
            **optimizer("gaussian_likelihood", 0.01)["adam"],
            "learning_rate_factors": {"*": 0.5, "pred*": 0.1},
        }
    },
}


def pretrained(folder: Path, **changes: Any) -> SmallRun:
    """A training whose first stage reads files of its own, and leaves the uncertainties alone."""
    (folder / "other").mkdir(parents=True)
    for run in (7, 8):
        events = random_events(run, 20, num_bins=3, run=run)
        write_events(folder / "other" / f"train_{run}.hdf5", events)
    first = {**PRETRAINING, "training_data_file": str(folder / "other" / "train_*.hdf5")}
    stages = {"training_stages": [first, FINE_TUNING], "num_training_iterations": None}
    run = make_small_run(folder, **tiny(), **{**stages, **changes})
    run_trafo(load_config([run.config_file]), ON_CPU, overwrite=False)
    return run


def rewrite(run: SmallRun, *stages: dict[str, Any]) -> None:
    make_small_run(run.folder, **tiny(), training_stages=list(stages), num_training_iterations=None)


class TestDataOfAStage:
    def test_stages_are_trainings_one_after_the_other(self, tmp_path: Path) -> None:
        """As a config that is edited between two calls, and each reads its own files."""
        staged, edited = (pretrained(tmp_path / name) for name in ("staged", "edited"))
        train_stages(staged)
        stages = load_config([edited.config_file]).training.training_stages
        for stage, end in zip(stages, (4, 10), strict=True):
            keys = {**stage, "num_training_iterations": end}
            make_small_run(edited.folder, **tiny(), **keys)
            run_train(load_config([edited.config_file]), ON_CPU)
        assert_same_state(staged, edited)
        recorded = [
            load_config([staged.records / f"config_training_000{number}.yaml"]).data_files
            for number in (0, 1)
        ]
        assert [len(find_files(each.training_data_file, "")) for each in recorded] == [2, 2]
        assert "other" in recorded[0].training_data_file[0]
        assert "other" not in recorded[1].training_data_file[0]
        assert recorded[0].validation_data_file == recorded[1].validation_data_file

    @pytest.mark.parametrize("stops", [(2,), (4,), (1, 4, 7)])
    def test_stopping_anywhere_changes_nothing(
        self, tmp_path: Path, stops: tuple[int, ...]
    ) -> None:
        whole, stopped = (pretrained(tmp_path / name) for name in ("whole", "stopped"))
        train_stages(whole)
        for iterations in stops:
            train_stages(stopped, num_training_iterations=iterations)
        train_stages(stopped)
        assert_same_state(whole, stopped)

    def test_files_of_a_stage_that_is_done_may_be_gone(self, tmp_path: Path) -> None:
        run = pretrained(tmp_path / "run")
        train_stages(run, num_training_iterations=5)
        for path in (run.folder / "other").glob("*.hdf5"):
            path.unlink()
        train_stages(run)
        checkpoint = load_latest(run.checkpoints)
        assert checkpoint is not None and checkpoint.progress.iterations == 10

    def test_mistakes_in_later_stages_show_at_once(self, tmp_path: Path) -> None:
        run = pretrained(tmp_path / "run")
        stages = load_config([run.config_file]).training.training_stages
        lacking = {**stages[0], "training_data_file": str(tmp_path / "nowhere" / "*.hdf5")}
        rewrite(run, *stages, lacking)
        with pytest.raises(DataError, match="nowhere"):
            train_stages(run, num_training_iterations=14)
        wrong = {**optimizer("mse", 0.1)["adam"], "learning_rate_factors": {"embeding.*": 0.1}}
        last = {"num_training_iterations": 1, "model_optimizer_dict": {"adam": wrong}}
        rewrite(run, *stages, last)
        with pytest.raises(ConfigError, match=r"'embeding\.\*'.*pred, unc.*prediction"):
            train_stages(run, num_training_iterations=11)
        assert load_latest(run.checkpoints) is None

    def test_an_exported_model_knows_the_files_of_all_stages(self, tmp_path: Path) -> None:
        run = pretrained(tmp_path / "run")
        train_stages(run)
        folder = tmp_path / "exported"
        made = tmp_path / "made.yaml"
        made.write_text(
            "{num_bins: 3, relative_time_method: time_range, pulse_key: Pulses, "
            "data_format: reduced_summary_statistics_data}"
        )
        settings = ExportSettings(folder, made, golden_events=0)
        run_export([load_stages([run.config_file])], settings)
        model = load_config([folder / "config.yaml"])
        seen = files_recorded(folder, model)
        of_stages = [sorted((run.folder / each).glob("train_*.hdf5")) for each in ("other", ".")]
        assert sorted(seen) == sorted(path for files in of_stages for path in files)
        card = (folder / "README.md").read_text()
        for pattern in (run.folder / "other" / "train_*.hdf5", run.folder / "train_*.hdf5"):
            assert f"{pattern}" in card

    def test_no_stage_may_train_on_held_out_events(self, tmp_path: Path) -> None:
        run = pretrained(tmp_path / "run")
        stages = load_config([run.config_file]).training.training_stages
        leaking = {**stages[0], "training_data_file": str(run.folder / "*.hdf5")}
        rewrite(run, leaking, stages[1])
        with pytest.raises(DataError, match="both in training_data_file and in validation"):
            train_stages(run)


class TestPatience:
    """Of a network that does not move: only its first evaluation, after 2 iterations, is a best."""

    @staticmethod
    def run(folder: Path, **of_first: Any) -> SmallRun:
        stage = {
            "num_training_iterations": 10,
            "model_optimizer_dict": optimizer("mse", 1e-30),
            "validation_set_frequency": 2,
            "save_frequency": 2,
        }
        stages = [{**stage, **of_first}, {**stage, "early_stopping_patience": 3}]
        fixed = tiny(batch_norm=False)
        return prepared(folder, **fixed, training_stages=stages, num_training_iterations=None)

    @pytest.mark.parametrize("stops", [(), (6,), (10,), (12,), (10, 14)])
    def test_counts_from_the_start_of_the_stage(
        self, tmp_path: Path, stops: tuple[int, ...]
    ) -> None:
        run = self.run(tmp_path / "run")
        for iterations in stops:
            train_stages(run, num_training_iterations=iterations)
        for _ in range(2):
            train_stages(run)
            checkpoint = load_latest(run.checkpoints)
            assert checkpoint is not None and checkpoint.progress.best is not None
            assert checkpoint.progress.iterations == 16
            assert checkpoint.progress.best.iterations == 2
            assert checkpoint.progress.best.evaluations_since == 3

    @pytest.mark.parametrize(("patience", "last"), [(3, 8), (4, 16)])
    @pytest.mark.parametrize("stops", [(), (8,), (10,)])
    def test_of_the_first_stage_ends_all_unless_that_stage_is_done(
        self, tmp_path: Path, patience: int, last: int, stops: tuple[int, ...]
    ) -> None:
        run = self.run(tmp_path / "run", early_stopping_patience=patience)
        for iterations in (*stops, 20, 20):
            train_stages(run, num_training_iterations=iterations)
        assert latest_iterations(run.checkpoints) == last


def test_stages_need_checkpoints(tmp_path: Path) -> None:
    run = make_small_run(tmp_path, **STAGES)
    with pytest.raises(ConfigError, match="'model_save_model: False' writes none"):
        train_stages(run, model_save_model=False)
