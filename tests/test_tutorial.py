"""What the steps of the tutorial leave behind, and the numbers that they print.

The page itself is run by tests/docs/test_pages.py. Here its scripts are run in bash, in a folder
tree laid out as it says, on events of which the numbers are known, with one thread.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
from event_files import random_events, write_events
from ruamel.yaml import YAML
from safetensors.numpy import load_file

from dnn_reco.data.simulated_files import tutorial_path

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIG = "$CONFIG_DIR/getting_started.yaml"
NAME = "general_IC86_models__general_model_IC86"
TRAFO_MODEL = "../data/trafo_models/dnn_reco_11883_tutorial_trafo_model.npy"
BATCH_SIZE = 32

NUMBER = r"-?\d+\.\d{3}"
LABEL = rf"\tweight: ({NUMBER}), train: {NUMBER} \[\d+\.\d\d\],val: {NUMBER} \[\d+\.\d\d\] "
VALIDATION = (
    rf"Step: (\d{{8}}), Runtime: \d+\.\ds, Per-Step: {NUMBER}s, Benchmark: ({NUMBER})\n"
    rf"\t\[Train\]      loss_sum_gaussian: {NUMBER} loss_sum_total_gaussian: {NUMBER}\n"
    rf"\t\[Validation\] loss_sum_gaussian: {NUMBER} loss_sum_total_gaussian: {NUMBER}\n"
    rf"{LABEL}\[EnergyVisible, mean: {NUMBER} ({NUMBER})\]\n"
    rf"{LABEL}\[PrimaryEnergy, mean: {NUMBER} ({NUMBER})\]\n"
)


def count_text(validation: int, training: int, test: int | None = None) -> str:
    return (
        "\n===============================\n"
        "= Completed Counting Events:  =\n"
        "===============================\n"
        f"Found {validation if test is None else test} events for 'test_data_file'\n"
        f"Found {validation} events for 'validation_data_file'\n"
        f"Found {training} events for 'training_data_file'\n"
        f"Found {training} events for 'trafo_data_file'\n"
    )


TRAFO_TEXT = (
    "\n=======================================\n"
    "= Successfully saved trafo model to:  =\n"
    "=======================================\n"
    f"'{TRAFO_MODEL}'\n\n"
)


@dataclass(frozen=True)
class Home:
    """The folder DNN_HOME of the tutorial."""

    path: Path

    @property
    def repository(self) -> Path:
        return self.path / "repositories" / "dnn_reco"

    def model(self, unique_name: str = "getting_started") -> Path:
        """Folder of the records of a model; its checkpoints lie in `model` inside."""
        return self.repository / "checkpoints" / "nn_model" / NAME / unique_name

    def bash(self, *lines: str) -> subprocess.CompletedProcess[str]:
        """Run lines in one bash; each must succeed."""
        environment = os.environ | {
            "DNN_HOME": str(self.path),
            "CONFIG_DIR": f"{self.path}/configs/training",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(self.repository),  # as `pip install -e` of it would do
        }
        result = subprocess.run(
            ["bash", "-c", "\n".join(["set -e", *lines])],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result


def make_home(path: Path) -> Home:
    """A home with a clone of the repository and the config, edited as the tutorial does."""
    home = Home(path)
    for name in ("dnn_reco", "configs"):
        source, target = REPOSITORY / name, home.repository / name
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    home.bash(
        "mkdir --parents $CONFIG_DIR",
        "cp $DNN_HOME/repositories/dnn_reco/configs/tutorial/getting_started.yaml $CONFIG_DIR/",
        f"sed -i -e 's,{{insert_DNN_HOME}},'\"$DNN_HOME\"',g' {CONFIG}",
        sed("trafo_num_batches", "2"),
        sed("num_training_iterations", "3"),
        sed("validation_frequency", "2"),
    )
    return home


def sed(key: str, value: str, config: str = CONFIG) -> str:
    """The line that gives a key of the config another value."""
    return f"sed -i -e 's,^{key}: .*,{key}: {value},' {config}"


def step(script: str, config: str = CONFIG) -> list[str]:
    """The lines of one step of the tutorial."""
    return [
        "cd $DNN_HOME/repositories/dnn_reco/dnn_reco",
        f"CUDA_VISIBLE_DEVICES=0 python {script} {config} --num_threads 1",
    ]


def validations(output: str) -> list[tuple[str, ...]]:
    """Step, benchmark, then weight and mean of the two labels, of each validation printed."""
    assert re.fullmatch(f"({VALIDATION})*", output), output
    return [match.groups() for match in re.finditer(VALIDATION, output)]


def weights(home: Home, unique_name: str, iterations: int) -> dict[str, np.ndarray]:
    checkpoint = home.model(unique_name) / "model" / f"checkpoint-{iterations:08d}"
    return load_file(checkpoint / "state.safetensors")


# --------------------------------------------------------------------------------------------------
# On events of our own
# --------------------------------------------------------------------------------------------------
NUM_TRAINING = (100, 80, 60)
NUM_TEST = 10


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with few small events where the config looks for them."""
    home = make_home(tmp_path_factory.mktemp("tutorial") / "analysis")
    sizes = {**dict(enumerate(NUM_TRAINING)), 1000: BATCH_SIZE, 1005: NUM_TEST}
    for number, size in sizes.items():
        events = random_events(number, size, mean_hits=5.0, run=number)
        events.labels["LengthInDetector"] = np.ones(size)
        path = tutorial_path(home.path / "training_data", number)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_events(path, events)
    return home


