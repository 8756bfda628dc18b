"""`config show`, `config check`, the tutorial's files and the reference page."""

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner
from event_files import random_events, write_events

from dnn_reco import ConfigError
from dnn_reco.cli import cli
from dnn_reco.commands.check_config import check_config
from dnn_reco.config import TRAINING_KEYS, load_config, show_config
from dnn_reco.config.schema import FIELDS

WriteConfig = Callable[..., Path]
REPOSITORY = Path(__file__).resolve().parents[2]
TUTORIAL = REPOSITORY / "configs" / "tutorial"


def row(text: str, key: str) -> list[str]:
    """Value and origin that `config show` prints for a key."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"{key}:")]
    value, _, origin = line.removeprefix(f"{key}:").rpartition("#")
    return [value.strip(), origin.strip()]


def test_show_prints_every_key_and_its_origin(production_style: Path) -> None:
    text = show_config(load_config([production_style], {"batch_size": 16, "seed": 1}))
    assert text.startswith(f"# production_style: {production_style}\n")
    assert row(text, "batch_size") == ["16", "override"]
    assert row(text, "save_frequency") == ["500", "default"]
    assert row(text, "unique_name") == ['"cascade_classifier"', "production_style.yaml:5"]
    assert row(text, "model_kwargs.random_seed")[1].endswith("(tf_random_seed)")
    assert row(text, "model_kwargs.conv_ic78_settings.method_list") == [
        '"hex_convolution"',
        "default",
    ]
    assert row(text, "model_optimizer_dict.Warm.vars")[0] == '["unc", "pred"]'
    for key in FIELDS:
        assert f"\n{key}:" in text or f"\n{key}." in text


def test_show_of_nearly_empty_config(write: WriteConfig) -> None:
    text = show_config(load_config([write("batch_size: 16\nmine: [1]\n")]))
    assert row(text, "trafo_model_path") == ["", "not set"]
    assert row(text, "mine") == ["[1]", "config.yaml:2"]
    assert "# Unknown keys" in text


def test_check_finds_plugins_files_and_missing_keys(write: WriteConfig, tmp_path: Path) -> None:
    (tmp_path / "a.hdf5").write_bytes(b"x" * 2_000_000)
    (tmp_path / "b.hdf5").write_bytes(b"x" * 500_000)
    path = write(
        f"training_data_file: ['{tmp_path}/*.hdf5', '{tmp_path}/a*']\n"
        f"validation_data_file: '{tmp_path}/none*.hdf5'\n"
        "evaluation_class: dnn_reco.detector.grid.main_aray\n"
        "data_handler_label_class: dnn_reco.detector.grid.main_array\n"
        "nobody_knows: 1\n"
    )
    report = check_config(load_config([path]))
    assert not report.ok
    assert "training_data_file: 2 files, 2.5 MB" in report.text
    assert f"validation_data_file: no file matches '{tmp_path}/none*.hdf5'" in report.text
    assert "'dnn_reco.detector.grid' has no 'main_aray'" in report.text
    assert "ok       data_handler_label_class: dnn_reco.detector.grid.main_array" in report.text
    assert "the key 'model_optimizer_dict' is not set" in report.text
    assert "unknown key 'nobody_knows'" in report.text


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two files of few events."""
    folder = tmp_path_factory.mktemp("files")
    for number in (0, 1):
        write_events(folder / f"{number}.hdf5", random_events(number, 3, run=number))
    return folder


def complete_config(files: Path, more: str = "", loss: str = "gaussian_likelihood") -> str:
    return (
        "unique_name: a\nlog_path: l\ntrafo_model_path: t\nmodel_checkpoint_path: m\n"
        f"training_data_file: '{files}/0.hdf5'\nvalidation_data_file: '{files}/1.hdf5'\n"
        "data_handler_num_bins: 9\nnum_training_iterations: 5\n"
        "data_handler_label_key: LabelsDeepLearning\nlabel_weight_dict: {EnergyVisible: 1}\n"
        "model_class: dnn_reco.modules.models.dom_transformer.DomTransformer\n"
        f"model_optimizer_dict: {{A: {{loss_class: dnn_reco.modules.loss.default_loss.{loss}}}}}\n"
        f"{more}\n"
    )


