"""Plans of configs in the layout of ic3-processing, against lists of files written by hand."""

import re
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plan_files import BASIC, line_of, touch, write_config
from ruamel.yaml import YAML

from dnn_reco.data_creation.plan import CreationPlan, load_plan
from dnn_reco.errors import ConfigError, DataError

CONFIGS = Path(__file__).parents[2] / "configs" / "tutorial"
INPUTS = [f"in/{d}/Level2_{r:06d}.i3.zst" for d in (5, 6) for r in (0, 1, 2)]

# Simulation of three flavors, of which the runs 998 and 1000 of one and 1 of another are there.
SIMULATION = """\
keep_crashed_files: False
resources: {gpus: 0, cpus: 1, memory: 2gb}
dagman_max_jobs: 5000
exclude_corrupted_input_files: False
i3_ending: 'i3.bz2'
in_file_pattern: 'sim/{year}/{dataset_number}/{folder_pattern}/{flavor}.{run_number:06d}.i3.zst'
out_dir_pattern: '{data_type}/{dataset_number}/'
out_file_pattern: '{data_type}_{dataset_number}_{run_number:08d}'
folder_pattern: '{folder_num_pre_offset:04d}000-{folder_num_pre_offset:04d}999'
folder_offset: 0
n_jobs_per_folder: 1000
gcd: gcd/GCD_2020.i3.gz
datasets:
    muon_neutrinos:
        cycler:
                dataset_number: [21535]
        runs_range: [998, 1001]
        data_type: 'NuGen'
        flavor: 'NuMu'
        year: 'IC86.2020'
    tau_neutrinos:
        cycler:
                dataset_number: [21536]
        runs_range: [2]
        data_type: 'NuGen'
        flavor: 'NuTau'
        year: 'IC86.2020'
job_template: job_templates/cvmfs_python.sh
ld_library_path_prepends: '{ld_library_path_prepends}'
set_env_vars_from_python: {'TF_DETERMINISTIC_OPS': '1'}
processing_steps: [
    {
        cvmfs_python: py3-v4.2.1,
        flux: 'honda',
        tray_segments: [
            {
                ModuleClass: 'ic3_labels.weights.segments.WeightEvents',
                ModuleKwargs: {
                    'infiles': context-->ic3_processing.infiles,
                    'dataset_type': '{data_type}',
                    'dataset_n_files': context-->ic3_processing.n_files,
                    'dataset_n_events_per_run': -1,
                    'dataset_number': '{dataset_number}',
                    'model': 'flux_{flux}',
                    'check_n_files': ['corsika', '{untouched}'],
                    'OutputKey': 'weights',
                },
            },
        ],
    },
    {
        icetray_metaproject: icetray/v1.5.1,
        tray_segments: [
            {
                ModuleClass: 'Delete',
                ModuleKwargs: {Keys: [I3MCPESeriesMap], Config: <config>, OutputKey: 'rest'},
                ModuleTimer: True,
            },
        ],
    },
]
write_i3: True
write_i3_kwargs: {'i3_streams': ['Q', 'P']}
write_hdf5: True
write_hdf5_kwargs: {'SubEventStreams': ['InIceSplit'], 'Keys': [I3EventHeader, rest]}
"""

# Detector data: runs by number, each with its own files.
DETECTOR = """\
out_dir_pattern: '{data_type}/{season}/'
out_file_pattern: '{data_type}_{season}_{run_number:08d}'
folder_pattern: 'Run{run_number:08d}'
folder_offset: 3
n_jobs_per_folder: 10
in_file_pattern: 'exp/{year}/{month:02d}{day:02d}/Run{run_number:08d}_Subrun*.i3.zst'
data_type: 'exp'
runs_to_ignore: [117442]
datasets:
    Exp_2011:
        runs_list: [118435, 117442, 118436, 118437]
        season: 'IC86_2011'
        run_number_settings:
            118435: {year: 2011, month: 6, day: 30, gcd: 'exp/GCD_118435.i3.gz'}
            118436: {year: 2011, month: 6, day: 30, gcd: 'exp/GCD_118436.i3.gz'}
            118437:
                year: 2011
                gcd: 'exp/GCD_118435.i3.gz'
                in_file_pattern: ['exp/own_b.i3.zst', 'exp/own_a.i3.zst', 'exp/own_?.i3.zst']
processing_steps: [{tray_segments: [{ModuleClass: 'a.b.filter', ModuleKwargs: {name: 'HighQ'}}]}]
write_i3: True
write_hdf5: False
"""


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def files_of(plan: CreationPlan) -> dict[str, list[str]]:
    """First output -> GCD file and inputs."""
    return {
        str(plan.outputs.paths(file.output)[0]): [
            str(path) for path in (file.gcd, *file.inputs) if path is not None
        ]
        for file in plan.files
    }


