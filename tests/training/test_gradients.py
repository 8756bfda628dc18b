"""Clipping, cleaning and accumulation of gradients, against the slow obvious way."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from dnn_reco.training.gradients import Clipping, GradientAccumulator, NonFiniteGradientFilter

CPU = torch.device("cpu")
values = st.floats(-100, 100, width=32)
gradients = st.lists(
    st.one_of(st.none(), arrays.arrays(np.float32, st.integers(1, 5), elements=values)), min_size=1
).filter(lambda parts: any(part is not None for part in parts))
limits = st.one_of(st.none(), st.floats(0.01, 50))


def tensors(parts: list[np.ndarray | None]) -> list[Tensor | None]:
    return [None if part is None else torch.tensor(part) for part in parts]


def norm(parts: list[np.ndarray | None]) -> float:
    return math.sqrt(
        sum(float((part.astype(float) ** 2).sum()) for part in parts if part is not None)
    )


@given(gradients, limits, limits, limits)
def test_clipping(
    parts: list[np.ndarray | None],
    global_norm: float | None,
    each_norm: float | None,
    value: float | None,
) -> None:
    clipping = Clipping(global_norm, each_norm, value)
    clipped = clipping.clip(tensors(parts), torch.tensor(norm(parts)))
    for before, after in zip(parts, clipped, strict=True):
        assert (before is None) == (after is None)
        if before is None or after is None:
            continue
        expected = before.astype(float)
        if global_norm is not None and norm(parts) > global_norm:
            expected = expected * global_norm / norm(parts)
        if each_norm is not None and norm([expected]) > each_norm:
            expected = expected * each_norm / norm([expected])
        if value is not None:
            expected = expected.clip(-value, value)
        np.testing.assert_allclose(after, expected, rtol=1e-3, atol=1e-6)


def test_one_tensor_as_the_gradient_of_two_parameters_is_clipped_once() -> None:
    """Autograd gives that where two parameters are added: as if it were two tensors."""
    a, b = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    for factor in (torch.ones(3), torch.tensor([3.0, 4.0, 0.0])):
        gradient = torch.autograd.grad(((a + b) * factor).sum(), [a, b])
        assert gradient[0].data_ptr() == gradient[1].data_ptr()
        clipped = Clipping(1.0, 0.5, 0.4).clip(
            gradient, torch.linalg.vector_norm(torch.stack(gradient))
        )
        length = math.sqrt(0.5)
        for part in clipped:
            expected = factor / torch.linalg.vector_norm(factor) * length
            expected = (expected * 0.5 / length).clamp(-0.4, 0.4)
            torch.testing.assert_close(part, expected, rtol=1e-4, atol=1e-6)


def test_what_is_not_finite_is_removed_and_counted_in_entries_and_batches() -> None:
    gradient_filter = NonFiniteGradientFilter(CPU)
    nan, inf = float("nan"), float("inf")
    gradient = [torch.tensor([[1.0, nan], [-inf, 2.0]]), None, torch.tensor([inf, 3.0])]
    cleaned = gradient_filter.clean(gradient)
    assert cleaned[0] is not None
    assert cleaned[2] is not None
    assert cleaned[0].tolist() == [[1.0, 0.0], [0.0, 2.0]]
    assert cleaned[1] is None
    assert cleaned[2].tolist() == [0.0, 3.0]
    gradient_filter.clean([torch.ones(2), None, torch.ones(2)])
    gradient_filter.clean([torch.tensor([nan])])
    assert gradient_filter.take_counts() == (4, 2)
    assert gradient_filter.take_counts() == (0, 0)


def test_the_mean_goes_on_after_a_restart_and_with_another_number_of_batches() -> None:
    parameters = {name: torch.nn.Parameter(torch.zeros(2)) for name in ("a/b", "c")}
    first = GradientAccumulator(parameters, 4)
    for step in (1.0, 2.0):
        first.add([torch.full((2,), step), None])
    again = GradientAccumulator(parameters, 3)
    again.restore({name: t.clone() for name, t in first.state().items()}, CPU)
    assert again.take() is None
    again.add([torch.full((2,), 6.0), torch.ones(2)])
    mean = again.take()
    assert mean is not None
    for part, expected in zip(mean, (9 / 3, 1 / 3), strict=True):
        assert part is not None
        assert part.tolist() == pytest.approx([expected] * 2)
    assert again.state() == {}


def test_fewer_batches_than_there_are_already() -> None:
    parameters = {"a": torch.nn.Parameter(torch.zeros(1))}
    first = GradientAccumulator(parameters, 8)
    for step in range(5):
        first.add([torch.tensor([float(step)])])
    again = GradientAccumulator(parameters, 2)
    again.restore(first.state(), CPU)
    assert again.add([torch.tensor([20.0])]) == pytest.approx(5.0)
    mean = again.take()
    assert mean is not None
    assert mean[0] is not None
    assert mean[0].item() == pytest.approx(30 / 6)
