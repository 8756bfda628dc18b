"""Several processes, started by torchrun, give what one process gives."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("distributed_script.py")


def launch(num_ranks: int, folder: Path) -> list[dict[str, torch.Tensor]]:
    folder.mkdir()
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={num_ranks}"]
    subprocess.run(
        [sys.executable, *(torchrun if num_ranks > 1 else []), str(SCRIPT), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    return [torch.load(folder / f"rank_{rank}.pt", weights_only=True) for rank in range(num_ranks)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    (result,) = launch(1, tmp_path_factory.mktemp("one") / "alone")
    return result


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_ranks_together_equal_one_process(
    alone: dict[str, torch.Tensor], tmp_path: Path, num_ranks: int
) -> None:
    together = launch(num_ranks, tmp_path / "together")
    for result in together:
        for name in ("whole", "loss", "x", "scale", "beta", "pop_mean"):
            torch.testing.assert_close(result[name], alone[name], msg=name)
        assert result["signal"] == signal.SIGTERM
        assert result["no_signal"] is None
        assert result["told"] == 0.1
        assert result["drawn"] == [[0, 1, 2], [10, 11, 12]]
        assert result["last"] is None
    assert [result["found_done"] for result in together] == [False, *[True] * (num_ranks - 1)]
    # bit for bit the same in all of them, or they would drift apart
    for name in ("whole", "scale", "beta", "pop_mean"):
        assert all(torch.equal(result[name], together[0][name]) for result in together)