def test_simulation() -> None:
    mu, tau, gcd = "sim/IC86.2020/21535/", "sim/IC86.2020/21536/", "gcd/GCD_2020.i3.gz"
    first = f"{mu}0000000-0000999/NuMu.000998.i3.zst"
    second = f"{mu}0001000-0001999/NuMu.001000.i3.zst"
    third = f"{tau}0000000-0000999/NuTau.000001.i3.zst"
    touch([first, second, third, gcd])
    plan = load_plan(write_config(SIMULATION), "data")
    assert files_of(plan) == {
        "data/NuGen/21535/0000000-0000999/NuGen_21535_00000998.hdf5": [gcd, first],
        "data/NuGen/21535/0001000-0001999/NuGen_21535_00001000.hdf5": [gcd, second],
        "data/NuGen/21536/0000000-0000999/NuGen_21536_00000001.hdf5": [gcd, third],
    }
    assert [(file.dataset, file.run_number) for file in plan.files] == [
        *(("muon_neutrinos", 998), ("muon_neutrinos", 1000), ("tau_neutrinos", 1))
    ]
    assert [(run.dataset, run.run_number) for run in plan.skipped] == [
        *(("muon_neutrinos", 999), ("tau_neutrinos", 0))
    ]
    missing = f"{mu}0000000-0000999/NuMu.000999.i3.zst"
    assert plan.skipped[0].reason == f"no file matches '{missing}'"
    assert not plan.exclude_corrupted
    output = plan.files[0].output
    assert plan.outputs.paths(output) == (Path(f"{output}.hdf5"), Path(f"{output}.i3.bz2"))
    assert plan.outputs.i3_streams == ("Q", "P")
    assert plan.outputs.sub_event_streams == ("InIceSplit",)


def test_arguments_of_segments() -> None:
    source = "sim/IC86.2020/21536/0000000-0000999/NuTau.000001.i3.zst"
    touch([source, "gcd/GCD_2020.i3.gz"])
    plan = load_plan(write_config(SIMULATION), "data")
    weights, delete = plan.files[0].segments
    assert weights.module_class == "ic3_labels.weights.segments.WeightEvents"
    assert weights.kwargs == {
        "infiles": ["gcd/GCD_2020.i3.gz", source],
        "dataset_type": "NuGen",
        "dataset_n_files": 1,
        "dataset_n_events_per_run": -1,
        "dataset_number": "21536",
        "model": "flux_honda",
        "check_n_files": ["corsika", "{untouched}"],
        "OutputKey": "weights",
    }
    assert weights.where == f"create.yaml:{line_of(SIMULATION, 'ModuleClass: ' + chr(39) + 'ic3')}"
    assert delete.kwargs["Config"]["flavor"] == "NuTau"
    assert delete.kwargs["Config"]["run_number"] == 1
    # of the last step only, as the steps of ic3-processing are programs of their own
    assert plan.files[0].hdf5_keys == ("I3EventHeader", "rest")
    assert [segment.module_class for segment in plan.steps] == [weights.module_class, "Delete"]
    assert plan.steps[0].kwargs["model"] == "flux_{flux}"


def test_notices_of_keys_without_effect() -> None:
    touch(["gcd/GCD_2020.i3.gz"])
    touch(["sim/IC86.2020/21536/0000000-0000999/NuTau.000001.i3.zst"])
    text = SIMULATION.replace("        flux: 'honda',", "        flux: 'honda', write_i3: False,")
    notices = load_plan(write_config(text), "data").notices
    environment, step = notices
    assert {notice.level for notice in notices} == {"info"}
    listed = environment.text.rsplit(": ", 1)[1].split(", ")
    assert set(listed) == {
        *("keep_crashed_files", "resources", "dagman_max_jobs", "job_template", "cvmfs_python"),
        *("ld_library_path_prepends", "set_env_vars_from_python", "icetray_metaproject"),
    }
    line = line_of(text, "flux:")
    assert step.text.startswith(f"create.yaml:{line}: 'write_i3' has an effect only in")


