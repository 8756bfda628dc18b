"""Adding a calibration to a model folder, or removing it: manifest and golden answers follow."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from dnn_reco.errors import ModelError
from dnn_reco.files import keep_others, replace_folder, temporary_beside
from dnn_reco.inference.backend import Backend
from dnn_reco.inference.calibration import CALIBRATION_FILE, Calibration, calibrated
from dnn_reco.inference.golden import GOLDEN_FILE, golden_answers, read_golden
from dnn_reco.inference.manifest import (
    MANIFEST_FILE,
    SIGNATURE_FILE,
    Manifest,
    listed_files,
    read_manifest,
)
from dnn_reco.inference.model_card import CARD_FILE, calibrated_card, uncalibrated_card


def write_calibration(folder: Path, backend: Backend, calibration: Calibration | None) -> None:
    """Put a calibration into a model folder, in place of the one that it may have.

    The folder changes at once and whole. Golden answers are computed anew, the checksums are
    renewed, and a signature, which is of the folder as it was, is left out. Files that are not part
    of the model stay as they are.

    Parameters
    ----------
    folder
        The model folder, whose files are verified.
    backend
        What computes the predictions of the model, without a calibration.
    calibration
        The calibration; None: the folder has none afterwards.

    Raises
    ------
    ModelError
        If the folder is of format 1, whose manifest does not name the labels.
    """
    manifest = read_manifest(folder)
    if manifest.model is None:
        raise ModelError(
            f"'{folder}' has the old format 1: export or import the model again before "
            "calibrating it"
        )
    path = folder.resolve()
    with temporary_beside(path) as temporary:
        part = temporary / path.name
        for name in manifest.files:
            if name != CALIBRATION_FILE:
                (part / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, part / name)
        changed = _changed_files(folder, manifest, backend, calibration)
        for name, content in changed.items():
            (part / name).write_bytes(content)
        renewed = replace(
            manifest,
            files=listed_files(part),
            model=replace(manifest.model, direction=backend.info.direction),
            calibration=None if calibration is None else dict(calibration.record),
        )
        (part / MANIFEST_FILE).write_text(renewed.to_json(), encoding="utf-8")
        keep_others(path, part, {*manifest.files, *changed, MANIFEST_FILE, SIGNATURE_FILE})
        replace_folder(path, part)


def _changed_files(
    folder: Path, manifest: Manifest, backend: Backend, calibration: Calibration | None
) -> Mapping[str, bytes]:
    """Files that depend on the calibration."""
    files = {}
    if calibration is not None:
        files[CALIBRATION_FILE] = calibration.to_json().encode()
    if golden := read_golden(folder, manifest, backend):
        answers = golden_answers(calibrated(backend, calibration), golden.hits, golden.misc)
        files[GOLDEN_FILE] = answers.to_bytes()
    if CARD_FILE in manifest.files:
        card = (folder / CARD_FILE).read_text(encoding="utf-8")
        changed = (
            uncalibrated_card(card)
            if calibration is None
            else calibrated_card(card, int(calibration.record["num_events"]))
        )
        files[CARD_FILE] = changed.encode()
    return files
