"""Keys of a config of data creation: where each belongs, and those that are unknown."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from dnn_reco.config.sources import KeyPath, Notice
from dnn_reco.config.yaml_file import YamlFile
from dnn_reco.data_creation.plan.patterns import pattern_names
from dnn_reco.errors import ConfigError
from dnn_reco.suggestions import misspelling_of, nearest

DATASETS, STEPS, SEGMENTS = "datasets", "processing_steps", "tray_segments"
CYCLER, RUN_SETTINGS = "cycler", "run_number_settings"

RUN_KEYS = (
    *("in_file_pattern", "out_file_pattern", "out_dir_pattern", "folder_pattern"),
    *("folder_offset", "n_jobs_per_folder", "n_runs_per_merge", "gcd", "data_type"),
    *("runs_range", "runs_list", "runs_to_ignore", RUN_SETTINGS),
)
"""Keys that decide on files: of the whole config, or of a data set."""

WRITE_KEYS = ("write_i3", "write_i3_kwargs", "write_hdf5", "write_hdf5_kwargs")
"""Keys about what is written: of the whole config, or of a step."""

EXCLUDE_KEYS = ("exclude_corrupted_input_files", "filter_corrupted_files")
"""Two spellings of one key."""

WHOLE_KEYS = (DATASETS, STEPS, "data_folder", "i3_ending", *EXCLUDE_KEYS)
"""Keys of the whole config only."""

COMPUTED_KEYS = (
    *("run_number", "dataset_name", "folder_num", "folder_num_pre_offset"),
    *("folder_num_n_merged", "folder_num_pre_offset_n_merged"),
)
"""Names in patterns that are computed for each run."""

DESCRIPTIONS = ("year", "season", "flavor", "n_events_per_run")
"""Keys of IceCube's configs that only patterns read, and that may be unused."""

ENVIRONMENT_KEYS = (
    *("keep_crashed_files", "resources", "dagman_max_jobs", "dagman_submits_interval"),
    *("dagman_scan_interval", "dagman_submit_delay", "processing_scratch", "merge_files"),
    *("job_template", "script_name", "script_folder", "cvmfs_python", "icetray_metaproject"),
    *("python_user_base", "python_user_base_cpu", "python_user_base_gpu", "cuda_home"),
    *("ld_library_path_prepends", "python_package_imports", "set_env_vars_from_python"),
    *("check_existing_input", "n_runs"),
)
"""Keys about batch jobs and software environments, without effect here."""

WEIGHT_KEYS = ("skip_meta_data_tracking", "n_files_is_n_runs", "dataset_n_events_per_run")
"""Keys about the count of merged files in weights, without effect here."""

GOOD_RUN_KEYS = (
    *("exp_dataset_run_glob", "exp_dataset_grl_paths", "exp_dataset_filter", "exp_dataset_years"),
    *("exp_dataset_months", "exp_dataset_days", "exp_data_warn_missing", "get_run_info_kwargs"),
)
"""Keys that choose runs by lists of good runs, which is not supported."""

_KNOWN = (
    *(*RUN_KEYS, *WRITE_KEYS, *WHOLE_KEYS, *DESCRIPTIONS, *ENVIRONMENT_KEYS, *WEIGHT_KEYS),
    *(CYCLER, SEGMENTS, *GOOD_RUN_KEYS),
)


def check_keys(file: YamlFile) -> list[Notice]:
    """Check that the keys of a config are known, and stand where they have an effect.

    Each unknown key may be the value of a pattern. One that no pattern names is an error if it
    differs in at most two letters from a known key that is not set, otherwise a warning.

    Returns
    -------
    notices
        Unknown keys, and those without effect.

    Raises
    ------
    ConfigError
        Naming each misspelt and each misplaced key, and where it stands first.
    """
    written = list(_written_keys(file))
    problems: dict[str, str] = {}
    for at in written:
        if text := _misplaced(file, at):
            problems.setdefault(str(at[-1]), text)
    unknown = _unknown(file, written)
    names = {str(at[-1]) for at in written}
    unset = [key for key in _KNOWN if key not in names]
    notices = []
    for key, at in unknown.items():
        text = f"{file.where(at)}: unknown key '{key}'"
        if meant := misspelling_of(key, unset):
            problems[key] = f"{text}: did you mean '{meant}'?"
        elif "<config>" not in _segment_arguments(file):
            text += f", which no pattern names; the nearest known key is '{nearest(key, _KNOWN)}'"
            notices.append(Notice("warning", text, unknown_key=key))
    if problems:
        raise ConfigError("\n".join(problems.values()))
    return [*_without_effect(file, written), *notices]


