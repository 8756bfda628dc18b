"""`inspect`: what is in a model folder, without loading its weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from dnn_reco.i3.describe import printable
from dnn_reco.inference.manifest import Manifest, read_manifest
from dnn_reco.inference.model_info import ModelInfo
from dnn_reco.inference.signature import is_signed


def run_inspect(path: Path, as_json: bool = False) -> None:
    """Print what a model folder holds.

    Parameters
    ----------
    path
        The model folder.
    as_json
        Print its manifest as JSON.
    """
    manifest = read_manifest(path)
    if as_json:
        click.echo(manifest.to_json())
    else:
        for line in _lines(path, manifest):
            click.echo(printable(line))


def _lines(path: Path, manifest: Manifest) -> Iterator[str]:
    yield f"Model:        {path.resolve().name}"
    yield f"Origin:       {manifest.origin}"
    if manifest.created:
        yield f"Written:      {manifest.created} by dnn_reco {manifest.dnn_reco_version}"
    yield f"Signature:    {'there is one' if is_signed(path) else 'none'} (see dnn-reco verify)"
    yield f"Networks:     {len(manifest.members)}"
    if manifest.training is not None:
        training = manifest.training
        iterations = ", ".join(f"{n:,}" for n in training.iterations)
        yield f"Weights:      {training.num_weights:,}, of {', '.join(training.checkpoints)}"
        yield f"Training:     {iterations} iterations with batches of {training.batch_size}"
    if manifest.model is None:
        yield "Labels:       see config.yaml (folder of format 1)"
    else:
        yield from _model_lines(manifest.model)
    for name, value in manifest.onnx.items():
        yield f"ONNX:         {name}, deviates by {value:.1e} from PyTorch"
    yield f"Calibration:  {_calibration(manifest)}"
    yield "Files:"
    for name in manifest.files:
        file = path / name
        size = f"{file.stat().st_size:>12,} B" if file.is_file() else "     MISSING"
        yield f"  {size}  {name}"


def _calibration(manifest: Manifest) -> str:
    """How the uncertainties were calibrated, in a line."""
    record = manifest.calibration
    if record is None:
        return "none"
    try:
        coverage = [
            f"{name} {before:.3f} -> {record['coverage_after'][name]:.3f}"
            for name, before in record["coverage_before"].items()
        ]
        return f"with {record['num_events']:,} events; coverage of 68.3 %: {', '.join(coverage)}"
    except (KeyError, TypeError, ValueError, AttributeError):  # written by hand
        return "see --json"


def _model_lines(model: ModelInfo) -> Iterator[str]:
    yield "Predicts:"
    for label in model.labels:
        if label.is_trained:
            unit = f" [{label.unit}]" if label.unit else ""
            sigma = "log_uncertainty" if label.has_log else "uncertainty"
            yield f"  {label.name}{unit}, {label.name}_{sigma}"
    if model.particle:
        parts = ", ".join(f"{part}: {name}" for part, name in model.particle.items())
        yield f"Particle:     {parts}"
    yield f"Reads:        {model.num_features} features of each hit DOM, {model.float_precision}"
    if model.misc_names:
        yield f"Misc data:    {', '.join(model.misc_names)}"
    if model.data_settings is None:
        yield "Data:         settings not known"
        return
    yield "Data settings:"
    for key, value in model.data_settings.to_dict().items():
        if value is not None:
            yield f"  {key}: {', '.join(map(str, value)) if isinstance(value, list) else value}"
