"""Files of the collaboration, and what an independent decoder and the reference software found."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from dnn_reco.i3.frame import Frame
from dnn_reco.i3.reader import read_i3

FOLDER = Path(
    os.environ.get("DNN_RECO_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
)
GENIE, NOISE, UPGRADE, HIGH_ENERGY = NAMES = (
    "oscNext_genie_level7_v02_first_5_frames",
    "oscNext_noise_level7_v02_first_5_frames",
    "upgrade_genie_step4_140028_000998_first_5_frames",
    "wBDT_wDNN_L345_IC86-2016_NuMu-021220-009993_first_5_frames",
)


def golden_path(name: str) -> Path:
    """A file of the collaboration; skips where it is absent."""
    path = FOLDER / "i3" / f"{name}.i3.gz"
    if not path.is_file():
        pytest.skip(f"'{path}' not found: set DNN_RECO_TEST_DATA")
    return path


def golden_values(name: str) -> dict[str, Any]:
    """What stands in a file."""
    golden_path(name)
    values: dict[str, Any] = json.loads((FOLDER / "golden" / "i3" / f"{name}.json").read_text())
    return values


def golden_stream(name: str) -> bytes:
    """A file, decompressed."""
    return gzip.decompress(golden_path(name).read_bytes())


def golden_frames(name: str) -> list[Frame]:
    """All frames of a file."""
    return list(read_i3(golden_path(name), verify=True))
