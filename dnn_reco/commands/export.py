"""`export`: a trained network as a model folder, with all that is needed to apply it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from dnn_reco.checkpoint_file import load_named
from dnn_reco.commands.output import print_note
from dnn_reco.config import Config, stage_at
from dnn_reco.data.data_settings import DataSettings, check_data_settings, check_same_settings
from dnn_reco.data.from_config import hits_settings
from dnn_reco.data.overlap import files_if_any, recorded_configs
from dnn_reco.errors import DataError, DnnRecoError, ModelError
from dnn_reco.event_sources import event_file, read_events, recorded_settings
from dnn_reco.files import find_files
from dnn_reco.inference.backend import Backend
from dnn_reco.inference.export import (
    DATA_SETTINGS_FILE,
    ExportedNetwork,
    exported_model,
    folder_contents,
    load_networks,
    load_training_settings,
    record_files,
    training_summary,
)
from dnn_reco.inference.golden import (
    GOLDEN_FILE,
    TOLERANCE,
    GoldenAnswers,
    golden_answers,
)
from dnn_reco.inference.model_card import CARD_FILE, model_card
from dnn_reco.inference.model_folder import refuse_existing, write_model_folder
from dnn_reco.inference.onnx_graph import HITS_GRAPH, QUANTIZED_GRAPH
from dnn_reco.inference.prediction_table import Status
from dnn_reco.inference.reconstructor import input_status
from dnn_reco.inference.signature import read_private_key, sign_folder
from dnn_reco.inference.torch_backend import TorchBackend
from dnn_reco.inference.trained_model import TrainedModel, model_info
from dnn_reco.inference.triton import refuse_existing_triton_model, write_triton_repository

_log = logging.getLogger(__name__)

_MOST_EVENTS = 1000  # of a file with frames, where golden answers are taken from
_HELD_OUT_FIRST = ("test_data_file", "validation_data_file", "training_data_file")


@dataclass(frozen=True)
class ExportSettings:
    """What to export, and where to.

    Attributes
    ----------
    output
        The model folder.
    data_settings
        YAML file with the settings of the training data; None: the record in the training files.
    checkpoints
        Names of the checkpoints: `latest`, `best` or iterations; several make an ensemble.
    logs
        Whether the logs of the training go along.
    golden_events
        Number of events that are kept with their predictions.
    golden_from
        Pattern of the event files that they are taken from; None: held-out files of the config.
    about
        Text (Markdown) that the model card begins with; None: no such text.
    onnx
        Whether ONNX graphs of the model are written.
    quantize
        Whether a graph with 8-bit weights is also written.
    triton
        Triton model repository to add the model to; None: to none.
    sign
        Private key to sign the folder with.
    overwrite
        Whether a model folder that is there is replaced, and the model in the Triton repository.
    """

    output: Path
    data_settings: Path | None = None
    checkpoints: tuple[str, ...] = ("latest",)
    logs: bool = True
    golden_events: int = 32
    golden_from: str | None = None
    about: Path | None = None
    onnx: bool = False
    quantize: bool = False
    triton: Path | None = None
    sign: Path | None = None
    overwrite: bool = False

    @property
    def with_graphs(self) -> bool:
        """Whether ONNX graphs are needed."""
        return self.onnx or self.quantize or self.triton is not None


def run_export(trainings: Sequence[Sequence[Config]], settings: ExportSettings) -> None:
    """Export the network of a training, or the ensemble of several, to a model folder.

    Parameters
    ----------
    trainings
        The config of each stage of each training.
    settings
        What to export, and where to.
    """
    refuse_existing(settings.output, settings.overwrite)
    name = settings.output.resolve().name
    if settings.triton is not None:
        refuse_existing_triton_model(settings.triton, name, settings.overwrite)
    key = None if settings.sign is None else read_private_key(settings.sign)
    about = "" if settings.about is None else _about(settings.about)
    networks = [
        network
        for stages in trainings
        for checkpoint in settings.checkpoints
        for network in load_networks(_config_of(stages, checkpoint), [checkpoint])
    ]
    config = networks[0].config
    data_settings = _data_settings([each.config for each in networks], settings.data_settings)
    model = exported_model(name, networks, data_settings)
    backend = TorchBackend(model)
    golden = _golden_answers(config, backend, settings)
    graphs = _graphs(model, settings.quantize) if settings.with_graphs else {}
    deviations = _deviations(model, graphs, golden)
    files = {**_files(model, networks, golden, settings.logs, about), **graphs}
    contents = folder_contents(model, networks, files, deviations)
    write_model_folder(settings.output, contents, settings.overwrite)
    if key is not None:
        sign_folder(settings.output, key)
    if settings.triton is not None:
        graph = graphs[HITS_GRAPH]
        place = write_triton_repository(settings.triton, backend.info, graph, settings.overwrite)
        print_note(f"Model of the Triton repository: {place}")
    print_note("\n====================================")
    print_note("= Successfully exported model to:  =")
    print_note("====================================")
    print_note(f"{settings.output}\n")


def _about(path: Path) -> str:
    """The text that a model card begins with.

    Raises
    ------
    DataError
        If the file is no text, or empty.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"the text for the model card cannot be read from '{path}' ({error}): --about takes a "
            "text file in UTF-8"
        ) from error
    if not text:
        raise DataError(
            f"'{path}' is empty: --about takes the text that the model card begins with"
        )
    return text


def _config_of(stages: Sequence[Config], name: str) -> Config:
    """The config of the stage that a checkpoint is of."""
    stages[-1].require("model_checkpoint_path", "trafo_model_path")
    folder = Path(stages[-1].model.model_checkpoint_path)
    return stage_at(stages, load_named(folder, name).progress.iterations)