def checked(write: WriteConfig, files: Path, **more: str) -> tuple[bool, str]:
    report = check_config(load_config([write(complete_config(files, **more))]))
    return report.ok, report.text


def test_check_of_a_complete_config(write: WriteConfig, files: Path) -> None:
    ok, text = checked(write, files)
    assert ok, text
    assert "ok       training_data_file: '0.hdf5' has all tables, 12 labels" in text
    assert "info     trafo_model_path: 't' does not exist yet" in text
    assert text.endswith("config: ready for training")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("data_handler_bin_values_name: dnn_values", "has no table 'dnn_values' (given by 'data_h"),
        ("label_keys_to_load: [EnergyVisibel]", "EnergyVisibel"),
        ("misc_load_dict: {LabelsDeepLearning: Length_}", "Length_"),
        ("label_weight_initialization: 0\nlabel_zenith_key: Zenit", "no label 'Zenit'"),
    ],
)
def test_check_opens_a_file_and_finds_what_it_lacks(
    write: WriteConfig, files: Path, more: str, words: str
) -> None:
    ok, text = checked(write, files, more=more)
    assert words in text
    assert ok is ("Zenit" in more)  # an unused label that is not there is a warning


def test_check_of_labels_that_a_loss_needs(write: WriteConfig, files: Path) -> None:
    ok, text = checked(write, files, loss="opening_angle")
    assert not ok
    assert "default_loss.opening_angle' cannot be used: 'label_zenith_key' is not set" in text


