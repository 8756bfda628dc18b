"""`verify`: whether a model folder is as it was written, and computes the same here."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from pathlib import Path

import click

from dnn_reco.inference.golden import TOLERANCE, read_golden
from dnn_reco.inference.load import make_backend
from dnn_reco.inference.manifest import Manifest, check_files, read_manifest, unlisted_files
from dnn_reco.inference.onnx_graph import HITS_GRAPH
from dnn_reco.inference.signature import check_signature, is_signed, read_public_key


def run_verify(
    path: Path,
    key: Path | None = None,
    device: str = "auto",
    allow_code: Collection[str] = (),
) -> int:
    """Verify checksums and signature of a model folder, and compute its golden answers again.

    Parameters
    ----------
    path
        The model folder.
    key
        Public key that must have signed it.
    device
        Where PyTorch computes.
    allow_code
        Packages besides this one whose code the model may name.

    Returns the exit code: 1 if predictions deviate.
    """
    manifest = read_manifest(path)
    check_files(path, manifest)
    click.echo(f"Files:       {len(manifest.files)}, unchanged")
    if unlisted := unlisted_files(path, manifest):
        click.echo(f"             not part of the model: {', '.join(unlisted)}")
    click.echo(f"Signature:   {_signature(path, key)}")
    return 0 if _answers_agree(path, manifest, device, allow_code) else 1


def _signature(path: Path, key: Path | None) -> str:
    if key is not None:
        return f"valid, of the key in '{key}' ({check_signature(path, read_public_key(key))})"
    if not is_signed(path):
        return "none"
    return f"valid, of the key {check_signature(path)}: give the key that you trust with --key"


def _answers_agree(
    path: Path, manifest: Manifest, device: str, allow_code: Collection[str]
) -> bool:
    """Compute golden answers with each backend that is installed; print deviations."""
    agree = True
    for name in _backends(manifest):
        backend = make_backend(path, device, backend=name, allow_code=allow_code)
        golden = read_golden(path, backend)
        if golden is None:
            click.echo("Predictions: not compared, as the folder holds no golden answers")
            return True
        deviation = golden.largest_deviation(backend)
        is_same = deviation <= TOLERANCE
        agree &= is_same
        verdict = "" if is_same else f": DIFFERENT (above {TOLERANCE:g})"
        click.echo(
            f"Predictions: {name}, {golden.hits.num_events} events, largest deviation "
            f"{deviation:.1e} of the transformed labels{verdict}"
        )
    return agree


def _backends(manifest: Manifest) -> list[str]:
    needed = {"torch": True, "onnxruntime": HITS_GRAPH in manifest.files}
    return [name for name, use in needed.items() if use and importlib.util.find_spec(name)]
