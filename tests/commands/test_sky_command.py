"""`dnn-reco sky`: what it prints and writes, and its errors."""

import importlib.util
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from i3_files import PULSES, events
from small_graph_models import TRANSFORMER, SmallModel
from small_run import ON_CPU, SmallRun, make_small_run
from workspace import invoke

from dnn_reco.data.hdf5 import read_columns
from dnn_reco.detector.directions import angles_of
from dnn_reco.inference.reconstructor import Reconstructor

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("astropy", "astropy_healpix", "mocpy")),
    reason="the extra 'sky' is not installed",
)
VECTOR = [f"PrimaryDirection{axis}" for axis in "XYZ"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    from dnn_reco.commands.trafo import run_trafo

    run = make_small_run(tmp_path_factory.mktemp("sky"))
    run_trafo(run.config(), ON_CPU, overwrite=False)
    return run


def model_folder(run: SmallRun, path: Path, labels: list[str]) -> Path:
    import torch

    from dnn_reco.inference.model_folder import Member
    from dnn_reco.nn.from_config import make_network, network_spec
    from dnn_reco.transform import load_transformation

    weights: dict[str, Any] = {"label_weight_dict": dict.fromkeys(labels, 1.0)}
    config = run.config(**TRANSFORMER, **weights)
    transformation = load_transformation(Path(config.trafo.trafo_model_path))
    network = make_network(config, network_spec(config, transformation), torch.device("cpu"))
    return SmallModel([Member(dict(network.state_dict()), transformation, config)]).write(path)


@pytest.fixture(scope="module")
def model(run: SmallRun) -> Path:
    return model_folder(run, run.folder / "model", VECTOR)


def test_existing_outputs_are_replaced_as_the_help_says(
    run: SmallRun, model: Path, tmp_path: Path
) -> None:
    help_text = " ".join(invoke("sky", "--help").out.split())
    assert "existing files of these names are replaced" in help_text
    for name in ("mine.fits", "mine.png"):
        (tmp_path / name).write_text("before")
    result = invoke(
        *("sky", model, "-i", run.folder / "validation.hdf5", "-o", tmp_path / "mine"),
        *("--device", "cpu"),
    )
    assert result.exit_code == 0, result.err
    assert (tmp_path / "mine.fits").read_bytes().startswith(b"SIMPLE")
    assert (tmp_path / "mine.png").read_bytes().startswith(b"\x89PNG")


def test_a_map_of_an_event(run: SmallRun, model: Path, tmp_path: Path) -> None:
    from dnn_reco.inference.sky_files import read_sky_map

    file, out = run.folder / "validation.hdf5", tmp_path / "maps" / "event"
    arguments = ["sky", model, "--input", file, "--event", "2", "--device", "cpu"]
    result = invoke(*arguments, "--out", out, "--credible", "50,68.5,90")
    assert result.exit_code == 0, result.err
    density = Reconstructor(model, device="cpu").sky(file, 2)
    zenith, azimuth = np.degrees(angles_of(density.best))
    assert f"Direction: zenith {zenith:.2f}°, azimuth {azimuth:.2f}°" in result.out
    areas = [float(each.replace(",", "")) for each in re.findall(r"([\d.,]+) square", result.out)]
    np.testing.assert_allclose(areas, density.contour_area([0.5, 0.685, 0.9]), rtol=1e-3)
    assert "68.5 % in:" in result.out
    columns, names = read_columns(file, "LabelsDeepLearning", VECTOR, "dnn_data_global_time_offset")
    true = columns[2].filled(np.nan)[[names.index(name) for name in VECTOR]]
    level = float(density.cdf_dir(true))
    assert f"on the contour of {level:.1%}" in result.out
    assert read_sky_map(Path(f"{out}.fits")).area(0.9) == pytest.approx(areas[-1], rel=5e-3)
    assert Path(f"{out}.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in out.parent.iterdir()} == {"event.fits", "event.png"}


def test_equatorial_coordinates(run: SmallRun, model: Path, tmp_path: Path) -> None:
    arguments = ["sky", model, "-i", run.folder / "validation.hdf5", "--device", "cpu"]
    result = invoke(*arguments, "--mjd", "58018.87", "-o", tmp_path / "sky", "--density", "vector")
    assert result.exit_code == 0, result.err
    assert re.search(r"Direction: right ascension [\d.]+°, declination [+-][\d.]+°\n", result.out)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Fälle.hdf5", r"F\xe4lle.hdf5"),
        ("a\x01b\n.hdf5", r"a\x01b\n.hdf5"),
        ("latin\udce4.hdf5", r"latin\udce4.hdf5"),
        (r"$\mu$.hdf5", r"$\\mu$.hdf5"),
        (r"$\no$.hdf5", r"$\\no$.hdf5"),
    ],
    ids=["umlaut", "control", "not UTF-8", "mathematics", "no mathematics"],
)
def test_names_of_event_files(
    run: SmallRun,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    blank_figures: Callable[..., None],
    name: str,
    shown: str,
) -> None:
    from astropy.io import fits
    from matplotlib.figure import Figure

    monkeypatch.setattr(Figure, "draw", blank_figures)
    file = tmp_path / name
    os.link(run.folder / "validation.hdf5", file)
    result = invoke("sky", model, "-i", file, "-o", tmp_path / "sky", "--device", "cpu")
    assert result.exit_code == 0, result.err
    assert fits.getheader(tmp_path / "sky.fits", 1)["OBJECT"] == f"event 0 of {shown}"
    assert (tmp_path / "sky.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--event", "999"], "there is no event 999 in"),
        (["--mjd", "12"], "is outside of the years 2000 to 2099"),
        (["--density", "elliptical"], "choose fisher or vector"),
    ],
)
def test_mistakes_give_one_line(
    arguments: list[str], message: str, run: SmallRun, model: Path, tmp_path: Path
) -> None:
    file = run.folder / "validation.hdf5"
    result = invoke("sky", model, "-i", file, "-o", tmp_path / "sky", *arguments)
    assert result.exit_code == 1
    assert result.err.startswith("Error: ") and message in result.err
    assert result.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "50,x", "0", "100", "0.5,900"])
