"""Transformation models of the TensorFlow version."""

import pickle
import re
from pathlib import Path
from typing import Any

import network_golden
import numpy as np
import pytest
import reference_files

from dnn_reco.detector.grid import NUM_CELLS
from dnn_reco.errors import ModelError
from dnn_reco.tf_import.trafo_file import read_reference_transformation
from dnn_reco.transform import TransformationModel, TransformSettings


def some_model(misc_names: tuple[str, ...] = ("m",)) -> TransformationModel:
    rng = np.random.default_rng(5)
    settings = TransformSettings(
        label_names=("a", "b"),
        misc_names=misc_names,
        log_dom_bins=(True, False, False),
        log_label_bins=(False, True),
        log_misc_bins=(False,) * len(misc_names),
        normalize_dom_data=True,
        normalize_label_data=True,
        normalize_misc_data=False,
        treat_doms_equally=False,
        norm_constant=1e-4,
    )
    sizes = [(NUM_CELLS, 3), (2,), (len(misc_names),)]
    moments = [rng.uniform(1, 2, size) for size in sizes for _ in ("mean", "std")]
    return TransformationModel(settings, *moments)


def test_model_of_the_reference(golden_network: Path) -> None:
    found = read_reference_transformation(golden_network / "tf_checkpoint" / "trafo_model.npy")
    expected = network_golden.transformation(golden_network, "tf_checkpoint_trafo")
    assert found.settings == expected.settings
    assert found.digest == expected.digest


@pytest.mark.parametrize("misc_names", [("m",), ()])
def test_moments_and_settings(tmp_path: Path, misc_names: tuple[str, ...]) -> None:
    """With moments of each DOM, and with and without misc data."""
    model = some_model(misc_names)
    reference_files.write_trafo(tmp_path / "trafo.npy", model)
    found = read_reference_transformation(tmp_path / "trafo.npy")
    assert found.settings == model.settings
    assert found.digest == model.digest


def write_changed(path: Path, **changes: Any) -> None:
    content = {**reference_files.trafo_dictionary(some_model()), **changes}
    content = {key: value for key, value in content.items() if value is not ...}
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_bins": ...}, "it has no 'num_bins'"),
        ({"num_bins": 3.0}, "its 'num_bins' is not of type int"),
        ({"num_bins": 4}, "its 'log_dom_bins' has 3 entries instead of 4"),
        ({"num_bins": -3}, "its 'log_dom_bins' has 3 entries instead of -3"),
        ({"normalize_dom_data": 1}, "its 'normalize_dom_data' is not of type bool"),
        ({"norm_constant": "small"}, "its 'norm_constant' is not of type float"),
        ({"label_names": ["a", 5]}, "its 'label_names' is not a list of names"),
        ({"label_names": ["a", "b\n"]}, "its 'label_names' is not a list of names"),
        ({"label_names": ["a", "a"]}, "its 'label_names' holds a name twice"),
        ({"label_names": ["a"]}, "its 'log_label_bins' has 2 entries instead of 1"),
        ({"log_label_bins": [0, 1]}, "its 'log_label_bins' is not a list of true and false"),
        ({"log_label_bins": np.zeros(2)}, "its 'log_label_bins' is not a list of true and false"),
        ({"label_mean": np.zeros(3)}, "its 'label_mean' has shape [3] instead of [2]"),
        ({"label_mean": [0.0, 0.0]}, "its 'label_mean' is not an array of floating-point numbers"),
        ({"label_std": np.array([1.0, np.nan])}, "holds numbers that are not finite"),
        ({"ic78_std": np.ones((10, 10, 60, 1))}, "instead of [10, 10, 60, 3]"),
        ({"deepcore_mean": np.ones((8, 1, 3))}, "has shape [8, 1, 3] instead of [8, 60, 3]"),
        ({"misc_mean": ...}, "it has no 'misc_mean'"),
    ],
)
def test_wrong_content_is_reported(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_changed(tmp_path / "trafo.npy", **changes)
    with pytest.raises(ModelError, match=re.escape(message)) as caught:
        read_reference_transformation(tmp_path / "trafo.npy")
    assert str(caught.value).startswith(
        f"'{tmp_path / 'trafo.npy'}' is not a readable transformation model"
    )


def test_a_whole_number_may_stand_for_a_float(tmp_path: Path) -> None:
    write_changed(tmp_path / "trafo.npy", norm_constant=1)
    found = read_reference_transformation(tmp_path / "trafo.npy").settings.norm_constant
    assert (found, type(found)) == (1.0, float)


@pytest.mark.parametrize("value", [None, [1, 2]])
def test_something_else(tmp_path: Path, value: object) -> None:
    (tmp_path / "trafo.npy").write_bytes(pickle.dumps(value, protocol=2))
    with pytest.raises(ModelError, match="it does not hold a dictionary"):
        read_reference_transformation(tmp_path / "trafo.npy")


def test_array_file(tmp_path: Path) -> None:
    np.save(tmp_path / "trafo.npy", np.zeros(3))
    with pytest.raises(ModelError, match="not a readable transformation model"):
        read_reference_transformation(tmp_path / "trafo.npy")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no transformation model"):
        read_reference_transformation(tmp_path / "trafo.npy")