def test_detector_data() -> None:
    first = [f"exp/2011/0630/Run00118435_Subrun{n}.i3.zst" for n in (0, 1, 10)]
    own = ["exp/own_a.i3.zst", "exp/own_b.i3.zst"]
    touch([*reversed(first), *own, "exp/GCD_118435.i3.gz", "exp/2011/0630/Run00117442_Subrun0.i3"])
    plan = load_plan(write_config(DETECTOR), "data")
    folder = "data/exp/IC86_2011/"
    assert files_of(plan) == {
        f"{folder}Run00118435/exp_IC86_2011_00118435.i3.zst": ["exp/GCD_118435.i3.gz", *first],
        f"{folder}Run00118437/exp_IC86_2011_00118437.i3.zst": ["exp/GCD_118435.i3.gz", *own],
    }
    (skipped,) = plan.skipped
    assert skipped.run_number == 118436
    assert skipped.reason == "the GCD file 'exp/GCD_118436.i3.gz' does not exist"


def test_good_run_lists_are_refused_with_a_remedy() -> None:
    text = DETECTOR.replace("season:", "exp_dataset_run_glob: 'Run????????'\n        season:")
    with pytest.raises(ConfigError, match=r"'exp_dataset_run_glob' is not supported.*'runs_list'"):
        load_plan(write_config(text), "data")
    text = DETECTOR.replace("'exp/GCD_118435.i3.gz'}", "GET_GCD_FROM_GRL}")
    line = line_of(text, "118435:")
    with pytest.raises(ConfigError, match=f"yaml:{line}: 'GET_GCD_FROM_GRL' is not supported"):
        load_plan(write_config(text), "data")


def test_cycler_is_a_product_and_folders_count_merged_runs() -> None:
    text = BASIC.replace(
        "cycler: {dataset_number: [5, 6]}", "cycler: {dataset_number: [5, 6], mass: [a, b]}"
    )
    text = text.replace("[0, 3]", "[9, 12, 2]").replace("{run_number:08d}", "{mass}{run_number:d}")
    text += "n_jobs_per_folder: 10\nn_runs_per_merge: 5\nfolder_offset: 7\n"
    text = re.sub(
        "folder_pattern: .*",
        "folder_pattern: '{folder_num}_{folder_num_pre_offset}_{folder_num_n_merged}_"
        "{folder_num_pre_offset_n_merged}'",
        text,
    )
    touch([f"in/{d}/Level2_{r:06d}.i3.zst" for d in (5, 6) for r in (9, 11)])
    plan = load_plan(write_config(text))
    # run 9: 9 // 10 = 0 and 45 // 10 = 4; run 11: 11 // 10 = 1 and 55 // 10 = 5
    assert [str(file.output) for file in plan.files] == [
        f"out/NuGen/{d}/{folder}/{d}_{mass}{run}"
        for d in (5, 6)
        for mass in "ab"
        for run, folder in ((9, "7_0_11_4"), (11, "8_1_12_5"))
    ]


def test_files_of_a_merge_and_the_gcd_file_among_them() -> None:
    text = BASIC.replace("Level2_{run_number:06d}", "*") + "gcd: in/5/GCD.i3.zst\n"
    text = text.replace("[0, 3]", "[1]").replace("[5, 6]", "[5]")
    touch(["in/5/b.i3.zst", "in/5/a.i3.zst", "in/5/GCD.i3.zst"])
    assert files_of(load_plan(write_config(text))) == {
        "out/NuGen/5/0000000-0000999/5_00000000.hdf5": [
            *("in/5/GCD.i3.zst", "in/5/a.i3.zst", "in/5/b.i3.zst")
        ]
    }


