"""Random numbers by counter, against published numbers of the generator."""

import math

import pytest
import torch

from dnn_reco.nn.counter_rng import normal, uniform

# The first outputs of SplitMix64 with the seed 0 (reference implementation of S. Vigna).
SPLITMIX64 = (*(0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC),)


def test_numbers_of_splitmix64() -> None:
    """A number is the output of the generator with seed `key` after so many steps, of 24 bits."""
    counter = torch.arange(1, 5)
    expected = [number / 2**64 for number in SPLITMIX64]
    found = uniform(0, counter, torch.float64)
    assert found.tolist() == pytest.approx(expected, abs=2**-24)
    assert (found * 2**24 % 1 == 0).all()
    assert (found <= torch.tensor(expected, dtype=torch.float64)).all()
    assert uniform(0, counter.view(2, 2), torch.float32).shape == (2, 2)
    later = uniform(0x9E3779B97F4A7C15 - 2**64, counter[:3], torch.float64)
    assert later.tolist() == found[1:].tolist()


def test_normal_numbers_by_box_and_muller() -> None:
    counter = torch.tensor([1])
    first, second = (float(uniform(7, torch.tensor([i]), torch.float64)) for i in (2, 3))
    expected = math.sqrt(-2 * math.log(1 - first)) * math.cos(2 * math.pi * second)
    assert float(normal(7, counter, torch.float64)) == pytest.approx(expected)
