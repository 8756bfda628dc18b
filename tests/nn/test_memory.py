"""Memory of a process that runs networks."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from small_run import ON_CPU, SmallRun, run_of
from tiny_network import tiny

from dnn_reco.nn.from_config import make_network, network_spec
from dnn_reco.nn.memory import bound_kernel_cache, memory_in_use, peak_memory
from dnn_reco.training import from_config
from dnn_reco.training.stage import open_stage
from dnn_reco.transform import load_transformation

CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
# As many shapes as some hundred batches of a network that reads hits, then the first one again.
GELU_OF_MANY_SHAPES = """
from dnn_reco.nn.memory import bound_kernel_cache
bound_kernel_cache(same_shapes=False)
import torch
for rows in [*range(1, 301), 300, 1]:
    torch.nn.functional.gelu(torch.zeros(rows, 16))
"""


# Memory [MB] that a tensor of 100 MB leaves behind, and one of 4 MB among smaller ones that stay.
FREED_MEMORY = """
import sys, torch
from dnn_reco.nn.memory import keep_freed_memory, memory_in_use
keep_freed_memory(same_shapes=sys.argv[1] == "same")
for size in (25_000_000, 1_000_000):
    before = memory_in_use(torch.device("cpu"))["process"]
    tensors = [torch.ones(size), torch.ones(1000)]
    del tensors[0]
    print(memory_in_use(torch.device("cpu"))["process"] - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries do as they like")
@pytest.mark.parametrize(("shapes", "is_kept"), [("same", True), ("varying", False)])
def test_large_blocks_are_returned_where_shapes_vary(shapes: str, is_kept: bool) -> None:
    run = [sys.executable, "-c", FREED_MEMORY, shapes]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    large, small = map(float, done.stdout.split())
    assert (large > 90) is is_kept
    assert large < 10 or is_kept
    assert small > 3 or is_kept


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


@pytest.mark.parametrize(("changes", "kept"), [({}, "128"), (tiny(), "64")])
def test_every_network_bounds_them(
    trained_run: SmallRun, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], kept: str
) -> None:
    """Networks that fill a grid more than those that read hits, whose batches differ."""
    monkeypatch.delenv(CAPACITY, raising=False)
    config = trained_run.config(**changes)
    spec = network_spec(config, load_transformation(Path(config.trafo.trafo_model_path)))
    make_network(config, spec, torch.device("cpu"))
    assert os.environ[CAPACITY] == kept


def test_a_capacity_that_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CAPACITY, "7")
    bound_kernel_cache(same_shapes=True)
    assert os.environ[CAPACITY] == "7"


KEEP = """
import sys
import torch
from dnn_reco.nn.memory import keep_freed_memory, memory_in_use
if sys.argv[1] != "leave":
    keep_freed_memory(same_shapes=sys.argv[1] == "same")
block = bytearray(100_000_000)
before = memory_in_use(torch.device("cpu"))["process"]
del block
print(before - memory_in_use(torch.device("cpu"))["process"])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries ignore it")
def test_freed_memory_is_kept_for_the_next_step() -> None:
    for word, least, most in (("leave", 95, 105), ("same", -5, 5), ("varying", 95, 105)):
        line = [sys.executable, "-c", KEEP, word]
        done = subprocess.run(line, capture_output=True, text=True, check=True)
        assert least < float(done.stdout) < most  # MB that went back to the system


def test_a_training_keeps_freed_memory(
    trained_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bool] = []
    monkeypatch.setattr(from_config, "keep_freed_memory", calls.append)
    run = run_of(trained_run, tmp_path)
    with open_stage(run.config(num_training_iterations=1), ON_CPU, restore=True):
        assert calls == [True]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_memory_is_that_of_the_process() -> None:
    cpu = torch.device("cpu")
    expected = psutil.Process().memory_info().rss / 1e6
    assert memory_in_use(cpu) == {"process": pytest.approx(expected, rel=0.05)}
    assert peak_memory(cpu)["process"] >= 0.95 * expected
