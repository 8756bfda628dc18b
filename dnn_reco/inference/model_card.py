"""The model card: the README of a model folder, written from the records in the folder."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from dnn_reco._version import __version__
from dnn_reco.amounts import counted
from dnn_reco.inference.manifest import TrainingSummary
from dnn_reco.inference.model_info import LabelInfo, ModelInfo
from dnn_reco.transform import TransformationModel

CARD_FILE = "README.md"

_LIMITS_TITLE = "## Known limits"
_NOT_CALIBRATED = "- Uncertainties are those of the network: they are not calibrated."
_CALIBRATION_LINE = re.compile(r"(?m)^- Uncertainties are .*$")


def model_card(
    model: ModelInfo,
    transformation: TransformationModel,
    training: TrainingSummary,
    training_files: Sequence[str],
    model_class: str,
    golden_events: int,
    about: str = "",
) -> str:
    """The text of the model card, in Markdown.

    Parameters
    ----------
    model
        What the model predicts and reads.
    transformation
        Moments of its training data.
    training
        How it was trained.
    training_files
        Patterns of the training files.
    model_class
        Dotted name of its network.
    golden_events
        Events whose predictions are kept with it.
    about
        What its authors say about it, in Markdown; it comes first.
    """
    parts = [
        f"# {model.name}",
        about.strip(),
        f"A network that reconstructs IceCube events, exported by dnn_reco {__version__}. This "
        "folder is all that is needed to apply it.",
        _predictions(model, transformation),
        _training(training, training_files, model_class),
        _inputs(model),
        _tests(golden_events, bool(about.strip())),
        _limits(),
        _usage(model),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def card_summary(card: str) -> str:
    """The first sentence of a model card, as one line without the marks of Markdown."""
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", card))
    text = next((part for part in paragraphs if part and not part.startswith("#")), "")
    return re.split(r"(?<=[.!?]) ", re.sub(r"[*`]", "", text), maxsplit=1)[0]


def _predictions(model: ModelInfo, transformation: TransformationModel) -> str:
    columns = [
        (label.name, label.unit or "–", _kind(label), _typical(label, i, transformation))
        for i, label in enumerate(model.labels)
        if label.is_trained
    ]
    rows = [f"| {' | '.join(row)} |" for row in columns]
    untrained = len(model.labels) - len(rows)
    note = (
        f"\n\nIt has outputs for {untrained} more labels without training: they are never written."
        if untrained
        else ""
    )
    head = "| label | unit | kind | training events (68 %) |\n|---|---|---|---|"
    particle = ", ".join(f"{part} from {name}" for part, name in model.particle.items())
    note += f"\n\nThe reconstructed particle takes {particle}." if particle else ""
    return "## What it predicts\n\n" + "\n".join([head, *rows]) + note


def _kind(label: LabelInfo) -> str:
    if label.is_class:
        return "probability"
    if label.has_log:
        return "value; uncertainty of ln(1 + x)"
    return (
        "time relative to the event's time offset, absolute on output"
        if (label.is_relative_time)
        else "value; uncertainty"
    )


def _typical(label: LabelInfo, column: int, transformation: TransformationModel) -> str:
    """The interval of mean ± standard deviation in the training data; of classes their share."""
    if label.is_class:
        return f"{transformation.label_mean[column]:.0%} of the events"
    mean, std = transformation.label_mean[column], transformation.label_std[column]
    low, high = mean - std, mean + std
    if label.has_log:
        low, high = math.expm1(min(low, 60)), math.expm1(min(high, 60))
    return f"{low:.3g} … {high:.3g}"


def _training(training: TrainingSummary, files: Sequence[str], model_class: str) -> str:
    networks = len(training.checkpoints)
    lines = [
        f"- network: `{model_class}`, {training.num_weights:,} weights"
        + (f" in {networks} networks, whose densities are averaged" if networks > 1 else ""),
        f"- iterations: {', '.join(f'{n:,}' for n in training.iterations)} with batches of "
        f"{training.batch_size} events, in "
        f"{counted(len(training.training_steps), 'training step')}",
        f"- weights: {_weights(training)}",
        f"- seed: {training.seed}",
        *(f"- training files: `{pattern}`" for pattern in files),
    ]
    if training.initial_weights:
        lines.append(f"- began with the weights of SHA-256 `{training.initial_weights}`")
    if training.best_loss is not None:
        lines.append(f"- smallest loss on the validation set: {training.best_loss:.6g}")
    more = (
        "`config.yaml` is the complete config; `config_training_*.yaml` and "
        "`training_steps.yaml` record each call of the training with versions, packages and git "
        "revision."
    )
    return "## How it was trained\n\n" + "\n".join(lines) + f"\n\n{more}"


def _weights(training: TrainingSummary) -> str:
    kind = "exponential moving average" if training.uses_moving_average else "as trained"
    return f"{kind}, of {', '.join(f'`{name}`' for name in training.checkpoints)}"


def _inputs(model: ModelInfo) -> str:
    settings = model.data_settings
    if settings is None:
        text = "The settings of its training data are unknown."
    else:
        known = {key: value for key, value in settings.to_dict().items() if value is not None}
        text = "\n".join(f"- {key}: {_plain(value)}" for key, value in known.items())
    misc = f"\n- misc data: {', '.join(model.misc_names)}" if model.misc_names else ""
    head = (
        f"{model.num_features} features of each hit DOM. Settings of its training data, which "
        "must match those of other data:"
    )
    return f"## What it reads\n\n{head}\n\n{text}{misc}"


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _tests(golden_events: int, has_about: bool) -> str:
    known = "See above for what its authors say." if has_about else "Not evaluated yet."
    text = (
        f"{known} `dnn-reco evaluate` with this folder and files with labels measures its "
        "performance by energy and event type."
    )
    if golden_events:
        text += (
            f"\n\n{golden_events} events with their predictions are stored in "
            "`golden.safetensors`: `dnn-reco verify` recomputes and compares them on any machine."
        )
    return f"## How it was tested\n\n{text}"


def _limits() -> str:
    lines = [
        "- For energies, event types and ice that its training data do not have, predictions and "
        "uncertainties are meaningless.",
        _NOT_CALIBRATED,
        "- Events without any hit are not reconstructed: NaN, with a status.",
    ]
    return f"{_LIMITS_TITLE}\n\n" + "\n".join(lines)


def calibrated_card(card: str, num_events: int) -> str:
    """The model card of a model that was calibrated with so many events."""
    line = (
        f"- Uncertainties are calibrated with {num_events:,} events like those of the validation: "
        "for others they may be wrong. `--raw` disables the calibration."
    )
    return _with_calibration_line(card, line)


def uncalibrated_card(card: str) -> str:
    """The model card of a model that is not calibrated."""
    return _with_calibration_line(card, _NOT_CALIBRATED)


def _with_calibration_line(card: str, line: str) -> str:
    """The card with another line about calibration; what its authors wrote before it stays."""
    about, title, limits = card.rpartition(_LIMITS_TITLE)
    return about + title + _CALIBRATION_LINE.sub(line, limits)


def _usage(model: ModelInfo) -> str:
    label = next(iter(model.trained_labels), "EnergyVisible")
    return f"""## How to apply it

```bash
dnn-reco verify {model.name}
dnn-reco apply {model.name} --input 'data/*.hdf5' --out reconstructed
```

```python
from dnn_reco import Reconstructor

predictions = Reconstructor("{model.name}").predict("data/*.hdf5")
predictions["{label}"]
```

## How to cite it

Cite the method, M. Hünnefeld et al., *A Convolutional Neural Network based Cascade Reconstruction
for IceCube*, JINST 16 (2021) P07041, arXiv:2101.11589, and give the name of this model and the
SHA-256 of its `manifest.json`."""
