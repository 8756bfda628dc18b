"""Names that users' modules import from the TensorFlow version."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dnn_reco import detector, misc
from dnn_reco.detector import get_dom_coords, get_matrix_indices
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.modules.loss.utils import loss_utils
from dnn_reco.utils import angles


def test_detector() -> None:
    assert detector.c_in_ice == pytest.approx(0.22103046286329384, rel=1e-12)
    coordinates = detector.string_hex_coord_dict
    assert (coordinates[1], coordinates[36], coordinates[78]) == ((-4, -1), (0, 0), (5, -2))
    assert detector.hex_coord_string_dict[-4, -1] == 1
    assert get_matrix_indices(1) == (0, 4)
    assert detector.x_ic78_coords.shape == (10, 10, 60, 3)
    assert detector.ic78_real_DOMs_mask.sum() == 78 * 60
    np.testing.assert_array_equal(get_dom_coords(78, 60), detector.x_ic78_coords[9, 3, 59])
    # the first DOM of string 1 in the detector's survey
    np.testing.assert_allclose(get_dom_coords(1, 1), [-256.14, -521.08, 496.03], atol=0.01)
    assert get_dom_coords(86, 1)[2] < 500  # DeepCore has positions, too
    assert not detector.x_ic78_coords[~detector.ic78_real_DOMs_mask].any()
    with pytest.raises(DataError, match="no DOM 61 on string 3"):
        get_dom_coords(3, 61)
    with pytest.raises(DataError, match="strings 1 to 78, not 79"):
        get_matrix_indices(79)
    with pytest.raises(AttributeError, match="no attribute 'x_ic86'"):
        detector.x_ic86  # noqa: B018


def test_angles_equal_those_of_dot_products() -> None:
    rng = np.random.default_rng(0)
    azimuths, zeniths = rng.uniform(0, 2 * np.pi, (2, 50)), rng.uniform(0, np.pi, (2, 50))
    vectors = np.stack(
        [np.sin(zeniths) * np.cos(azimuths), np.sin(zeniths) * np.sin(azimuths), np.cos(zeniths)],
        axis=-1,
    )
    expected = np.arccos((vectors[0] * vectors[1]).sum(axis=-1))
    found = angles.get_angle_deviation(azimuths[0], zeniths[0], azimuths[1], zeniths[1])
    np.testing.assert_allclose(found, expected, atol=1e-7)
    np.testing.assert_allclose(angles.get_angle(3 * vectors[0], vectors[1]), expected, atol=1e-7)
    assert angles.get_angle_deviation(0.1, 1.0, 0.1, 1.0 + 1e-9) == pytest.approx(1e-9, rel=1e-6)
    assert angles.get_angle([0, 0, 1], [0, 0, -2]) == pytest.approx(math.pi)
    with pytest.raises(DataError, match=r"not \[2\]"):
        angles.get_angle([1, 2], [1, 2, 3])
    with pytest.raises(ImportError, match="angle_between"):
        from dnn_reco.utils.angles import tf_get_angle_deviation  # noqa: F401


def test_misc(capsys: pytest.CaptureFixture[str]) -> None:
    assert misc.load_class("collections.OrderedDict")().__class__.__name__ == "OrderedDict"
    with pytest.raises(AttributeError):
        misc.load_class("collections.NoSuchThing")
    assert misc.get_full_class_string_of_object(torch.nn.ReLU()) == (
        "torch.nn.modules.activation.ReLU"
    )
    assert misc.get_full_class_string_of_object("text") == "str"
    misc.print_warning("careful")
    assert capsys.readouterr().out == "\033[93mcareful\033[0m\n"


def transformer(log: bool) -> SimpleNamespace:
    """Labels energy and azimuth; the standard deviation of the azimuth is 2."""

    def transform(data, data_type, bias_correction):
        assert (data_type, bias_correction) == ("label", False)
        return data / np.array([5.0, 2.0])

    return SimpleNamespace(trafo_model={"log_label_bins": [False, log]}, transform=transform)


def test_residuals_of_azimuths() -> None:
    handler = SimpleNamespace(label_names=["energy", "my_azimuth"], label_shape=[2])
    values = {
        "y_pred_trafo": torch.tensor([[10.0, 3.0], [-10.0, -0.5]]),
        "y_true_trafo": torch.zeros(2, 2),
    }
    config = {"label_azimuth_key": "azimuth"}
    found = loss_utils.get_y_diff_trafo(config, handler, transformer(False), values)
    torch.testing.assert_close(found, torch.tensor([[10.0, math.pi - 3.0], [-10.0, 0.5]]))
    config = {"label_azimuth_key": None}
    found = loss_utils.get_y_diff_trafo(config, handler, transformer(False), values)
    assert torch.equal(found, values["y_pred_trafo"])
    with pytest.raises(ConfigError, match="'my_azimuth' has a logarithm"):
        loss_utils.correct_azimuth_residual(found, config, handler, transformer(True), "azi")
