"""`nn_biased_selection.tf_parallelism_threads` limits the threads of its predictions."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dnn_reco.training.biased_selection import Snapshot


class Witness(nn.Module):
    """A network that records how many threads it may use."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []

    def forward(self, hits: Tensor) -> Any:
        self.threads.append(torch.get_num_threads())
        return SimpleNamespace(labels=hits, labels_trafo=hits, uncertainty_trafo=hits)


@pytest.mark.parametrize(("limit", "used"), [(None, 3), (0, 3), (1, 1), (2, 2), (8, 3)])
def test_threads_of_predictions(limit: int | None, used: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        values = torch.zeros(2, 1)
        transform: Any = SimpleNamespace(unscale_uncertainty=lambda x: x)
        network: Any = Witness()
        snapshot = Snapshot(network, transform, torch.tensor([torch.inf]), num_threads=limit)
        snapshot._label_transform = lambda labels: labels  # type: ignore[assignment]
        snapshot.residuals(SimpleNamespace(hits=values, labels=values))  # type: ignore[arg-type]
        assert snapshot._copy.threads == [used]  # type: ignore[attr-defined]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
