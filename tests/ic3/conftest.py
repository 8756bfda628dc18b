from pathlib import Path

import pytest
from ic3_frames import Network, make_network_of_nine_features, write_model


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return make_network_of_nine_features(tmp_path_factory.mktemp("ic3"))


@pytest.fixture(scope="session")
def models(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the models `first` and `second`, which have different weights."""
    folder = tmp_path_factory.mktemp("models")
    write_model(network, folder / "first")
    write_model(network, folder / "second", scale=0.8)
    return folder