@pytest.fixture(scope="module")
def counted(home: Home) -> str:
    return home.bash(*step("count_number_of_events.py")).stdout


@pytest.fixture(scope="module")
def transformed(home: Home) -> str:
    return home.bash(*step("create_trafo_model.py")).stdout


@pytest.fixture(scope="module")
def trained(home: Home, transformed: str) -> subprocess.CompletedProcess[str]:
    return home.bash(*step("train_model.py"))


@pytest.fixture(scope="module")
def continued(
    home: Home, trained: subprocess.CompletedProcess[str]
) -> subprocess.CompletedProcess[str]:
    return home.bash(sed("num_training_iterations", "5"), *step("train_model.py"))


def test_counting(counted: str) -> None:
    assert counted == count_text(BATCH_SIZE, sum(NUM_TRAINING), NUM_TEST)


def test_transformation_model(home: Home, transformed: str) -> None:
    assert transformed == TRAFO_TEXT
    folder = home.repository / "data" / "trafo_models"
    name = "dnn_reco_11883_tutorial_trafo_model"
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.npy",
        f"config_trafo__{name}.yaml",
    }
    record = YAML(typ="safe").load(folder / f"config_trafo__{name}.yaml")
    assert record["trafo_num_batches"] == 2
    assert record["trafo_model_path"] == TRAFO_MODEL


def test_training_prints_its_validations(
    home: Home, trained: subprocess.CompletedProcess[str]
) -> None:
    first, second = validations(trained.stdout)
    assert (first[0], second[0]) == ("00000000", "00000002")
    energy, primary = float(first[2]), float(first[4])
    assert energy >= 1.0
    assert primary >= 0.1
    assert float(first[1]) == pytest.approx(energy + primary, abs=0.002)
    file = tutorial_path(home.path / "training_data", 1000)
    with h5py.File(file) as validation:  # as many events as a batch: all of them are in it
        labels = validation["LabelsDeepLearning"][:]
    for printed in (first, second):
        assert float(printed[3]) == pytest.approx(labels["EnergyVisible"].mean(), rel=1e-5)
        assert float(printed[5]) == pytest.approx(labels["PrimaryEnergy"].mean(), rel=1e-5)


def test_training_prints_clean_lines_without_a_terminal(
    trained: subprocess.CompletedProcess[str],
) -> None:
    assert not re.search(r"[\r\x1b]|it/s|%\|", trained.stderr + trained.stdout)
    assert "WARNING" not in trained.stderr
    assert trained.stderr.splitlines()[-1] == (
        f"Training is done: 3 iterations, saved in '../checkpoints/nn_model/{NAME}/getting_started"
        "/model'."
    )


def test_checkpoints_and_records_lie_where_they_should(
    home: Home, trained: subprocess.CompletedProcess[str]
) -> None:
    model = home.model()
    assert (model / "model" / "checkpoint-00000003").is_dir()
    steps = YAML(typ="safe").load(model / "training_steps.yaml")
    assert steps[0] == 3
    record = YAML(typ="safe").load(model / "config_training_0000.yaml")
    assert record["num_training_iterations"] == 3
    assert record["model_kwargs"]["keep_prob_dom"] == 0.95
    assert record["label_weight_dict"] == {"EnergyVisible": 1.0, "PrimaryEnergy": 0.1}
    assert "torch" in [name.lower() for name, _ in record["pip_installed_packages"]]
    assert {"git_sha", "git_origin", "git_uncommited_changes"} <= set(record)
    assert {path.name for path in home.repository.iterdir()} == {
        *("checkpoints", "data", "logs"),  # what was written
        *("configs", "dnn_reco"),  # what was there
    }


def test_tensorboard_reads_the_curves(
    home: Home, continued: subprocess.CompletedProcess[str]
) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    ).EventAccumulator
    for part in ("train", "val"):
        log = accumulator(str(home.repository / "logs" / "getting_started" / NAME / part)).Reload()
        tags = log.Tags()
        for tag in ("loss/gaussian", "rmse/EnergyVisible", "pull/PrimaryEnergy"):
            points = log.Scalars(tag)
            assert [point.step for point in points] == [0, 2, 4]
            assert all(np.isfinite(point.value) for point in points)
        assert {"EnergyVisible/true", "PrimaryEnergy/predicted"} <= set(tags["histograms"])
        assert not [tag for tag in tags["scalars"] + tags["histograms"] if "Zenith" in tag]