def test_single_steps_hand_on_files() -> None:
    source = "sim/IC86.2020/21536/0000000-0000999/NuTau.000001.i3.zst"
    touch([source, "gcd/GCD_2020.i3.gz"])
    config = write_config(SIMULATION)
    base = "data/NuGen/21536/0000000-0000999/NuGen_21536_00000001"
    first = load_plan(config, "data", step=0)
    assert files_of(first) == {f"{base}_step0000.i3.bz2": ["gcd/GCD_2020.i3.gz", source]}
    assert (first.outputs.i3, first.outputs.hdf5) == (True, False)
    assert [s.module_class.split(".")[-1] for s in first.files[0].segments] == ["WeightEvents"]
    with pytest.raises(DataError, match="step 0 has not made its file"):
        load_plan(config, "data", step=1)
    touch([f"{base}_step0000.i3.bz2"])
    second = load_plan(config, "data", step=1)
    assert files_of(second) == {f"{base}.hdf5": ["gcd/GCD_2020.i3.gz", f"{base}_step0000.i3.bz2"]}
    assert [s.module_class for s in second.files[0].segments] == ["Delete"]
    with pytest.raises(ConfigError, match="has no step 2: its steps are 0 to 1"):
        load_plan(config, "data", step=2)


def test_tutorial_makes_the_files_that_its_training_reads() -> None:
    text = (CONFIGS / "create_training_data.yaml").read_text().replace("{insert_DNN_HOME}", "home")
    touch(["home/level2/GeoCalibDetectorStatus.i3.gz"])
    folders = {0: "00000-00999", 999: "00000-00999", 1003: "01000-01999", 1007: "01000-01999"}
    runs = {
        run: f"home/level2/11883/{f}/Level2_NuMu.011883.{run:06d}" for run, f in folders.items()
    }
    touch(f"{name}.i3.{'gz' if run else 'zst'}" for run, name in runs.items())
    plan = load_plan(write_config(text))
    assert plan.notices == ()
    assert len(plan.skipped) == 1010 - len(runs)
    training = YAML(typ="safe").load(CONFIGS / "getting_started.yaml")
    keys = ("training_data_file", "validation_data_file", "test_data_file")
    globs = {key: training[key][0].replace("{insert_DNN_HOME}", "home") for key in keys}
    outputs = [str(plan.outputs.paths(file.output)[0]) for file in plan.files]
    split = {key: [o for o in outputs if fnmatch(o, glob)] for key, glob in globs.items()}
    assert split == {
        "training_data_file": outputs[:2],
        "validation_data_file": [outputs[2]],
        "test_data_file": [outputs[3]],
    }
    assert plan.files[0].hdf5_keys[-1] == "dnn_data"


def test_unknown_keys_that_no_pattern_names_are_reported() -> None:
    touch(INPUTS)
    text = BASIC.replace("data_type: NuGen", "data_type: NuGen\n    colour: blue\n    year: 2020")
    (notice,) = load_plan(write_config(text)).notices
    assert notice.unknown_key == "colour"
    assert notice.text.startswith(f"create.yaml:{line_of(text, 'colour')}: unknown key 'colour'")
    text = text.replace("in/{dataset", "in{colour}/{dataset").replace("blue", "''")
    assert load_plan(write_config(text)).notices == ()


