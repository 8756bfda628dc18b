"""The runs of the data sets of a config, and the values that the keys have for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Annotated, Any, Literal

from pydantic.dataclasses import dataclass as settings

from dnn_reco.config.sources import KeyPath
from dnn_reco.config.typed_settings import STRICT
from dnn_reco.config.value_types import Allowed, PositiveWholeNumber, Text, WholeNumber
from dnn_reco.config.yaml_file import YamlFile
from dnn_reco.data_creation.plan.checked import AnyText, PatternList, RunList, RunRange, checked
from dnn_reco.data_creation.plan.keys import CYCLER, DATASETS, RUN_SETTINGS, dataset_mappings
from dnn_reco.data_creation.plan.patterns import PatternFiller
from dnn_reco.errors import ConfigError

_DATA_TYPES = ("exp", "nugen", "corsika", "muongun", "misc")
_MOST_RUNS = 1_000_000
_FolderSize = Annotated[Literal[1, 10, 100, 1000, 10_000], Allowed("1, 10, 100, 1000 or 10000")]


@settings(frozen=True, config=STRICT)
class RunKeys:
    """Keys that decide on the files of a run; see `docs/how-to/create_training_data.md`."""

    in_file_pattern: PatternList
    out_file_pattern: Text
    out_dir_pattern: AnyText = ""
    folder_pattern: AnyText = ""
    folder_offset: WholeNumber = 0
    n_jobs_per_folder: _FolderSize = 1000
    n_runs_per_merge: PositiveWholeNumber = 1
    gcd: AnyText | None = None
    data_type: Text | None = None


_DEFAULTS = {
    each.name: each.default for each in fields(RunKeys) if isinstance(each.default, int | str)
}
"""Values of keys that patterns may name though they are not set."""


@settings(frozen=True, config=STRICT)
class _RunChoice:
    """Keys that choose the numbers of the runs."""

    runs_range: RunRange | None = None
    runs_list: RunList | None = None
    runs_to_ignore: RunList | None = None


@dataclass(frozen=True)
class Values:
    """Values of keys, of which each may stand in several places: the last of them counts.

    Attributes
    ----------
    file
        The config.
    dataset
        Key path of the data set.
    layers
        The places: key path and mapping.
    """

    file: YamlFile
    dataset: KeyPath
    layers: tuple[tuple[KeyPath, Mapping[str, Any]], ...]

    def merged(self) -> dict[str, Any]:
        """Value of each key."""
        return {key: value for _, layer in self.layers for key, value in layer.items()}

    def where(self, at: KeyPath) -> str:
        """File and line of a key; without key that of the data set."""
        places = [place for place, layer in self.layers if at and at[0] in layer]
        return self.file.where((*(places[-1] if places else self.dataset), *at))

    def with_layer(self, at: KeyPath, layer: Mapping[str, Any]) -> Values:
        """The same with one place more, which wins."""
        return replace(self, layers=(*self.layers, (at, layer)))


@dataclass(frozen=True)
class Run:
    """A run.

    Attributes
    ----------
    dataset
        Name of its data set.
    number
        Its number.
    keys
        Its keys.
    values
        Values of all keys, with those that are computed for the run.
    """

    dataset: str
    number: int
    keys: RunKeys
    values: Values

    def filler(self, further: Mapping[str, Any] | None = None) -> PatternFiller:
        """What fills patterns; `further` values win over those of the run."""
        values = {**self.values.merged(), **(further or {})}
        return PatternFiller(values, lambda key: self.values.where((key,)))


def read_runs(file: YamlFile) -> Iterator[Run]:
    """All runs of all data sets, in the order of the config.

    A data set has the runs of `runs_list`, else those of `runs_range`, once for each combination of
    the values in its `cycler`.

    Raises
    ------
    ConfigError
        Naming the key that is missing or wrong.
    """
    for name, dataset in dataset_mappings(file).items():
        at = (DATASETS, name)
        whole = Values(file, at, (((), _DEFAULTS), ((), file.values), (at, dataset)))
        for combination in _combinations(whole, dataset.get(CYCLER)):
            values = whole.with_layer((*at, CYCLER), combination)
            for number in _run_numbers(values):
                yield _run(name, number, values)


def _combinations(values: Values, cycler: Any) -> Iterable[Mapping[str, Any]]:
    """Each combination of the values of a cycler; the last of its keys varies fastest."""
    if cycler is None:
        return [{}]
    where = values.where((CYCLER,))
    if not isinstance(cycler, Mapping):
        raise ConfigError(f"{where}: '{CYCLER}' is {cycler!r}; allowed: a mapping key: [values]")
    for key, entries in cycler.items():
        if not isinstance(key, str) or not isinstance(entries, list) or not entries:
            raise ConfigError(
                f"{values.where((CYCLER, str(key)))}: '{key}' of '{CYCLER}' is {entries!r}; "
                "allowed: a list of values"
            )
    return (dict(zip(cycler, entries, strict=True)) for entries in product(*cycler.values()))


def _run_numbers(values: Values) -> Sequence[int]:
    choice = checked(_RunChoice, values.merged(), values.where)
    if choice.runs_list is not None:
        chosen: Sequence[int] = choice.runs_list
        key = "runs_list"
    elif choice.runs_range is not None:
        key = "runs_range"
        if len(choice.runs_range) == 3 and choice.runs_range[2] == 0:
            raise ConfigError(f"{values.where((key,))}: the step of 'runs_range' is 0")
        chosen = range(*choice.runs_range)
    else:
        raise ConfigError(
            f"{values.where(())}: 'runs_range' is missing: the numbers of the first run and of "
            "that after the last, such as [0, 1000]; or 'runs_list'"
        )
    if len(chosen) > _MOST_RUNS:
        raise ConfigError(
            f"{values.where((key,))}: '{key}' has {len(chosen):,} runs, but at most "
            f"{_MOST_RUNS:,} are possible"
        )
    ignored = frozenset(choice.runs_to_ignore or ())
    return [number for number in chosen if number not in ignored]


def _run(dataset: str, number: int, values: Values) -> Run:
    """A run with its own keys and those that are computed."""
    values = _with_own_settings(values, number)
    keys = checked(RunKeys, values.merged(), values.where)
    if keys.data_type is not None and keys.data_type.lower() not in _DATA_TYPES:
        raise ConfigError(
            f"{values.where(('data_type',))}: 'data_type' is {keys.data_type!r}; allowed: "
            f"{', '.join(_DATA_TYPES)}, in any case"
        )
    folder = number // keys.n_jobs_per_folder
    merged = keys.n_runs_per_merge * number // keys.n_jobs_per_folder
    computed = {
        "dataset_name": dataset,
        "run_number": number,
        "folder_num_pre_offset": folder,
        "folder_num": keys.folder_offset + folder,
        "folder_num_pre_offset_n_merged": merged,
        "folder_num_n_merged": keys.folder_offset + merged,
    }
    return Run(dataset, number, keys, values.with_layer((), computed))


def _with_own_settings(values: Values, number: int) -> Values:
    """The values with those that `run_number_settings` gives for one run."""
    own = values.merged().get(RUN_SETTINGS)
    if own is None:
        return values
    where = values.where((RUN_SETTINGS,))
    expected = "a mapping, number of a run: mapping of its keys"
    if not isinstance(own, Mapping):
        raise ConfigError(f"{where}: '{RUN_SETTINGS}' is {own!r}; allowed: {expected}")
    if number not in own:
        raise ConfigError(f"{where}: '{RUN_SETTINGS}' has no entry for the run {number}")
    entry = own[number]
    if not isinstance(entry, Mapping) or not all(isinstance(key, str) for key in entry):
        raise ConfigError(
            f"{values.where((RUN_SETTINGS, str(number)))}: the entry of run {number} is {entry!r}; "
            f"allowed: {expected}"
        )
    at = max((place for place, layer in values.layers if RUN_SETTINGS in layer), key=len)
    return values.with_layer((*at, RUN_SETTINGS, str(number)), entry)
