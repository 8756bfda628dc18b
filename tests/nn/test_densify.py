from dataclasses import replace

import network_golden
import numpy as np
import pytest
import torch

from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.detector.grid import CELL_HAS_DOM, DOM_CELL, NUM_CELLS
from dnn_reco.nn.densify import Densify


def test_transformed_inputs_equal_golden_arrays(golden_network):
    golden = np.load(golden_network / "trafo_inputs9_numu_medium.npz")
    densify = Densify(network_golden.spec(golden_network), 1.0, torch.float32)
    main, deepcore = densify(network_golden.hits(golden_network))
    np.testing.assert_allclose(main.numpy(), golden["ic78_trafo"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(deepcore.numpy(), golden["deepcore_trafo"], rtol=0, atol=1e-5)


def slow_transform(spec, event_hits):
    """One event, cell by cell."""
    trafo = spec.transformation
    values = np.tile(spec.dom_init_values, (NUM_CELLS, 1))
    for dom, features in event_hits:
        values[DOM_CELL[dom]] = features
    for i, log in enumerate(trafo.settings.log_dom_bins):
        if log:
            values[:, i] = np.log1p(values[:, i])
    return (values - trafo.dom_mean) / (trafo.settings.norm_constant + trafo.dom_std)


def test_every_cell_holds_the_transform_of_its_values(small_spec):
    events = [[(0, [1.0, -5.0]), (5159, [0.5, 3.0])], [], [(4700, [2.0, 8.0])]]
    hits = HitBatch(
        num_events=3,
        event=torch.tensor([0, 0, 2]),
        dom=torch.tensor([0, 5159, 4700]),
        features=torch.tensor([[1.0, -5.0], [0.5, 3.0], [2.0, 8.0]]),
    )
    main, deepcore = Densify(small_spec, 1.0, torch.float64)(hits)
    cells = torch.cat([main.flatten(1, 3), deepcore.flatten(1, 2)], dim=1)
    for event, event_hits in enumerate(events):
        expected = slow_transform(small_spec, event_hits)
        np.testing.assert_allclose(cells[event].numpy(), expected, rtol=1e-6, atol=1e-6)


def test_no_hits_at_all(small_spec):
    empty = torch.zeros(0, dtype=torch.int64)
    hits = HitBatch(2, empty, empty, torch.zeros(0, 2))
    main, _ = Densify(small_spec, 1.0, torch.float32)(hits)
    assert torch.isfinite(main).all()
    assert torch.equal(main[0], main[1])


def test_dropout_sets_whole_doms_to_zero_and_scales_the_others(small_spec):
    empty = torch.zeros(0, dtype=torch.int64)
    hits = HitBatch(20, empty, empty, torch.zeros(0, 2))
    torch.manual_seed(1)
    densify = Densify(small_spec, 0.8, torch.float32)
    main, deepcore = densify(hits)
    untouched = torch.cat([x.flatten(1, -2) for x in densify.eval()(hits)], dim=1)
    cells = torch.cat([main.flatten(1, 3), deepcore.flatten(1, 2)], dim=1)
    has_dom = torch.tensor(CELL_HAS_DOM)
    doms, expected = cells[:, has_dom], untouched[:, has_dom] / 0.8
    dropped = (doms == 0).all(dim=-1)
    assert torch.allclose(doms[~dropped], expected[~dropped])
    # 20 · 5160 DOMs: the share dropped is 0.2 within 5 standard deviations (0.00125 each)
    assert dropped.double().mean().item() == pytest.approx(0.2, abs=0.006)


def test_main_array_comes_before_deepcore(small_spec):
    hits = HitBatch(1, torch.tensor([0]), torch.tensor([78 * 60]), torch.tensor([[9.0, 9.0]]))
    densify = Densify(small_spec, 1.0, torch.float32)
    main, deepcore = densify(hits)
    empty = torch.zeros(0, dtype=torch.int64)
    background, deepcore_background = densify(HitBatch(1, empty, empty, torch.zeros(0, 2)))
    assert torch.equal(main, background)
    changed = (deepcore != deepcore_background).any(dim=-1)
    assert changed.nonzero().tolist() == [[0, 0, 0]]


def test_inputs_that_are_not_normalised_keep_their_values(small_spec):
    settings = replace(small_spec.transformation.settings, normalize_dom_data=False)
    spec = replace(small_spec, transformation=replace(small_spec.transformation, settings=settings))
    hits = HitBatch(1, torch.tensor([0]), torch.tensor([17]), torch.tensor([[1.5, -5.0]]))
    main, deepcore = Densify(spec, 1.0, torch.float64)(hits)
    cells = torch.cat([main.flatten(1, 3), deepcore.flatten(1, 2)], dim=1)[0].numpy()
    log = spec.transformation.settings.log_dom_bins
    expected = [np.log1p(x) if flag else x for x, flag in zip([1.5, -5.0], log, strict=True)]
    np.testing.assert_allclose(cells[DOM_CELL[17]], expected, rtol=1e-6)


def random_hits(num_events: int) -> HitBatch:
    generator = torch.Generator().manual_seed(1)
    counts = torch.tensor([40, 0, 300][:num_events])
    dom = torch.cat([torch.randperm(5160, generator=generator)[:n].sort().values for n in counts])
    features = torch.rand(len(dom), 2, generator=generator)
    return HitBatch(num_events, torch.arange(num_events).repeat_interleave(counts), dom, features)


@pytest.mark.parametrize("training", [False, True])
def test_inputs_of_fused_layers_are_the_dense_arrays(small_spec, training):
    densify = Densify(small_spec, keep_prob_dom=0.7, dtype=torch.float32).train(training)
    hits = random_hits(3)
    torch.manual_seed(5)
    main, deepcore = densify(hits)
    channels = deepcore.permute(0, 3, 1, 2).flatten(1, 2)  # feature by feature, string by string
    expected = main.movedim(-1, 1), channels[..., :10], channels[..., 10:]
    torch.manual_seed(5)
    for part, dense in zip(densify.of_parts(hits), expected, strict=True):
        for events in (slice(0, 3), slice(1, 2), slice(2, 3)):
            values = part.of_events(events).reshape(dense[events].shape)
            np.testing.assert_array_equal(values, dense[events].numpy())


def test_hits_that_are_not_in_the_order_of_events_take_the_dense_way(small_spec):
    densify = Densify(small_spec, keep_prob_dom=1.0, dtype=torch.float32)
    hits = random_hits(3)
    assert densify.can_fill_parts(hits)
    for event in (hits.event.flip(0), hits.event - 1, hits.event + 1):
        assert not densify.can_fill_parts(replace(hits, event=event))
    assert not densify.can_fill_parts(replace(hits, features=hits.features.requires_grad_()))
