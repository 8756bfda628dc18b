"""`evaluate`: trained networks, alone and together, on events that they never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dnn_reco.checkpoint_file import latest_iterations
from dnn_reco.config import Config
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.evaluation.comparison_report import TrainingCost
from dnn_reco.evaluation.held_out import (
    TrainedModel,
    check_comparable,
    check_ensemble,
    evaluate,
    open_held_out,
    trained_by,
    trained_labels,
)
from dnn_reco.files import find_files
from dnn_reco.inference.model_folder import CONFIG_FILE, load_model_folder
from dnn_reco.nn.device import choose_device
from dnn_reco.training.comparison import refuse_overlap
from dnn_reco.workers import available_cpus


@dataclass(frozen=True)
class EvaluateSettings:
    """How to evaluate.

    Attributes
    ----------
    test_data
        Glob patterns of the held-out files; empty: `test_data_file` of the first network.
    checkpoints
        How many of the newest checkpoints of a training are taken together.
    ensemble
        Whether all networks together are evaluated as one more.
    allow_overlap
        Whether files may be held out that a network was trained on.
    allow_code
        Packages whose code model folders may name.
    out
        Folder to write to.
    device
        Where to predict.
    num_threads
        CPU threads; 0: all there are.
    cache_dir
        Folder of the event store; None: that of each config.
    """

    test_data: tuple[str, ...]
    checkpoints: int
    ensemble: bool
    allow_overlap: bool
    allow_code: tuple[str, ...]
    out: Path
    device: str
    num_threads: int
    cache_dir: str | None


@dataclass(frozen=True)
class _Candidate:
    """A network that is to be evaluated: its config, the network, and what it took to train it."""

    config: Config
    trained: TrainedModel
    cost: TrainingCost


def run_evaluate(networks: Sequence[tuple[Config, ...] | Path], settings: EvaluateSettings) -> None:
    """Evaluate trained networks on the same events, and tell.

    Parameters
    ----------
    networks
        Model folders, and trainings: the config of each stage.
    settings
        How to evaluate.
    """
    candidates = [_load(each, settings) for each in networks]
    names = [each.trained.name for each in candidates]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two of the networks would be called '{name}': rename one of them")
    if settings.ensemble:
        check_ensemble(names)
    configs = [each.config for each in candidates]
    files = _held_out_files(configs, settings)
    threads = settings.num_threads or available_cpus()
    held_out = [
        open_held_out(config, files, _store(each, config, settings), threads)
        for each, config in zip(networks, configs, strict=True)
    ]
    check_comparable(names, held_out, settings.ensemble)
    trained = [each.trained for each in candidates]
    costs = [each.cost for each in candidates]
    evaluate(trained, costs, held_out, settings.ensemble, threads, settings.out)


def _load(network: tuple[Config, ...] | Path, settings: EvaluateSettings) -> _Candidate:
    device = choose_device(settings.device)
    if isinstance(network, Path):
        model = load_model_folder(network, device, settings.allow_code)
        labels = trained_labels(model.config, model.spec)
        trained = TrainedModel(network.resolve().name, labels, model.spec, model.network)
        return _Candidate(
            model.config, trained, TrainingCost(None, None, None, trained.num_weights)
        )
    *earlier, config = network
    config.require("model_checkpoint_path", "trafo_model_path")
    iterations = latest_iterations(Path(config.model.model_checkpoint_path))
    for stage in reversed(earlier):  # a training may not have come to its last stage
        if iterations <= stage.training.num_training_iterations:
            config = stage
    trained = trained_by(config, _name(config.paths[-1]), device, settings.checkpoints)
    num_events = None if earlier else iterations * config.general.batch_size
    return _Candidate(
        config, trained, TrainingCost(iterations, num_events, None, trained.num_weights)
    )


def _name(path: Path) -> str:
    """What the network of a config is called: as its file, or folder where that says nothing."""
    return path.resolve().parent.name if path.name == CONFIG_FILE else path.stem


def _held_out_files(configs: Sequence[Config], settings: EvaluateSettings) -> list[Path]:
    """The files of the held-out events, which no network has seen."""
    if not settings.test_data:
        configs[0].require("test_data_file")
    patterns = settings.test_data or configs[0].data_files.test_data_file
    files = find_files(patterns, "test_data_file")
    for config in configs:
        try:
            seen = find_files(config.data_files.training_data_file, "training_data_file")
        except DataError:
            continue  # it was trained elsewhere
        refuse_overlap(seen, files, settings.allow_overlap)
    return files


def _store(network: tuple[Config, ...] | Path, config: Config, settings: EvaluateSettings) -> str:
    """Folder of the event store; that of a model folder may have been on another machine."""
    if settings.cache_dir:
        return settings.cache_dir
    elsewhere = isinstance(network, Path) and not config.event_store.is_dir()
    return str(settings.out / "event_store" if elsewhere else config.event_store)
