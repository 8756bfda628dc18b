"""Volumes by name, against their published corners."""

import numpy as np
import pytest

from dnn_reco.detector.hull import Hull, Sphere, detector_hull, label_hull
from dnn_reco.detector.named_volumes import named_volume

INNER = [(-447.74, -113.13), (-211.35, -404.48), (282.18, -325.74), (472.05, 127.90)]
INNERMOST = [(-324.39, -93.43), (-166.40, -287.79), (210.47, -209.77), (330.03, 127.20)]


@pytest.mark.parametrize(
    ("name", "bottom", "top", "some_corners"),
    [
        ("icecube_hull", -500, 500, [(-570.90, -125.14), (22.11, 509.50)]),
        ("icecube_hull_upper", -50, 500, [(-570.90, -125.14), (22.11, 509.50)]),
        ("icecube_hull_lower", -500, -150, [(-570.90, -125.14), (22.11, 509.50)]),
        ("icecube_veto_hull_m1", -450, 450, INNER),
        ("icecube_veto_hull_m2", -400, 400, INNERMOST),
    ],
)
def test_corners(
    name: str, bottom: float, top: float, some_corners: list[tuple[float, float]]
) -> None:
    volume = named_volume(name)
    assert isinstance(volume, Hull)
    corners = volume.corners()
    assert np.unique(corners[:, 2]) == pytest.approx([bottom, top])
    for corner in some_corners:
        assert np.min(np.linalg.norm(corners[:, :2] - corner, axis=1)) < 0.01


def test_names_with_a_number() -> None:
    extended = named_volume("icecube_hull_ext_-60.5")
    assert isinstance(extended, Hull)
    np.testing.assert_array_equal(extended.offsets, detector_hull().extended(-60.5).offsets)
    assert named_volume("sphere_r500") == Sphere(500.0)
    assert named_volume(None) is label_hull()


@pytest.mark.parametrize("name", ["icecube_hul", "sphere_r", "icecube_hull_ext_60m", "__class__"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(ValueError, match=r"no volume has this name.*Known: icecube_hull, "):
        named_volume(name)