def test_levels_that_are_none(text: str, run: SmallRun, model: Path) -> None:
    result = invoke("sky", model, "-i", run.folder / "validation.hdf5", "--credible", text)
    assert result.exit_code == 2
    assert "is not a list of percentages such as 50,90" in result.err


def test_outputs_that_cannot_be_written(run: SmallRun, model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    file, out = run.folder / "validation.hdf5", tmp_path / "file" / "sky"
    result = invoke("sky", model, "-i", file, "-o", out, "--device", "cpu")
    assert result.exit_code == 1
    assert result.err.startswith(f"Error: the maps cannot be written to '{out.parent}' (")
    assert result.err.endswith("): choose another --out\n")


def test_a_model_without_a_direction(run: SmallRun, tmp_path: Path) -> None:
    folder = model_folder(run, tmp_path / "energy", ["EnergyVisible"])
    result = invoke("sky", folder, "-i", run.folder / "validation.hdf5", "-o", tmp_path / "sky")
    assert result.exit_code == 1
    assert result.err.startswith("Error: 'energy' predicts no direction")


def test_frames_are_refused_at_once(model: Path, tmp_path: Path) -> None:
    source = events(tmp_path / "i3" / "x.i3.zst", 4)
    result = invoke("sky", model, "-i", source, "-o", tmp_path / "sky")
    assert result.exit_code == 1
    assert result.err.startswith(f"Error: '{source}' is an .i3 file, but sky maps are made of")
    advice = re.search(
        r"dnn-reco (create-data --input '.*' --pulses NAME --out FOLDER)", result.err
    )
    assert advice is not None
    line = advice[1].replace("NAME", PULSES).replace("FOLDER", str(tmp_path / "made"))
    bins = ["--format", "charge_bins", "--time-bins", "0,500,1000,1500", "--exclude", "none"]
    assert invoke(*shlex.split(line), *bins).exit_code == 0
    file = tmp_path / "made" / "x.hdf5"
    result = invoke("sky", model, "-i", file, "-o", tmp_path / "sky", "--device", "cpu")
    assert result.exit_code == 0, result.err


def test_files_without_events(model: Path, tmp_path: Path) -> None:
    (tmp_path / "text.hdf5").write_text("nothing")
    result = invoke("sky", model, "-i", tmp_path / "text.hdf5", "-o", tmp_path / "sky")
    assert result.exit_code == 1
    assert "text.hdf5' is not an HDF5 file" in result.err
    assert "does not exist" in invoke("sky", model, "-i", tmp_path / "none.hdf5").err