CHANGES: list[tuple[str, str, str, str]] = [
    # what is replaced, by what, line of the message, message
    ("in_file_pattern:", "in_file_patern:", "in_file_patern", "did you mean 'in_file_pattern'?"),
    ("    runs_range:", "    runs_rnge:", "runs_rnge", "did you mean 'runs_range'?"),
    ("    runs_range: [0, 3]\n", "", "NuMu", "'runs_range' is missing"),
    ("out_file_pattern:", "other_pattern:", "NuMu", "'out_file_pattern' is missing"),
    ("[0, 3]", "[0, 3, 0]", "runs_range", "the step of 'runs_range' is 0"),
    ("[0, 3]", "[0, -3]", "runs_range", "'runs_range.1' is -3"),
    ("[0, 3]", "[0, 2000000]", "runs_range", "has 2,000,000 runs, but at most 1,000,000"),
    ("[0, 3]", "3", "runs_range", "'runs_range' is 3 (number); allowed: [end]"),
    ("NuGen", "NuGem", "data_type", "'data_type' is 'NuGem'; allowed: exp, nugen"),
    ("{dataset_number: [5, 6]}", "[5]", "cycler", "'cycler' is [5]"),
    ("[5, 6]", "5", "cycler", "'dataset_number' of 'cycler' is 5; allowed: a list"),
    ("[5, 6]", "[]", "cycler", "'dataset_number' of 'cycler' is []"),
    ("{run_number:06d}", "{run_number.real}", "in_file", "'{run_number.real}' in 'in/"),
    ("{run_number:06d}", "{dataset_number[0]}", "in_file", "is not a pattern"),
    ("{data_type}/", "{data_tipe}/", "out_dir", "no key 'data_tipe' is set"),
    (
        "'{dataset_number}_{run_number:08d}'",
        "'../../../../x/{run_number}'",
        "out_file",
        "is not inside the output folder",
    ),
    ("'{data_type}/{dataset_number}'", "/tmp", "out_file", "is not inside the output folder 'out'"),
    (
        "data_type: NuGen",
        "data_type: NuGen\n    write_i3: true",
        "write_i3",
        "move it out of 'datas",
    ),
    ("  - tray_segments:", "  - gcd: a\n    tray_segments:", "- gcd", "be the same for all steps"),
    ("data_type: NuGen", "data_type: NuGen\n    run_number: 3", "run_number", "is computed"),
    ("ModuleClass: Keep", "ModulClass: Keep", "- ModulClass", "Did you mean 'ModuleClass'?"),
    (
        "ModuleClass: Keep",
        "ModuleClass: 'a-b'",
        "- ModuleClass",
        "is 'a-b' (text); allowed: the do",
    ),
    ("      - ModuleClass: Keep\n        ", "      - ", "- ModuleKwargs", "has no 'ModuleClass'"),
    ("{Keys: [I3MCTree]}", "[1]", "ModuleKwargs", "allowed: a mapping of the segment's argum"),
    (
        "[I3MCTree]",
        "context-->ic3_processing.nfiles",
        "- ModuleClass",
        "There are context-->ic3_pr",
    ),
    ("[I3MCTree]", "'{Keys.x}'", "- ModuleClass", "'{Keys.x}' in '{Keys.x}' is not a pattern"),
    ("write_hdf5: true", "write_hdf5: yes it is", "write_hdf5", "allowed: true or false"),
    ("write_hdf5: true", "write_hdf5: false", "write_hdf5", "nothing would be written"),
    ("write_hdf5: true", "i3_ending: zip", "i3_ending", "allowed: i3.zst, i3.gz, i3.bz2, i3"),
    ("write_hdf5: true", "write_hdf5_kwargs: {Key: [a]}", "write_hdf5_k", "Did you mean 'Keys'?"),
    ("write_hdf5: true", "write_hdf5_kwargs: {Keys: 3}", "write_hdf5_k", "allowed: a name, or a"),
    (
        "write_hdf5: true",
        "write_i3_kwargs: {SkipKeys: [a]}",
        "write_i3_k",
        "unknown setting 'SkipK",
    ),
    (
        "write_hdf5: true",
        "write_i3_kwargs: {i3_streams: [QP]}",
        "write_i3_k",
        "'QP' is not a frame stop",
    ),
    ("write_hdf5: true", "n_jobs_per_folder: 7", "n_jobs", "allowed: 1, 10, 100, 1000 or 10000"),
    ("write_hdf5: true", "exclude_corrupted_input_files: 2", "exclude", "allowed: true or false"),
    (
        "write_hdf5: true",
        "run_number_settings: {7: {gcd: a}}",
        "run_number_s",
        "no entry for the run",
    ),
    (
        "write_hdf5: true",
        "run_number_settings: [7]",
        "run_number_s",
        "allowed: a mapping, number of",
    ),
    ("write_hdf5: true", "write_hdf5: true\nwrite_hdf5: false", "", "already defined"),
    ("data_folder: out\n", "", "", "no folder for the outputs is given: add the option --out"),
    ("  NuMu:\n", "  NuMu: 3\n  other:\n", "NuMu: 3", "allowed: a mapping of keys"),
]


