"""Memory of a process that runs networks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_run import SmallRun

from dnn_reco.nn.from_config import make_network, network_spec
from dnn_reco.nn.memory import bound_kernel_cache
from dnn_reco.transform import load_transformation

CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
# As many shapes as some hundred batches of a network that reads hits, then the first one again.
GELU_OF_MANY_SHAPES = """
from dnn_reco.nn.memory import bound_kernel_cache
bound_kernel_cache()
import torch
for rows in [*range(1, 301), 300, 1]:
    torch.nn.functional.gelu(torch.zeros(rows, 16))
"""


def test_kernels_of_earlier_shapes_are_dropped() -> None:
    """Its log has a kernel for each of 300 shapes, and that of the first is compiled again."""
    environment = {key: value for key, value in os.environ.items() if key != CAPACITY}
    done = subprocess.run(
        [sys.executable, "-c", GELU_OF_MANY_SHAPES],
        env={**environment, "ONEDNN_VERBOSE": "profile_create"},
        capture_output=True,
        text=True,
        check=True,
    )
    compiled = done.stdout.count("create:cache_miss")
    if compiled == 0:
        pytest.skip("PyTorch does not use oneDNN for GELU on this processor")
    assert done.stdout.count("create:cache_hit") == 1
    assert compiled == 301


def test_every_network_bounds_them(trained_run: SmallRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CAPACITY, raising=False)
    config = trained_run.config()
    spec = network_spec(config, load_transformation(Path(config.trafo.trafo_model_path)))
    make_network(config, spec, torch.device("cpu"))
    assert os.environ[CAPACITY] == "128"


def test_a_capacity_that_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CAPACITY, "7")
    bound_kernel_cache()
    assert os.environ[CAPACITY] == "7"
