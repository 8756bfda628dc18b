import numpy as np
import pytest
import torch

from dnn_reco.nn.hexconv import flat_cells, hexagon_cells, square_kernel


@pytest.mark.parametrize(("size", "count"), [(1, 1), (2, 7), (3, 19), (4, 37)])
def test_number_of_cells(size, count):
    assert len(hexagon_cells(size)) == count


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_cells_are_those_within_size_minus_one_steps(size):
    steps = [(0, 1), (1, 0), (1, -1), (0, -1), (-1, 0), (-1, 1)]
    reached = {(0, 0)}
    for _ in range(size - 1):
        reached |= {(a + da, b + db) for a, b in reached for da, db in steps}
    shifted = {(a + size - 1, b + size - 1) for a, b in reached}
    assert set(hexagon_cells(size)) == shifted


def test_assembled_kernels_equal_golden_ones(golden_network):
    weights = np.load(golden_network / "model_base_strong_weights.npz")
    for layer in range(8):
        cells = [weights[f"ic78/{layer}/hexcell_{a}_{b}"] for a, b in hexagon_cells(2)]
        kernel = square_kernel(torch.tensor(np.stack(cells)), flat_cells(2), 2)
        np.testing.assert_array_equal(kernel.numpy(), weights[f"ic78/{layer}/kernel_assembled"])


def test_corners_get_no_weight_and_each_weight_one_place():
    weight = torch.arange(1.0, 8).reshape(7, 1, 1, 1).requires_grad_()
    kernel = square_kernel(weight, flat_cells(2), 2)
    assert kernel.flatten().tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0]
    kernel.sum().backward()
    assert weight.grad is not None
    assert weight.grad.flatten().tolist() == [1] * 7
