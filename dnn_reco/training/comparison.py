"""The configs that take part in a comparison, and whether they can be compared."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dnn_reco.config import TRAFO_KEYS, TRAINING_KEYS, Config, load_config
from dnn_reco.data.overlap import quoted_paths, refuse_overlap, resolved_paths
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.files import find_files, write_atomically
from dnn_reco.foreign_files import parse_json

_log = logging.getLogger(__name__)

_CONFIG, _TIME = "config.yaml", "training_time.json"
_ITERATIONS = "num_training_iterations"
# What may change between two calls: where things are, and what does not change the training.
_FREE_KEYS = {
    *("model_checkpoint_path", "log_path", "trafo_model_path", "data_cache_dir"),
    *("num_jobs", "trafo_num_jobs", "test_data_file"),
}


@dataclass(frozen=True)
class ComparisonRun:
    """One of the trainings that are compared.

    Attributes
    ----------
    name
        Its name in tables and figures.
    folder
        Where its training writes.
    paths
        Its config files.
    overrides
        Values that replace those of the files: above all, it writes in that folder alone.
    cache_dir
        Folder of its event store.
    """

    name: str
    folder: Path
    paths: tuple[Path, ...]
    overrides: Mapping[str, Any]
    cache_dir: str

    @cached_property
    def config(self) -> Config:
        """The config of the run."""
        return self.changed_config()

    def changed_config(self, **overrides: Any) -> Config:
        """The config, with more values replaced."""
        return load_config(self.paths, {**self.overrides, **overrides})

    def files(self, key: str) -> list[Path]:
        """The files that a key of the config matches."""
        return find_files(getattr(self.config.data_files, key), key)

    def previous_config(self) -> Config | None:
        """The config with which the training was begun in an earlier call; None: it was not."""
        path = self.folder / _CONFIG
        return load_config([path]) if path.exists() else None

    def fix_config(self, iterations: int) -> None:
        """Set the length of the training, and keep its config for later calls."""
        config = self.changed_config(**{_ITERATIONS: iterations})
        text = f"# What '{self.name}' is trained with.\n{config.to_yaml()}"
        write_atomically(self.folder / _CONFIG, text.encode())

    def fixed_config(self) -> Config:
        """The config with the length that was set."""
        previous_config = self.previous_config()
        assert previous_config is not None
        return previous_config

    @property
    def seconds(self) -> float:
        """Seconds that its training took so far."""
        path = self.folder / _TIME
        return float(_kept_numbers(path, "seconds")["seconds"] or 0) if path.exists() else 0.0

    def add_seconds(self, seconds: float) -> None:
        """Add to the time that its training took."""
        content = json.dumps({"seconds": self.seconds + seconds})
        write_atomically(self.folder / _TIME, content.encode())


def make_runs(
    configs: Sequence[Config],
    out: Path,
    seed: int | None,
    test_data: Sequence[str],
    cache_dir: str | None,
) -> list[ComparisonRun]:
    """The configs as entries of a comparison.

    Parameters
    ----------
    configs
        As the user wrote them.
    out
        Folder of the comparison.
    seed
        Seed of all trainings; None: that of the first config.
    test_data
        Glob patterns of the held-out files; empty: those of the configs.
    cache_dir
        Folder of the event store; None: that of each config.

    Raises
    ------
    ConfigError
        If two have one name, or one cannot take part.
    """
    runs: list[ComparisonRun] = []
    for config in configs:
        config.require(*TRAFO_KEYS, *(key for key in TRAINING_KEYS if key != _ITERATIONS))
        if not test_data:
            config.require("test_data_file")
        _refuse_stages(config)
        name = config.paths[-1].stem  # such as of data.yaml+network.yaml
        folder = out.resolve() / name
        store = Path(cache_dir or config.event_store).resolve()
        overrides: dict[str, Any] = {
            "model_checkpoint_path": folder / "model",
            "log_path": folder / "logs",
            "trafo_model_path": folder / "trafo_model.npy",
            "data_cache_dir": store,
            "model_restore_model": True,
            "model_save_model": True,
            "early_stopping_patience": None,  # each uses its whole budget
            "seed": configs[0].seed if seed is None else seed,
            _ITERATIONS: config.values().get(_ITERATIONS) or 1,
        }
        if test_data:
            overrides["test_data_file"] = list(test_data)
        runs.append(ComparisonRun(name, folder, config.paths, overrides, str(store)))
    _refuse_equal_names(runs)
    return runs


def _refuse_stages(config: Config) -> None:
    if config.training.training_stages:
        raise ConfigError(
            f"'{config.name}' has training_stages, each with its own length, so the budgets "
            "cannot be equalised: describe the training without stages, for example by a "
            "learning-rate schedule over '{num_training_iterations}'"
        )


def _refuse_equal_names(runs: Sequence[ComparisonRun]) -> None:
    by_name: dict[str, ComparisonRun] = {}
    for run in runs:
        other = by_name.setdefault(run.name, run)
        if other is not run:
            paths = " and ".join(", ".join(map(str, each.paths)) for each in (other, run))
            raise ConfigError(
                f"{paths} would both be called '{run.name}' in the comparison: rename one of them"
            )


def check_files(runs: Sequence[ComparisonRun], allow_overlap: bool) -> None:
    """Check that all train on the same files and hold out the same others.

    Raises
    ------
    DataError
        Naming the configs and the files.
    """
    first, *others = runs
    for key in ("training_data_file", "validation_data_file", "test_data_file"):
        wanted = resolved_paths(first.files(key))
        for other in others:
            found = resolved_paths(other.files(key))
            if found != wanted:
                raise DataError(
                    f"'{first.name}' and '{other.name}' do not have the same files in {key}, so "
                    f"they cannot be compared:\n{_only_in(first.name, wanted - found)}"
                    f"{_only_in(other.name, found - wanted)}"
                    + ("Give one list for all with --test-data" if key[:4] == "test" else "")
                )
    trained_on = first.files("training_data_file")
    for key in ("validation_data_file", "test_data_file"):
        refuse_overlap(trained_on, first.files(key), allow_overlap, key)


def _only_in(name: str, files: set[Path]) -> str:
    return f"only in '{name}': {quoted_paths(files)}\n" if files else ""


def check_unchanged(run: ComparisonRun, previous_config: Config) -> None:
    """Check that a training that was begun earlier is the one that is asked for.

    Raises
    ------
    ConfigError
        Naming the keys that changed.
    """
    before = previous_config.values()
    now = run.changed_config(**{_ITERATIONS: before[_ITERATIONS]}).values()
    changed = [
        f"  {key}: {before.get(key)!r} before, {now.get(key)!r} now"
        for key in sorted(before.keys() | now.keys())
        if key not in _FREE_KEYS and before.get(key) != now.get(key)
    ]
    if changed:
        listed = "\n".join(changed)
        raise ConfigError(
            f"'{run.folder}' holds a training of '{run.name}' with different settings:\n{listed}\n"
            "Choose another folder with --out, or remove that one to train again"
        )


def _kept_numbers(path: Path, *keys: str) -> dict[str, float | None]:
    """Numbers of a JSON file that an earlier call wrote.

    Raises
    ------
    DataError
        If the file is damaged.
    """
    try:
        found = parse_json(path.read_bytes())
        return {key: None if found[key] is None else float(found[key]) for key in keys}
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"'{path}' is damaged ({error!r}): restore it, or choose another folder with --out"
        ) from error


def check_budget(out: Path, seconds: float | None, iterations: int | None) -> None:
    """Check that trainings in a folder have the same budget, and keep it for later calls.

    Raises
    ------
    ConfigError
        If they were begun with another one.
    """
    path = out / "budget.json"
    budget = {"seconds": seconds, "iterations": iterations}
    if path.exists():
        before = _kept_numbers(path, *budget)
        if before != budget:
            given = ", ".join(f"--{key} {value:g}" for key, value in before.items() if value)
            raise ConfigError(
                f"the trainings in '{out}' were started with {given}: continue with the same, or "
                "choose another folder with --out"
            )
    write_atomically(path, json.dumps(budget).encode())


def _optimizer_settings(config: Config) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and settings of all optimizers."""
    for name, entry in config.optimizers.items():
        yield name, entry.optimizer_settings
        for part, other in entry.other_optimizers.items():
            yield f"{name}/{part}", other.optimizer_settings


def warn_of_fixed_schedules(run: ComparisonRun) -> None:
    """Warn of learning rates whose schedule does not follow the number of iterations."""
    short, long = (
        {
            name: settings.get("learning_rate", settings.get("lr"))
            for name, settings in _optimizer_settings(run.changed_config(**{_ITERATIONS: length}))
        }
        for length in (1000, 2000)
    )
    fixed = [
        name
        for name, rate in long.items()
        if not isinstance(rate, int | float | None) and short[name] == rate
    ]
    if fixed:
        _log.warning(
            "'%s': the learning rate of %s does not depend on the length of this training. Write "
            "'{num_training_iterations}' for its number of steps, so that it ends with the budget.",
            run.name,
            ", ".join(fixed),
        )