def test_check_of_the_transformation_model(write: WriteConfig, files: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.npy"
    model.write_text("hello")
    path = write(complete_config(files).replace("path: t\n", f"path: {model}\n"))
    report = check_config(load_config([path]))
    assert not report.ok
    assert f"PROBLEM  '{model}'" in report.text


def test_check_with_the_network(write: WriteConfig, files: Path) -> None:
    text = complete_config(files, "model_kwargs: {size: S}\nlabel_pid_keys: [p_starting]")
    report = check_config(load_config([write(text)]), network=True)
    assert report.ok, report.text
    assert "trainable weights" in report.text
    wrong = check_config(load_config([write(text.replace("size: S", "size: XS"))]), network=True)
    assert not wrong.ok
    assert "'size' is 'XS'" in wrong.text


def test_check_where_the_data_are_elsewhere(write: WriteConfig, tmp_path: Path) -> None:
    """Long lists of patterns are shortened; the network needs the labels of a file."""
    text = complete_config(tmp_path).replace(
        f"'{tmp_path}/0.hdf5'", "[/far/0.h5, /far/1.h5, /far/2.h5, /far/3.h5, /far/4.h5]", 1
    )
    report = check_config(load_config([write(text)]), network=True)
    assert not report.ok
    found = "no file matches '/far/0.h5', '/far/1.h5', '/far/2.h5' or 2 further patterns"
    assert f"PROBLEM  training_data_file: {found}\n" in report.text
    assert "info     the network is not built" in report.text


@pytest.mark.parametrize(
    "name",
    [
        *("sys.exit", "os.system", "os.path.sep", "builtins.exec", "builtins.dict"),
        *("builtins.print", "builtins.object", "subprocess.run", "no_such.Net"),
        "dnn_reco.modules.models.nothing.Net",
    ],
)
def test_check_of_a_class_that_is_no_network(write: WriteConfig, files: Path, name: str) -> None:
    text = complete_config(files).replace("dnn_reco.modules.models.dom_transformer.DomTransf", name)
    text = text.replace(f"{name}ormer", name)
    report = check_config(load_config([write(text)]), network=True)
    assert not report.ok
    (line,) = {line for line in report.text.splitlines() if line.startswith("PROBLEM")}
    assert "model_class" in line
    assert name in line


KEYS_OF_FUNCTIONS = [
    *("data_handler_label_class", "data_handler_misc_class", "data_handler_filter_class"),
    *("event_weight_class", "evaluation_class", "loss_class", "model_class"),
]
OWN_FUNCTIONS = """
def loader(input_data, config, label_names=None, *args, **kwargs): ...
def misc_loader(input_data, config, misc_names=None, *args, **kwargs): ...
def keep(data_handler, input_data, config, x_ic78, x_deepcore, labels, misc, start, *args): ...
def weight(truth, misc, config): ...
def evaluate(train, val, context): ...
def loss(prediction, truth, context): ...
class Network:
    def __init__(self, spec, size, **model_kwargs): ...
def wrong(first, second): ...
"""


def own_function(key: str, name: str) -> str:
    """A line of a config that names an own function."""
    if key == "loss_class":
        return f"model_optimizer_dict: {{own: {{loss_class: own_functions.{name}}}}}\n"
    return f"{key}: own_functions.{name}\n"


def check_of_own_functions(write: WriteConfig, functions: dict[str, str]) -> str:
    """The report on a config with these functions by key, and nothing else."""
    write(OWN_FUNCTIONS, "own_functions.py")
    lines = [own_function(key, name) for key, name in functions.items()]
    config = write("model_kwargs: {size: 3}\n" + "".join(lines))
    program = (
        "import sys; from dnn_reco.config import allow_plugins_beside, load_config;"
        "from dnn_reco.commands.check_config import check_config;"
        f"allow_plugins_beside(['{config}']);"
        f"print(check_config(load_config(['{config}'])).text); assert 'torch' not in sys.modules"
    )
    run = [sys.executable, "-c", program]
    return subprocess.run(run, check=True, capture_output=True, text=True).stdout


def test_check_of_own_functions(write: WriteConfig) -> None:
    names = ["loader", "misc_loader", "keep", "weight", "evaluate", "loss", "Network"]
    text = check_of_own_functions(write, dict(zip(KEYS_OF_FUNCTIONS, names, strict=True)))
    assert len(re.findall(r"^ok .*: own_functions\.", text, re.MULTILINE)) == len(names)
    assert "own_functions." not in "".join(re.findall(r"^PROBLEM.*", text, re.MULTILINE))


def test_check_of_own_functions_that_cannot_be_called(write: WriteConfig) -> None:
    text = check_of_own_functions(write, dict.fromkeys(KEYS_OF_FUNCTIONS, "wrong"))
    for key in KEYS_OF_FUNCTIONS:
        full_key = f"model_optimizer_dict.own.{key}" if key == "loss_class" else key
        line = (
            rf"^PROBLEM  own_functions\.wrong \({full_key}\) is called as \(.+\), but its "
            r"signature is \(first, second\): "
        )
        assert len(re.findall(line, text, re.MULTILINE)) == 1


def test_a_wrong_loader_is_one_problem(
    write: WriteConfig, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is also noticed when the files are opened."""
    monkeypatch.syspath_prepend(write(OWN_FUNCTIONS, "own_functions.py").parent)
    _, text = checked(write, files, more="data_handler_misc_class: own_functions.wrong")
    assert text.count("own_functions.wrong (data_handler_misc_class) is called as") == 1


def test_check_of_an_ordinary_config_needs_no_torch(write: WriteConfig, files: Path) -> None:
    path = write(complete_config(files, "# more"))
    program = (
        "import sys; from dnn_reco.cli import cli\n"
        f"try: cli(['config', 'check', {str(path)!r}])\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert output.splitlines()[-1] == "0 False"
    assert "Stage" not in output


@pytest.fixture
def tutorial(write: WriteConfig) -> Callable[[str], Path]:
    """A tutorial config after the sed command of the tutorial."""

    def after_sed(name: str) -> Path:
        text = (TUTORIAL / name).read_text(encoding="utf-8")
        return write(text.replace("{insert_DNN_HOME}", "/some/folder"), name)

    return after_sed


def test_tutorial_configs_give_the_same_training(tutorial: Callable[[str], Path]) -> None:
    older = load_config([tutorial("getting_started.yaml")])
    newer = load_config([tutorial("getting_started_v2.yaml")])
    assert newer.general.unique_name == "getting_started_v2"
    renamed = json.dumps(newer.values()).replace("getting_started_v2", "getting_started")
    assert json.loads(renamed) == older.values()
    assert older.seed == newer.seed == 42
    for config in (older, newer):
        config.require(*TRAINING_KEYS, "trafo_data_file", "trafo_num_batches", "test_data_file")
        assert [notice.level for notice in config.notices] == ["info"]


def test_tutorial_is_the_network_of_the_page(tutorial: Callable[[str], Path]) -> None:
    config = load_config([tutorial("getting_started.yaml")])
    kwargs = config.model.model_kwargs
    assert config.model.model_class.endswith("general_IC86_models.general_model_IC86")
    layers = {
        name: kwargs[f"conv_{name}_settings"]["num_filters_list"]
        for name in ("upper_deepcore", "lower_deepcore", "ic78")
    }
    assert layers == {"upper_deepcore": [10] * 4, "lower_deepcore": [10] * 8, "ic78": [10] * 8}
    assert len(kwargs["conv_ic78_settings"]["filter_size_list"]) == 8
    assert kwargs["fc_settings"]["fc_sizes"] == kwargs["fc_unc_settings"]["fc_sizes"] == [50, -1]
    assert kwargs["fc_unc_settings"]["activation_list"] == ["elu", "abs"]
    assert kwargs["keep_prob_dom"] == 0.95
    assert config.general.batch_size == 32
    assert config.labels.label_weight_dict == {"EnergyVisible": 1.0, "PrimaryEnergy": 0.1}
    assert config.labels.label_weight_initialization == 0
    assert config.trafo.trafo_log_label_bins == {"EnergyVisible": True, "PrimaryEnergy": True}
    assert config.trafo.trafo_log_dom_bins == (True,) * 3 + (False,) * 6
    assert config.trafo.trafo_num_batches == 100
    assert config.trafo.trafo_model_path == (
        "../data/trafo_models/dnn_reco_11883_tutorial_trafo_model.npy"
    )
    (optimizer,) = config.optimizers.values()
    assert optimizer.optimizer == "Adam"
    assert optimizer.optimizer_settings == {"learning_rate": 0.001}
    assert optimizer.clip_gradients_value == 1.0
    assert optimizer.loss_class == ("dnn_reco.modules.loss.default_loss.gaussian_likelihood",)
    train, validation, test = (
        "/some/folder/training_data/datasets/11883/clsim-base-4.0.5*/output/summaryV2_clipped/"
        f"{part}.hdf5"
        for part in (
            "00000-00999/11883_*DOMPulseData_00000*",
            "01000-01999/11883_*DOMPulseData_0000100[0-4]",
            "01000-01999/11883_*DOMPulseData_0000100[5-9]",
        )
    )
    files = config.data_files
    assert files.training_data_file == files.trafo_data_file == (train,)
    assert (files.validation_data_file, files.test_data_file) == ((validation,), (test,))


def test_tutorial_pooling_is_that_of_the_golden_network(
    tutorial: Callable[[str], Path], golden_network: Path
) -> None:
    golden = load_config([golden_network / "tf_checkpoint" / "config_training_0000.yaml"])
    config = load_config([tutorial("getting_started_v2.yaml")])
    for branch in ("upper_deepcore", "lower_deepcore", "ic78"):
        ours = config.model.model_kwargs[f"conv_{branch}_settings"]
        theirs = golden.model.model_kwargs[f"conv_{branch}_settings"]
        differing = {key for key in ours.keys() | theirs.keys() if ours[key] != theirs[key]}
        assert differing == {"num_filters_list"}


@pytest.mark.parametrize("name", ["getting_started.yaml", "getting_started_v2.yaml"])
def test_tutorial_file_explains_itself(name: str) -> None:
    with pytest.raises(ConfigError, match="sed -i"):
        load_config([TUTORIAL / name])
    lines = (TUTORIAL / name).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# Run it")
    for before, line in pairwise(lines):
        if line and line[0].isalpha():
            assert before.startswith("#"), f"no comment above: {line}"


def test_reference_page_is_up_to_date() -> None:
    generator = runpy.run_path(str(REPOSITORY / "docs" / "generate_config_reference.py"))
    committed = (REPOSITORY / "docs" / "reference" / "config.md").read_text(encoding="utf-8")
    assert generator["page"]() == committed, "run: python docs/generate_config_reference.py"


def test_every_key_is_described() -> None:
    for key, field in FIELDS.items():
        assert field.description, key
        assert "\n" not in field.description


def test_loading_needs_no_heavy_library(production_style: Path) -> None:
    program = (
        "import sys; from dnn_reco.config import load_config, show_config; "
        f"show_config(load_config([{str(production_style)!r}])); "
        "print(sorted({'torch', 'h5py', 'numpy', 'pandas', 'matplotlib'} & sys.modules.keys()))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == "[]"


def test_check_of_stages(write: WriteConfig, files: Path) -> None:
    text = complete_config(files).replace("num_training_iterations: 5\n", "") + (
        "training_stages:\n"
        "- {num_training_iterations: 2}\n"
        "- {num_training_iterations: 3, batch_size: 4}\n"
    )
    result = CliRunner().invoke(cli, ["config", "check", str(write(text))])
    lines = result.stdout.splitlines()
    assert lines[0] == "Stage 1 of 2"
    assert lines[lines.index("Stage 2 of 2") - 1] == ""
    assert lines[-1] == "config: ready for training"
    assert result.exit_code == 0


def test_check_of_empty_lists_of_files(write: WriteConfig, files: Path) -> None:
    text = complete_config(files, "test_data_file: []")
    report = check_config(load_config([write(text)]))
    assert report.ok
    assert "info     test_data_file: the list is empty" in report.text
    text = text.replace(f"validation_data_file: '{files}/1.hdf5'", "validation_data_file: []")
    report = check_config(load_config([write(text)]))
    assert not report.ok
    assert "PROBLEM  validation_data_file: the list is empty" in report.text


def test_check_of_files_with_other_labels(write: WriteConfig, files: Path, tmp_path: Path) -> None:
    events = random_events(1, 3, run=1)
    events.labels["Further"] = events.labels["EnergyVisible"]
    other = write_events(tmp_path / "other.hdf5", events)
    text = complete_config(files, f"test_data_file: '{other}'")
    report = check_config(load_config([write(text)]))
    assert not report.ok
    assert f"PROBLEM  '{other}' differs in labels or misc data from '{files}/0.hdf5'" in report.text
    assert report.text.endswith("config: 1 problem")


def test_check_of_a_moving_average(write: WriteConfig, files: Path) -> None:
    settings = "optimizer_settings: {use_ema: true, ema_momentum: 0.5}, loss_class"
    text = complete_config(files, "ema_decay: 0.9").replace("loss_class", settings)
    report = check_config(load_config([write(text)]))
    assert not report.ok
    assert "ema_" in next(line for line in report.text.splitlines() if "PROBLEM" in line)
    assert check_config(load_config([write(text.replace("0.9\n", "0.5\n"))])).ok


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("{beta_1: 1}", "beta parameter"),
        ("{beta_1: 0}", ""),
        ("{beta_1: -0.1}", "beta parameter"),
        ("{epsilon: 0}", ""),
        ("{weight_decay: 0, beta_2: 0.5}", ""),
        ("{weight_decay: -1}", "weight_decay"),
        ("{learning_rate: {full_class_string: dnn_reco.utils.learning_rate.Cosine, "
         "settings: {rate: 1, steps: 0}}}", "steps"),
    ],
)  # fmt: skip
def test_check_of_settings_of_optimizers(
    write: WriteConfig, files: Path, settings: str, words: str
) -> None:
    text = complete_config(files).replace("loss_class", f"optimizer_settings: {settings}, loss_cl")
    report = check_config(load_config([write(text.replace("loss_cl:", "loss_class:"))]))
    problems = [line for line in report.text.splitlines() if line.startswith("PROBLEM")]
    assert len(problems) == bool(words), report.text
    assert all(words in line for line in problems)
    assert words or "ok       model_optimizer_dict.A: Adam" in report.text


def test_check_names_optimizer_and_schedule(write: WriteConfig, files: Path) -> None:
    schedule = "dnn_reco.utils.learning_rate.Cosine"
    text = complete_config(files).replace(
        "{A: {",
        "{A: {optimizer: NAdam, optimizer_settings: {learning_rate: "
        f"{{full_class_string: {schedule}, settings: {{rate: 1, steps: 9}}}}}}, ",
    )
    report = check_config(load_config([write(text)]))
    assert f"ok       model_optimizer_dict.A: NAdam, {schedule}" in report.text


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ("{ns_steps: 6}", "ok       model_optimizer_dict.A.other_optimizers.m: Muon"),
        ("{ns_step: 6}", "model_optimizer_dict.A.other_optimizers.m.optimizer_settings: Muon has"),
    ],
)
def test_check_names_other_optimizers(
    write: WriteConfig, files: Path, settings: str, line: str
) -> None:
    other = f"{{vars: trunk.*, optimizer: Muon, optimizer_settings: {settings}}}"
    text = complete_config(files).replace("{A: {", f"{{A: {{other_optimizers: {{m: {other}}}, ")
    report = check_config(load_config([write(text)]))
    assert line in report.text
    assert report.text.count("PROBLEM") == (settings == "{ns_step: 6}")


@pytest.mark.parametrize(
    "key",
    [
        *("data_handler_label_class", "data_handler_misc_class", "data_handler_filter_class"),
        *("event_weight_class", "evaluation_class", "model_class", "loss"),
    ],
)
def test_check_looks_for_each_function(write: WriteConfig, files: Path, key: str) -> None:
    if key == "loss":
        text = complete_config(files, loss="nothing")
    else:
        lines = complete_config(files).splitlines()
        lines = [line for line in lines if not line.startswith(f"{key}:")]
        text = "\n".join([*lines, f"{key}: dnn_reco.modules.nothing", ""])
    report = check_config(load_config([write(text)]))
    assert not report.ok
    problems = [line for line in report.text.splitlines() if line.startswith("PROBLEM")]
    key = "model_optimizer_dict.A.loss_class" if key == "loss" else key
    assert any(f"'{key}'" in line and "nothing" in line for line in problems), report.text


@pytest.mark.parametrize(
    "key",
    [
        *("label_zenith_key", "label_azimuth_key", "label_dir_x_key", "label_dir_y_key"),
        *("label_dir_z_key", "label_particle_keys.pos_x"),
    ],
)
def test_check_warns_of_each_label_that_is_not_there(
    write: WriteConfig, files: Path, key: str
) -> None:
    name, _, part = key.partition(".")
    line = f"{name}: {{{part}: EnergyVisibel}}" if part else f"{name}: EnergyVisibel"
    report = check_config(load_config([write(complete_config(files, line))]))
    assert report.ok
    expected = (
        f"warning  {key}: the data have no label 'EnergyVisibel'. Did you mean 'EnergyVisible'?"
    )
    assert expected in report.text.splitlines()