@pytest.mark.parametrize(("old", "new", "line", "message"), CHANGES)
def test_mistakes_are_named_with_their_line(old: str, new: str, line: str, message: str) -> None:
    touch(INPUTS)
    assert old in BASIC
    text = BASIC.replace(old, new, 1)
    with pytest.raises(ConfigError) as error:
        load_plan(write_config(text))
    assert message in str(error.value)
    if line:
        assert f"create.yaml:{line_of(text, line)}: " in str(error.value)


@pytest.mark.parametrize("missing", ["datasets", "processing_steps"])
def test_missing_parts(missing: str) -> None:
    values: dict[str, Any] = YAML(typ="safe").load(BASIC)
    del values[missing]
    with Path("create.yaml").open("w") as file:
        YAML(typ="safe").dump(values, file)
    with pytest.raises(ConfigError, match=f"'{missing}' (is missing|must list)"):
        load_plan("create.yaml")


def test_wrong_settings_of_features_are_found_before_the_work() -> None:
    touch(INPUTS)
    kwargs = "{NumDataBins: 9, RelativeTimeMethod: time_range, DataFormat: total, PulsKey: x}"
    text = BASIC.replace("Keep", "ic3_data.segments.CreateDNNData").replace(
        "{Keys: [I3MCTree]}", kwargs
    )
    with pytest.raises(ConfigError, match=r"yaml:13: .*unknown setting 'PulsKey'.*'PulseKey'"):
        load_plan(write_config(text))


def test_outputs_with_the_same_name_are_refused() -> None:
    touch(INPUTS)
    text = BASIC.replace("'{data_type}/{dataset_number}'", "x").replace("{dataset_number}_", "")
    message = (
        r"two runs would write 'out/x/0000000-0000999/00000000': run 0 of 'NuMu' "
        r"\(in/5/Level2_000000.i3.zst\) and run 0 of 'NuMu' \(in/6/"
    )
    with pytest.raises(ConfigError, match=message):
        load_plan(write_config(text))


def test_outputs_that_are_inputs_are_refused() -> None:
    touch(INPUTS)
    text = BASIC.replace("out_dir_pattern: '{data_type}/", "out_dir_pattern: '").replace(
        "'{dataset_number}_{run_number:08d}'", "Level2_{run_number:06d}"
    )
    text = re.sub("folder_pattern: .*", "folder_pattern: ''", text) + "write_i3: true\n"
    with pytest.raises(ConfigError, match=r"'in/5/Level2_000000\.i3\.zst' .*is also an input"):
        load_plan(write_config(text), "in")


def test_nothing_to_do() -> None:
    with pytest.raises(DataError, match="all runs are skipped:\n  NuMu, run 0: no file matches"):
        load_plan(write_config(BASIC))
    with pytest.raises(DataError, match="there is no run"):
        load_plan(write_config(BASIC.replace("[0, 3]", "[3, 3]")))


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Key paths of all nested values."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    return [
        place
        for key, inner in entries
        for place in ([(*at, key)] + (_places(inner, (*at, key)) if _has_entries(inner) else []))
    ]


def _has_entries(value: Any) -> bool:
    return isinstance(value, dict | list)


_texts = st.sampled_from(["", "a", "{run_number}", "{x.y}", "<config>", "context-->a", "..", "\0"])
_plain = st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats() | _texts
_any = st.recursive(
    _plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([BASIC, SIMULATION, DETECTOR]), st.data())
def test_any_value_in_any_place_is_used_or_refused(text: str, data: st.DataObject) -> None:
    simulated = "sim/IC86.2020/21536/0000000-0000999/NuTau.000001.i3.zst"
    detector = ["exp/2011/0630/Run00118435_Subrun0.i3.zst", "exp/GCD_118435.i3.gz"]
    touch([*INPUTS, simulated, "gcd/GCD_2020.i3.gz", *detector])
    values = YAML(typ="safe").load(text)
    place = data.draw(st.sampled_from(_places(values)))
    target = values
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = data.draw(_any)
    with Path("any.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(values, file)
    with suppress(ConfigError, DataError):
        load_plan("any.yaml", "data")


def test_either_spelling_leaves_out_unreadable_files() -> None:
    touch(INPUTS)
    for key in ("exclude_corrupted_input_files", "filter_corrupted_files"):
        assert load_plan(write_config(f"{BASIC}{key}: true\n")).exclude_corrupted
