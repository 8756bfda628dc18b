"""IceCube-86: positions and numbering of DOMs, the grid of networks, constants.

Names of the TensorFlow version's module `dnn_reco.detector` can also be imported from here; they
are made when they are first used, by :mod:`dnn_reco.detector.reference`.
"""

from importlib import import_module
from typing import Any

_NAMES_OF_THE_REFERENCE = {
    *("c_in_ice", "get_dom_coords", "get_matrix_indices", "hex_coord_string_dict"),
    *("ic78_real_DOMs_mask", "string_hex_coord_dict", "x_ic78_coords"),
}


def __getattr__(name: str) -> Any:
    if name in _NAMES_OF_THE_REFERENCE:
        return getattr(import_module("dnn_reco.detector.reference"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