def test_second_call_resumes(home: Home, continued: subprocess.CompletedProcess[str]) -> None:
    (printed,) = validations(continued.stdout)
    assert printed[0] == "00000004"
    assert "checkpoint-00000003' (training step 1)" in continued.stderr
    model = home.model()
    assert YAML(typ="safe").load(model / "training_steps.yaml") == {0: 3, 1: 2}
    record = YAML(typ="safe").load(model / "config_training_0001.yaml")
    assert record["num_training_iterations"] == 5
    assert (model / "model" / "checkpoint-00000005").is_dir()


def test_export_ends_with_its_banner(
    home: Home, continued: subprocess.CompletedProcess[str]
) -> None:
    output = "$DNN_HOME/exported_models/getting_started_model"
    exported = home.bash(
        *step(
            "export_model.py",
            f"{CONFIG} -s ../configs/tutorial/create_training_data.yaml -o {output}",
        )
    )
    folder = home.path / "exported_models" / "getting_started_model"
    assert exported.stdout == (
        "\n====================================\n"
        "= Successfully exported model to:  =\n"
        "====================================\n"
        f"{folder}\n\n"
    )
    steps = home.model() / "training_steps.yaml"
    assert (folder / steps.name).read_bytes() == steps.read_bytes()
    settings = YAML(typ="safe").load(folder / "config_data_settings.yaml")
    assert settings["num_bins"] == 9
    assert settings["pulse_key"] == "InIceDSTPulses"
    assert settings["dom_exclusions"] == ["SaturationWindows", "BadDomsList", "CalibrationErrata"]
    assert {path.name for path in (folder / "logs").iterdir()} == {"train", "val", "metrics.jsonl"}


def test_newer_spelling_gives_the_same_training(
    home: Home, trained: subprocess.CompletedProcess[str]
) -> None:
    newer = "$CONFIG_DIR/getting_started_v2.yaml"
    result = home.bash(
        f"cp $DNN_HOME/repositories/dnn_reco/configs/tutorial/getting_started_v2.yaml {newer}",
        f"sed -i -e 's,{{insert_DNN_HOME}},'\"$DNN_HOME\"',g' {newer}",
        sed("trafo_num_batches", "2", newer),
        sed("num_training_iterations", "3", newer),
        sed("validation_frequency", "2", newer),
        *step("create_trafo_model.py", newer),  # finds the same model in its place
        *step("train_model.py", newer),
    )
    assert result.stdout.startswith(TRAFO_TEXT)
    ours, theirs = weights(home, "getting_started", 3), weights(home, "getting_started_v2", 3)
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        np.testing.assert_array_equal(values, theirs[name], err_msg=name)


# --------------------------------------------------------------------------------------------------
# On events of others
# --------------------------------------------------------------------------------------------------
def run_tutorial(home: Home, training: Path, validation: Path, edits: Sequence[str]) -> list[str]:
    """The three steps on given files, two iterations; returns what they print."""
    dataset = "$DNN_HOME/training_data/datasets/11883"
    home.bash(
        f'sed -i -e "s,{dataset}/.*/00000-00999/.*,{training}\'," {CONFIG}',
        f'sed -i -e "s,{dataset}/.*/01000-01999/.*,{validation}\'," {CONFIG}',
        sed("num_training_iterations", "2"),
        sed("validation_frequency", "1"),
        *edits,
    )
    scripts = ("count_number_of_events.py", "create_trafo_model.py", "train_model.py")
    return [home.bash(*step(script)).stdout for script in scripts]


def test_on_real_neutrino_simulation(tmp_path: Path, shared_data: Path) -> None:
    home = make_home(tmp_path)
    folder = shared_data / "real_nugen"
    tables = "dnn_data_inputs9_InIceDSTPulses"
    edits = [
        sed(f"data_handler_{kind}_name", f"{tables}_{kind}")
        for kind in ("bin_values", "bin_indices")
    ]
    edits.append(sed("data_handler_time_offset_name", f"{tables}_global_time_offset"))
    counted, transformed, trained = run_tutorial(
        home, folder / "NuMu*.hdf5", folder / "NuTau*.hdf5", edits
    )
    assert counted == count_text(2, 36)
    assert transformed == TRAFO_TEXT
    assert [printed[0] for printed in validations(trained)] == ["00000000", "00000001"]


def test_on_simulation_with_single_photons(tmp_path: Path, shared_data: Path) -> None:
    home = make_home(tmp_path)
    folder = shared_data / "ppc" / "hdf5"
    if not folder.is_dir():
        pytest.skip(f"'{folder}' is not there")
    edits = [sed("trafo_num_batches", "10")]
    counted, transformed, trained = run_tutorial(
        home, folder / "*_000[01].hdf5", folder / "*_0005.hdf5", edits
    )
    assert counted == count_text(1000, 2000)
    assert transformed == TRAFO_TEXT
    assert [printed[0] for printed in validations(trained)] == ["00000000", "00000001"]
