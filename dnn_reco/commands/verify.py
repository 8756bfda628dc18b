"""`verify`: whether a model folder is as it was written, and computes the same here."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from dnn_reco.amounts import counted
from dnn_reco.commands.output import print_json
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
    as_json: bool = False,
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
    as_json
        Whether to print the result as JSON.

    Returns the exit code: 1 if predictions deviate.
    """
    manifest = read_manifest(path)
    check_files(path, manifest)
    unlisted = unlisted_files(path, manifest)
    signature = _signature(path, key)
    if not as_json:
        click.echo(f"Files:       {len(manifest.files)}, unchanged")
        if unlisted:
            click.echo(f"             not part of the model: {', '.join(unlisted)}")
        click.echo(f"Signature:   {signature}")
    answers = _answers(path, manifest, device, allow_code)
    ok = all(answer.agrees for answer in answers)
    if as_json:
        print_json(
            {
                "ok": ok,
                "files": len(manifest.files),
                "unlisted": list(unlisted),
                "signature": signature,
                "predictions": [answer.to_dict() for answer in answers],
                "tolerance": TOLERANCE,
            }
        )
    else:
        nothing = "not compared, as the folder holds no golden answers"
        for text in [answer.text() for answer in answers] or [nothing]:
            click.echo(f"Predictions: {text}")
    return 0 if ok else 1


def _signature(path: Path, key: Path | None) -> str:
    if key is not None:
        return f"valid, of the key in '{key}' ({check_signature(path, read_public_key(key))})"
    if not is_signed(path):
        return "none"
    return f"valid, of the key {check_signature(path)}: give the key that you trust with --key"


@dataclass(frozen=True)
class _Answers:
    """Golden answers that a backend computed: the largest deviation in transformed labels."""

    backend: str
    events: int
    largest_deviation: float

    @property
    def agrees(self) -> bool:
        return self.largest_deviation <= TOLERANCE

    def to_dict(self) -> dict[str, Any]:
        deviation = self.largest_deviation if math.isfinite(self.largest_deviation) else None
        return {**asdict(self), "largest_deviation": deviation, "agrees": self.agrees}

    def text(self) -> str:
        verdict = "" if self.agrees else f": DIFFERENT (above {TOLERANCE:g})"
        return (
            f"{self.backend}, {counted(self.events, 'event')}, largest deviation "
            f"{self.largest_deviation:.1e} of the transformed labels{verdict}"
        )


def _answers(
    path: Path, manifest: Manifest, device: str, allow_code: Collection[str]
) -> list[_Answers]:
    """Golden answers of each backend that is installed; none if the folder holds none."""
    answers = []
    for name in _backends(manifest):
        backend = make_backend(path, device, backend=name, allow_code=allow_code)
        golden = read_golden(path, manifest, backend)
        if golden is None:
            return []
        deviation = float(golden.largest_deviation(backend))
        answers.append(_Answers(name, golden.hits.num_events, deviation))
    return answers


def _backends(manifest: Manifest) -> list[str]:
    needed = {"torch": True, "onnxruntime": HITS_GRAPH in manifest.files}
    return [name for name, use in needed.items() if use and importlib.util.find_spec(name)]
