import numpy as np
import pytest

from dnn_reco.detector.grid import CELL_HAS_DOM, NUM_CELLS
from dnn_reco.nn.interface import LabelKeys, NetworkSpec
from dnn_reco.transform import TransformationModel, TransformSettings


@pytest.fixture
def small_spec() -> NetworkSpec:
    """Two features, three labels, moments different for each DOM."""
    rng = np.random.default_rng(3)
    has_dom = CELL_HAS_DOM[:, None]
    settings = TransformSettings(
        label_names=("energy", "azimuth", "length"),
        misc_names=(),
        log_dom_bins=(True, False),
        log_label_bins=(True, False, False),
        log_misc_bins=(),
        normalize_dom_data=True,
        normalize_label_data=True,
        normalize_misc_data=False,
        treat_doms_equally=False,
        norm_constant=1e-3,
    )
    transformation = TransformationModel(
        settings,
        dom_mean=np.where(has_dom, rng.normal(size=(NUM_CELLS, 2)), 0),
        dom_std=np.where(has_dom, rng.uniform(0.5, 2, (NUM_CELLS, 2)), 1),
        label_mean=np.array([2.0, 3.0, -1.0]),
        label_std=np.array([0.5, 1.8, 20.0]),
        misc_mean=np.zeros(0),
        misc_std=np.zeros(0),
    )
    return NetworkSpec(transformation, np.array([0.25, -1.0]), LabelKeys(azimuth="azimuth"))
