"""The volumes around the detector that configs of data creation call by name."""

import re
from collections.abc import Callable
from functools import cache

from dnn_reco.detector.hull import Hull, Sphere, Volume, detector_hull, label_hull, prism
from dnn_reco.suggestions import did_you_mean

_NUMBER = r"([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)"

_WITHOUT_NUMBER: dict[str, Callable[[], Volume]] = {
    "icecube_hull": detector_hull,
    "icecube_hull_upper": lambda: prism(-50.0, 500.0),
    "icecube_hull_lower": lambda: prism(-500.0, -150.0),
    # one and two rings of strings further inside
    "icecube_veto_hull_m1": lambda: prism(-450.0, 450.0, (32, 8, 12, 49, 66, 71, 69)),
    "icecube_veto_hull_m2": lambda: prism(-400.0, 400.0, (33, 16, 19, 48, 65, 62)),
}
_WITH_NUMBER: dict[str, Callable[[float], Hull | Sphere]] = {
    "icecube_hull_ext_": lambda distance: detector_hull().extended(distance),
    "sphere_r": Sphere,
}

VOLUME_NAMES = (*_WITHOUT_NUMBER, *(f"{start}<m>" for start in _WITH_NUMBER))
"""Names of all volumes; `<m>` stands for a number of metres."""


@cache
def named_volume(name: str | None) -> Volume:
    """A volume by its name; without a name, the hull of the labels of tracks.

    `icecube_hull` is :func:`dnn_reco.detector.hull.detector_hull`, `icecube_hull_ext_60` the same
    extended by 60 m, `icecube_hull_upper` and `icecube_hull_lower` its parts above -50 m and below
    -150 m, that is without the layer of dust; `icecube_veto_hull_m1` and `…_m2` are further
    inside; `sphere_r500` is a sphere around the origin with a radius of 500 m.

    Raises
    ------
    ValueError
        If there is no such volume, or nothing is inside of it.
    """
    if name is None:
        return label_hull()
    if name in _WITHOUT_NUMBER:
        return _WITHOUT_NUMBER[name]()
    for start, volume in _WITH_NUMBER.items():
        if found := re.fullmatch(re.escape(start) + _NUMBER, name):
            made = volume(float(found[1]))
            if made.is_empty():
                raise ValueError("nothing is inside of this volume")
            return made
    known = ", ".join(VOLUME_NAMES)
    raise ValueError(f"no volume has this name.{did_you_mean(name, VOLUME_NAMES)} Known: {known}")