def _unknown(file: YamlFile, written: Collection[KeyPath]) -> dict[str, KeyPath]:
    """Unknown keys that no pattern names, each with the place where it stands first."""
    used = {*_KNOWN, *COMPUTED_KEYS, *pattern_names(dict(file.values))}
    places: dict[str, KeyPath] = {}
    for at in written:
        if str(at[-1]) not in used:
            places.setdefault(str(at[-1]), at)
    return places


def _written_keys(file: YamlFile) -> Iterator[KeyPath]:
    """Key paths of all keys that are values of runs: of the config, data sets, cyclers, steps."""
    places: list[tuple[KeyPath, Mapping[str, Any]]] = [((), file.values)]
    places += [((DATASETS, name), each) for name, each in dataset_mappings(file).items()]
    for at, place in places:
        yield from _keys_below(at, place)
        own = place.get(RUN_SETTINGS)
        for number, entry in own.items() if isinstance(own, Mapping) else ():
            yield from _keys_below((*at, RUN_SETTINGS, str(number)), entry)
        if at:
            yield from _keys_below((*at, CYCLER), place.get(CYCLER))
    for at, step in file.mappings((), file.values, STEPS):
        yield from _keys_below(at, step)


def _keys_below(at: KeyPath, value: Any) -> Iterator[KeyPath]:
    """Key paths of the keys of a mapping; none if the value is something else."""
    if isinstance(value, Mapping):
        yield from ((*at, str(key)) for key in value)


def dataset_mappings(file: YamlFile) -> dict[str, Mapping[str, Any]]:
    """The data sets of a config by name.

    Raises
    ------
    ConfigError
        If there is none, or one is no mapping of keys.
    """
    datasets = file.values.get(DATASETS)
    expected = "a mapping, name of a data set: mapping of its keys"
    if DATASETS not in file.values:
        raise ConfigError(f"{file.path}: the key '{DATASETS}' is missing: {expected}")
    if not isinstance(datasets, Mapping) or not datasets:
        raise file.wrong((DATASETS,), datasets, expected)
    for name, dataset in datasets.items():
        if not isinstance(dataset, Mapping) or not all(isinstance(key, str) for key in dataset):
            raise file.wrong((DATASETS, str(name)), dataset, "a mapping of keys")
    return {str(name): dataset for name, dataset in datasets.items()}


def _segment_arguments(file: YamlFile) -> list[Any]:
    """Values of all arguments of segments."""
    segments = [
        segment
        for at, step in [((), file.values), *file.mappings((), file.values, STEPS)]
        for _, segment in file.mappings(at, step, SEGMENTS)
    ]
    arguments = [segment.get("ModuleKwargs") for segment in segments]
    return [v for each in arguments if isinstance(each, Mapping) for v in each.values()]


def _misplaced(file: YamlFile, at: KeyPath) -> str:
    """The problem of a key that stands where it must not; empty if there is none."""
    key, inside = str(at[-1]), at[0] if len(at) > 1 else None
    text = f"{file.where(at)}: '{key}'"
    if key in COMPUTED_KEYS:
        return f"{text} is computed for each run: choose another name"
    if key == GOOD_RUN_KEYS[0]:
        return (
            f"{text} is not supported: choose the runs of detector data by 'runs_list', and give "
            f"their 'gcd' and 'in_file_pattern' in '{RUN_SETTINGS}'"
        )
    whole_only = (*WHOLE_KEYS, *WRITE_KEYS, SEGMENTS)
    if inside in (DATASETS, RUN_SETTINGS) and key in whole_only:
        return f"{text} must be the same for all runs: move it out of '{inside}'"
    if inside == STEPS and key in (*RUN_KEYS, *WHOLE_KEYS, CYCLER):
        return f"{text} must be the same for all steps: move it out of '{STEPS}'"
    return ""


def _without_effect(file: YamlFile, written: Collection[KeyPath]) -> list[Notice]:
    """One message for each group of keys that have no effect here."""
    names = {str(at[-1]) for at in written}
    groups = {
        "concern batch jobs and software environments": ENVIRONMENT_KEYS,
        "concern the count of merged files in weights, which are not changed": WEIGHT_KEYS,
        "belong to 'exp_dataset_run_glob', which is not set": GOOD_RUN_KEYS,
    }
    notices = []
    for reason, keys in groups.items():
        if found := [key for key in keys if key in names]:
            text = f"{file.path}: without effect here, as they {reason}: {', '.join(found)}"
            notices.append(Notice("info", text, only_in_checks=True))
    if CYCLER in file.values:
        where = file.where((CYCLER,))
        text = f"{where}: '{CYCLER}' has no effect outside of a data set"
        notices.append(Notice("warning", text))
    return notices
