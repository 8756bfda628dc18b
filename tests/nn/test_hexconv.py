import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dnn_reco.nn.hexconv import (
    flat_cells,
    kernel_cells,
    kernel_width,
    ring,
    rotated_kernel,
    rotations,
    square_kernel,
)

STEPS = [(0, 1), (1, 0), (1, -1), (0, -1), (-1, 0), (-1, 1)]


def rotated(cell):
    """A cell rotated by 60 degrees around (0, 0), in the direction of rotated kernels."""
    a, b = cell
    return a + b, -a


def within(steps):
    reached = {(0, 0)}
    for _ in range(steps):
        reached |= {(a + da, b + db) for a, b in reached for da, db in STEPS}
    return reached


@pytest.mark.parametrize(("size", "count"), [(1, 1), (2, 7), (3, 19), (4, 37)])
def test_cells_are_those_within_size_minus_one_steps(size, count):
    cells = kernel_cells(size, 0)
    assert len(cells) == count
    assert set(cells) == {(a + size - 1, b + size - 1) for a, b in within(size - 1)}


@pytest.mark.parametrize(("size", "orientation"), [(2, 1), (3, 1), (3, 2), (4, 3)])
def test_tips_are_six_cells_of_the_next_ring_60_degrees_apart(size, orientation):
    cells = {(a - size, b - size) for a, b in kernel_cells(size, orientation)}
    hexagon = within(size - 1)
    tips = cells - hexagon
    assert hexagon < cells
    assert len(tips) == 6
    assert tips < within(size)
    assert {rotated(tip) for tip in tips} == tips


def test_tips_lie_where_the_reference_has_them():
    # NETWORK.md: (2s-o, 0), (s-o, o), (0, s+o), (o, 2s), (s+o, 2s-o), (2s, s-o)
    expected = {(5, 0), (2, 1), (0, 4), (1, 6), (4, 5), (6, 2)}
    inner = {(a + 1, b + 1) for a, b in kernel_cells(3, 0)}
    assert set(kernel_cells(3, 1)) == inner | expected


@pytest.mark.parametrize("radius", [1, 2, 3, 5])
def test_a_ring_goes_once_around_from_neighbour_to_neighbour(radius):
    cells = ring(radius)
    assert set(cells) == within(radius) - within(radius - 1)
    for (a, b), (next_a, next_b) in itertools.pairwise([*cells, cells[0]]):
        assert (next_a - a, next_b - b) in STEPS


@pytest.mark.parametrize("name", ["base_strong", "mixed", "tilted10"])
def test_assembled_kernels_equal_golden_ones(golden_network, name):
    meta = json.loads((golden_network / f"model_{name}_meta.json").read_text())
    block = meta["model_kwargs"]["conv_ic78_settings"]
    weights = np.load(golden_network / f"model_{name}_weights.npz")
    for layer, filter_size in enumerate(block["filter_size_list"]):
        size, orientation, _ = filter_size
        prefix = f"ic78/{layer}/"
        variables = sorted(k for k in weights.files if k.startswith(f"{prefix}rotvar_"))
        if variables:
            *spatial, in_out = (torch.tensor(weights[key]) for key in variables)
            shares = rotations(size, orientation, len(in_out), legacy=True).float()
            kernel = rotated_kernel(shares, torch.stack(spatial), in_out)
        elif f"{prefix}weights" in weights.files:
            continue  # a plain convolution
        else:
            cells = kernel_cells(size, orientation)
            stacked = np.stack([weights[f"{prefix}hexcell_{a}_{b}"] for a, b in cells])
            width = kernel_width(size, orientation)
            kernel = square_kernel(torch.tensor(stacked), flat_cells(size, orientation), width)
        np.testing.assert_allclose(
            kernel, weights[f"{prefix}kernel_assembled"], rtol=1e-6, atol=1e-6, err_msg=str(layer)
        )


def test_corners_get_no_weight_and_each_weight_one_place():
    weight = torch.arange(1.0, 8).reshape(7, 1, 1, 1).requires_grad_()
    kernel = square_kernel(weight, flat_cells(2, 0), 3)
    assert kernel.flatten().tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0]
    kernel.sum().backward()
    assert weight.grad is not None
    assert weight.grad.flatten().tolist() == [1] * 7


@given(
    size=st.integers(1, 4),
    orientation=st.integers(0, 3),
    num_rotations=st.sampled_from([2, 3, 4, 5, 6, 12]),
)
def test_a_rotation_keeps_the_sum_of_each_weight_and_60_degrees_rotate_the_kernel(
    size, orientation, num_rotations
):
    orientation %= size
    shares = rotations(size, orientation, num_rotations, legacy=False)
    width = kernel_width(size, orientation)
    np.testing.assert_allclose(shares.sum(dim=1), 1, rtol=1e-12)
    grid = shares.view(num_rotations, width, width, -1).numpy()
    middle = width // 2
    for rotation in range(num_rotations):
        later = rotation + num_rotations // 6
        if num_rotations % 6 != 0 or later >= num_rotations:
            continue
        for a, b in within(middle):
            new_a, new_b = rotated((a, b))
            np.testing.assert_allclose(
                grid[later, new_a + middle, new_b + middle],
                grid[rotation, a + middle, b + middle],
                atol=1e-12,
            )


def test_weights_between_two_cells_are_shared_by_distance():
    # 90 degrees are one and a half of the six cells of the first ring
    shares = rotations(2, 0, 4, legacy=False)[1].view(3, 3, 7)
    first, second = ring(1)[1], ring(1)[2]
    weight_of_first_cell = 1
    assert shares[first[0] + 1, first[1] + 1, weight_of_first_cell] == pytest.approx(0.5)
    assert shares[second[0] + 1, second[1] + 1, weight_of_first_cell] == pytest.approx(0.5)


def test_only_the_legacy_form_omits_a_weight():
    ours, legacy = (rotations(2, 0, 6, legacy=legacy) for legacy in (False, True))
    assert ours[0].sum(dim=0).tolist() == [1] * 7
    assert legacy[0].sum(dim=0).tolist() == [1, 1, 1, 1, 2, 0, 1]
    assert torch.equal(rotations(3, 0, 6, legacy=True), rotations(3, 0, 6, legacy=False))
