"""Small models, to be exported."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_graph_models import CPU, SmallModel
from small_run import ON_CPU, SmallRun, make_small_run

from dnn_reco.inference.model_folder import Member
from dnn_reco.nn.from_config import make_network, network_spec
from dnn_reco.transform import load_transformation


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """Data files, a config and a transformation model."""
    from dnn_reco.commands.trafo import run_trafo

    run = make_small_run(tmp_path_factory.mktemp("prepared"))
    run_trafo(run.config(), ON_CPU, overwrite=False)
    return run


@pytest.fixture(scope="session")
def small_model(prepared: SmallRun) -> Callable[..., SmallModel]:
    def make(*kinds: dict[str, Any], **overrides: Any) -> SmallModel:
        random = torch.Generator().manual_seed(3)
        members = []
        for kind in kinds:
            config = prepared.config(**{**kind, **overrides})
            transformation = load_transformation(Path(config.trafo.trafo_model_path))
            network = make_network(config, network_spec(config, transformation), CPU)
            weights = {  # no layer is the identity, as layers are initially
                name: value + torch.randn(value.shape, generator=random) * 0.05
                for name, value in network.state_dict().items()
            }
            members.append(Member(weights, transformation, config))
        return SmallModel(members)

    return make