def _files(
    model: TrainedModel,
    networks: Sequence[ExportedNetwork],
    golden: GoldenAnswers | None,
    with_logs: bool,
    about: str,
) -> dict[str, bytes | Path]:
    """All files of the folder besides networks and graphs, by path there."""
    records = record_files(networks, with_logs)
    files: dict[str, bytes | Path] = {**records}
    config = networks[0].config
    if model.data_settings is not None:
        files[DATA_SETTINGS_FILE] = _as_yaml(model.data_settings)
    if golden is not None:
        files[GOLDEN_FILE] = golden.to_bytes()
    card = model_card(
        model_info(model),
        model.spec.transformation,
        training_summary(networks),
        _patterns_trained_on(records, config),
        config.model.model_class,
        0 if golden is None else golden.hits.num_events,
        about,
    )
    files[CARD_FILE] = card.encode()
    return files


def _patterns_trained_on(records: Mapping[str, Path], config: Config) -> tuple[str, ...]:
    """Patterns of the files of all steps of the training, each once."""
    steps = recorded_configs(path for name, path in records.items() if "config_training_" in name)
    return tuple(
        dict.fromkeys(
            pattern for each in (*steps, config) for pattern in each.data_files.training_data_file
        )
    )


def _graphs(model: TrainedModel, quantized: bool) -> dict[str, bytes]:
    """ONNX graphs of the model, by the name of their file."""
    from dnn_reco.inference.onnx_export import export_graphs
    from dnn_reco.inference.onnx_quantize import quantize

    graphs = export_graphs(model)
    return {**graphs, QUANTIZED_GRAPH: quantize(graphs[HITS_GRAPH])} if quantized else graphs


def _deviations(
    model: TrainedModel, graphs: Mapping[str, bytes], golden: GoldenAnswers | None
) -> dict[str, float]:
    """Largest deviation of each graph from PyTorch, on the golden answers where there are any.

    Raises
    ------
    ModelError
        If a graph does not compute what PyTorch does.
    """
    if not graphs:
        return {}
    from dnn_reco.inference.onnx_export import deviation, example_hits

    hits = example_hits(model) if golden is None else golden.hits
    deviations = deviation(model, graphs, hits)
    for name, value in deviations.items():
        if name != QUANTIZED_GRAPH and not value <= TOLERANCE:
            raise ModelError(
                f"the graph '{name}' deviates by {value:.1e} of the transformed labels from "
                f"PyTorch (at most {TOLERANCE:g} is allowed): export the model without --onnx"
            )
        print_note(f"{name}: deviates by {value:.1e} of the transformed labels from PyTorch")
    return deviations


def _as_yaml(settings: DataSettings) -> bytes:
    content = BytesIO()
    YAML(typ="safe", pure=True).dump(settings.to_dict(), content)
    return content.getvalue()


def _data_settings(configs: Sequence[Config], path: Path | None) -> DataSettings:
    """The settings of the training data: those of a file, else those recorded in the data.

    Raises
    ------
    ConfigError
        If those of the file are not for this network.
    DataError
        If there are none, or those recorded in the data of one of the trainings differ.
    """
    recorded = [each for each in map(_recorded_settings, configs) if each is not None]
    if path is not None:
        settings = load_training_settings(path, configs[0])
    elif recorded:
        settings = recorded[0][1]
    else:
        raise DataError(
            "the training files hold no record of the settings that they were made with, or are "
            "not here: name the config that they were created with by -s/--data-settings FILE, or "
            "a file with the keys num_bins, data_format, relative_time_method and pulse_key"
        )
    for file, found in dict(recorded).items():
        check_data_settings(settings, found, str(file), can_ignore=False)
    return settings


def _recorded_settings(config: Config) -> tuple[Path, DataSettings] | None:
    """The first training file with a record, or else an entry of its config, and its settings.

    Raises
    ------
    DataError
        If further training files were made otherwise.
    """
    recorded = recorded_settings(files_if_any(config, "training_data_file"), config)
    for text in check_same_settings(recorded):
        _log.warning("%s.", text)
    known = [(path, settings) for path, settings in recorded if settings is not None]
    return known[0] if known else None


def _golden_answers(
    config: Config, backend: Backend, settings: ExportSettings
) -> GoldenAnswers | None:
    """The predictions for some events; None: there are none."""
    if settings.golden_events == 0:
        if settings.golden_from is not None:
            raise DataError("--golden-from without golden events: remove it, or --golden-events 0")
        return None
    if settings.golden_from is not None:
        path = find_files([settings.golden_from], "--golden-from")[0]
        answers = _answers_of_file(path, config, backend, settings.golden_events)
        if answers is None:
            raise DataError(f"'{path}' has no events with hits: give other files (--golden-from)")
        return answers
    for key in _HELD_OUT_FIRST:
        for path in files_if_any(config, key)[:1]:
            try:
                answers = _answers_of_file(path, config, backend, settings.golden_events)
            except DnnRecoError as error:
                _log.warning("'%s' is not used for golden answers: %s", path, error)
                continue
            if answers is not None:
                return answers
    _log.warning(
        "There are no events here for golden answers: dnn-reco verify will not be able to show "
        "that the model predicts the same on other machines."
    )
    return None


def _answers_of_file(
    path: Path, config: Config, backend: Backend, num_events: int
) -> GoldenAnswers | None:
    """The predictions for the first events of a file; None: it has none with hits."""
    with event_file(path, config, _MOST_EVENTS) as file:
        events = read_events(file, hits_settings(config))
        misc = backend.read_misc(file, events)
    rows = np.flatnonzero(input_status(events) == Status.OK)[:num_events]
    if len(rows) == 0:
        return None
    return golden_answers(backend, events.hits.select(rows), None if misc is None else misc[rows])
