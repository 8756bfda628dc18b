"""Networks as a config describes them."""

from pathlib import Path

import pytest
import torch
from small_run import SmallRun

from dnn_reco.nn.from_config import float_type, make_network, network_spec
from dnn_reco.transform import load_transformation


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("float64", torch.float64)]
)
def test_precision_of_all_weights(
    trained_run: SmallRun, precision: str, dtype: torch.dtype
) -> None:
    config = trained_run.config(float_precision=precision)
    assert float_type(config) is dtype
    spec = network_spec(config, load_transformation(Path(config.trafo.trafo_model_path)))
    network = make_network(config, spec, torch.device("cpu"))
    assert {parameter.dtype for parameter in network.parameters()} == {dtype}
