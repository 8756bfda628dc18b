"""Data augmentation of hits: its statistics, and its independence of order and processes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.detector.geometry import dom_positions
from dnn_reco.nn.augmentation import Augmentation
from dnn_reco.nn.counter_rng import new_key, normal, uniform
from dnn_reco.nn.sharded_batch import BatchShard, batch_shard
from dnn_reco.nn.tokens import AUTO, FeatureRoles, HitInputs

ROLES = FeatureRoles.of(9, AUTO, AUTO, AUTO)


def some_hits(num_events: int = 200, hits_each: int = 50) -> HitBatch:
    rng = np.random.default_rng(4)
    num_hits = num_events * hits_each
    doms = np.concatenate(
        [np.sort(rng.choice(5160, hits_each, replace=False)) for _ in range(num_events)]
    )
    features = rng.uniform(1, 3, (num_hits, 9))
    features[:, 3:8] += rng.uniform(0, 5000, (num_hits, 1))
    event = torch.arange(num_events).repeat_interleave(hits_each)
    return HitBatch(num_events, event, torch.from_numpy(doms), torch.from_numpy(features))


def changed(hits: HitBatch, seed: int = 1, **settings: object) -> HitBatch:
    torch.manual_seed(seed)
    return Augmentation.from_kwargs(settings, ROLES).apply(hits, ROLES)


def assert_equal(first: HitBatch, second: HitBatch) -> None:
    assert first.num_events == second.num_events
    for name in ("event", "dom", "features"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name


def test_random_numbers_are_uniform_and_independent() -> None:
    owner = torch.arange(100_000)
    first, second = uniform(3, owner, torch.float64), uniform(4, owner, torch.float64)
    assert first.min() >= 0 and first.max() < 1
    for numbers in (first, second):
        # χ² of 100 bins: 99 ± 14
        counts = torch.histc(numbers, 100, 0, 1)
        assert ((counts - 1000) ** 2 / 1000).sum() == pytest.approx(99, abs=60)
    for a, b in ((first, second), (first[1:], first[:-1]), (first[64:], first[:-64])):
        assert np.corrcoef(a.numpy(), b.numpy())[0, 1] == pytest.approx(0, abs=0.013)
    assert torch.equal(uniform(3, owner.flip(0), torch.float64), first.flip(0))


def test_normal_random_numbers() -> None:
    numbers = normal(9, torch.arange(200_000), torch.float64).numpy()
    expected = {-2: 0.02275, -1: 0.15866, 0: 0.5, 1: 0.84134, 2: 0.97725}
    for limit, share in expected.items():
        assert (numbers < limit).mean() == pytest.approx(share, abs=0.004)
    assert np.isfinite(numbers).all()


def test_keys_follow_the_generator() -> None:
    torch.manual_seed(5)
    keys = [new_key() for _ in range(3)]
    torch.manual_seed(5)
    assert keys == [new_key() for _ in range(3)]
    assert len(set(keys)) == 3


def test_by_default_nothing_changes() -> None:
    hits = some_hits()
    assert_equal(changed(hits), hits)
    assert Augmentation().rotation_angles(3, torch.device("cpu"), torch.float32) is None


def test_dropped_doms() -> None:
    hits = some_hits()
    left = changed(hits, drop_doms=0.2)
    assert len(left.event) / len(hits.event) == pytest.approx(0.8, abs=0.02)
    pairs = set(zip(hits.event.tolist(), hits.dom.tolist(), strict=True))
    assert pairs > set(zip(left.event.tolist(), left.dom.tolist(), strict=True))
    assert len(changed(hits, drop_doms=0.2).event) == len(left.event)
    assert not torch.equal(changed(hits, 2, drop_doms=0.2).dom, left.dom)


def test_noise() -> None:
    hits = some_hits()
    more = changed(hits, noise_hits=6.0)
    assert torch.equal(more.event, more.event.sort().values)
    number = (torch.bincount(more.event) - 50).double()
    # 1 % of the DOMs are hit already
    assert number.mean() == pytest.approx(6 * 0.99, abs=0.6)
    assert number.var() == pytest.approx(6 * 7 / 8, abs=1.5)
    both = more.event * 5160 + more.dom
    is_new = ~torch.isin(both, hits.event * 5160 + hits.dom)
    assert is_new.sum() == number.sum()
    added = more.features[is_new]
    assert added[:, 0].mean() == pytest.approx(1, abs=0.05)
    assert torch.equal(added[:, 1], added[:, 0])
    assert torch.equal(added[:, 7], added[:, 3])
    assert (added[:, 8] == 0).all()
    low = torch.stack([hits.features[hits.event == e, 3].min() for e in range(200)])
    high = torch.stack([hits.features[hits.event == e, 3].max() for e in range(200)])
    event = more.event[is_new]
    place = (added[:, 3] - low[event]) / (high - low)[event]
    assert place.min() >= 0 and place.max() <= 1
    assert place.mean() == pytest.approx(0.5, abs=0.03)
    assert torch.equal(more.features[~is_new], hits.features)


def test_first_pulses_of_doms() -> None:
    """9 features, then times of three pulses (9 to 11), then their charges (12 to 14)."""
    roles = FeatureRoles.of(15, AUTO, AUTO, AUTO, "pulse_summary_and_first_pulses_3")
    hits = some_hits()
    features = torch.cat([hits.features, hits.features[:, [3, 3, 5, 0, 1, 2]]], dim=1)
    features[:, 10] += torch.rand(len(features)) * 100
    hits = replace(hits, features=features)

    def change(**settings: object) -> HitBatch:
        torch.manual_seed(1)
        return Augmentation.from_kwargs(settings, roles).apply(hits, roles)

    shift = change(jitter_times=5.0).features - hits.features
    assert shift[:, 3].std() == pytest.approx(5, rel=0.03)
    for feature in range(15):
        is_time = feature in (3, 4, 5, 6, 7, 9, 10, 11)
        torch.testing.assert_close(shift[:, feature], shift[:, 3] * is_time)
    for setting in ("scale_charges", "vary_charges"):
        factor = change(**{setting: 0.1}).features / hits.features
        for feature in range(15):
            is_charge = feature in (0, 1, 2, 12, 13, 14)
            expected = factor[:, 0] if is_charge else torch.ones(len(factor)).double()
            torch.testing.assert_close(factor[:, feature], expected)
    # a noise hit is one pulse
    noisy = change(noise_hits=6.0)
    both = hits.event * 5160 + hits.dom
    noise = noisy.features[~torch.isin(noisy.event * 5160 + noisy.dom, both)]
    assert len(noise) > 1000
    assert torch.equal(noise[:, [9, 10, 11, 7]], noise[:, 3:4].expand(-1, 4))
    assert torch.equal(noise[:, [1, 2, 12]], noise[:, :1].expand(-1, 3))
    assert (noise[:, [8, 13, 14]] == 0).all()


def test_times_and_charges() -> None:
    hits = some_hits()
    times = changed(hits, jitter_times=5.0).features - hits.features
    assert (times[:, [0, 1, 2, 8]] == 0).all()
    torch.testing.assert_close(times[:, 4:8], times[:, 3:4].expand(-1, 4))
    assert times[:, 3].std() == pytest.approx(5, rel=0.03)
    factors = (changed(hits, scale_charges=0.1).features / hits.features).log()
    assert factors[:, 0].view(200, 50).std(dim=1).max() < 1e-12
    assert factors[::50, 0].std() == pytest.approx(0.1, rel=0.2)
    assert factors[:, 3:].abs().max() == 0
    factors = (changed(hits, vary_charges=0.1).features / hits.features).log()
    torch.testing.assert_close(factors[:, 1:3], factors[:, :1].expand(-1, 2))
    assert factors[:, 0].view(200, 50).std(dim=1).mean() == pytest.approx(0.1, rel=0.03)


def test_shards_are_augmented_like_the_whole_batch() -> None:
    everything = {
        "drop_doms": 0.1,
        "noise_hits": 4,
        "jitter_times": 3.0,
        "scale_charges": 0.2,
        "vary_charges": 0.1,
    }
    hits = some_hits(20)
    whole = changed(hits, **everything)
    for first, last in ((0, 8), (8, 20)):
        own = (hits.event >= first) & (hits.event < last)
        part = HitBatch(last - first, hits.event[own] - first, hits.dom[own], hits.features[own])
        with batch_shard(BatchShard(20, first, lambda values: values)):
            found = changed(part, **everything)
        rows = (whole.event >= first) & (whole.event < last)
        assert_equal(
            found,
            HitBatch(
                last - first, whole.event[rows] - first, whole.dom[rows], whole.features[rows]
            ),
        )


def test_rotation_angles() -> None:
    torch.manual_seed(1)
    cpu = torch.device("cpu")
    sixths = Augmentation(rotate_events="sixths").rotation_angles(6000, cpu, torch.float64)
    assert sixths is not None
    numbers = torch.bincount((sixths * 3 / math.pi).round().long(), minlength=6)
    assert numbers.tolist() == pytest.approx([1000] * 6, abs=120)
    angle = Augmentation(rotate_events="any").rotation_angles(10000, cpu, torch.float64)
    assert angle is not None
    assert angle.mean() == pytest.approx(math.pi, abs=0.06)
    assert angle.max() == pytest.approx(2 * math.pi, abs=0.01)


def test_a_rotation_by_60_degrees_maps_the_grid_of_strings_nearly_to_itself() -> None:
    inputs = HitInputs(9, ROLES, 2, torch.float64)
    strings = torch.arange(0, 78 * 60, 60)
    hits = HitBatch(78, torch.arange(78), strings, torch.ones(78, 9))
    angle = torch.full((78,), math.pi / 3, dtype=torch.float64)
    rotated = inputs(hits, angle).hits[:, 9:12] * 500
    grid = torch.tensor(dom_positions()[strings])
    torch.testing.assert_close(rotated[:, 2], grid[:, 2])
    inner = (grid[:, :2] - grid[35, :2]).norm(dim=1) < 260
    distance = torch.cdist(rotated[inner, :2], grid[:, :2]).min(dim=1).values
    assert inner.sum() > 15
    assert distance.max() < 35  # strings are 125 m from each other
