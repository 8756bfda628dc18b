"""The fused transformer against PyTorch's own operations in float64, and for any division."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_up_spec import made_up_spec
from torch import Tensor

from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.detector.geometry import NUM_DOMS
from dnn_reco.errors import ModelError
from dnn_reco.modules.models.dom_transformer import DomTransformer
from dnn_reco.nn import threads
from dnn_reco.nn.interface import LabelKeys, NetworkSpec, Prediction

pytest.importorskip("numba")

LABELS = ("energy", "dir_x", "dir_y", "dir_z")
COUNTS = [40, 3, 0, 141, 7, 1, 256, 0, 33, 300, 95]
SHAPES = [
    {"width": 64, "num_heads": 2, "num_layers": 3, "hidden": 128},
    {"width": 32, "num_heads": 1, "num_layers": 1, "hidden": 64},
    {"width": 96, "num_heads": 3, "num_layers": 4, "hidden": 160, "num_waves": 3},
    {"width": 128, "num_heads": 2, "num_layers": 2, "hidden": 32, "num_waves": 7},
]


def network_spec(num_bins: int = 9, data_format: str | None = None) -> NetworkSpec:
    keys = LabelKeys(dir_x="dir_x", dir_y="dir_y", dir_z="dir_z")
    spec = made_up_spec(LABELS, keys, [5.0, 0, 0.1, -0.2], [2.0, 0.6, 0.6, 0.6], num_bins)
    return replace(spec, data_format=data_format)


def hits_of(counts: list[int], num_bins: int = 9, seed: int = 5) -> HitBatch:
    """Events with these numbers of hits."""
    rng = np.random.default_rng(seed)
    features = rng.exponential(3.0, (sum(counts), num_bins)).astype(np.float32)
    if num_bins == 9:
        features[:, 3] = rng.uniform(-100, 6000, len(features))
        features[:, 4:8] = features[:, 3:4] + rng.exponential(200, (len(features), 4))
    doms = [np.sort(rng.choice(NUM_DOMS, count, replace=False)) for count in counts]
    return HitBatch(
        len(counts),
        torch.from_numpy(np.repeat(np.arange(len(counts)), counts)),
        torch.from_numpy(np.concatenate([np.zeros(0, int), *doms])),
        torch.from_numpy(features),
    )


def networks(
    num_bins: int = 9, data_format: str | None = None, **kwargs: object
) -> tuple[DomTransformer, DomTransformer]:
    """The same network in float32 and float64, with weights that all have an effect."""
    settings = {**SHAPES[0], "max_tokens": 290, **kwargs}
    spec = network_spec(num_bins, data_format)
    single = DomTransformer(spec, **settings)
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in single.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    double = DomTransformer(spec, **settings, dtype="float64")
    double.load_state_dict(single.state_dict())
    assert single.computes_in_pieces and not double.computes_in_pieces
    return single, double


def outputs(prediction: Prediction) -> Tensor:
    return torch.cat([prediction.labels_trafo, prediction.uncertainty_trafo], dim=1)


def gradients(network: DomTransformer, hits: HitBatch) -> dict[str, Tensor]:
    """Gradients of a sum over all outputs with different factors."""
    network.zero_grad()
    y = outputs(network(hits))
    factors = torch.linspace(-1, 1, y.numel()).reshape(y.shape)
    (y * factors.to(y.dtype)).sum().backward()
    return {name: each.grad for name, each in network.named_parameters() if each.grad is not None}


def assert_close(result: Tensor, expected: Tensor, tolerance: float) -> None:
    scale = float(expected.abs().max()) + 1e-12
    assert result.shape == expected.shape
    assert float((result.double() - expected).abs().max()) < tolerance * scale


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("rotates", [False, True])
def test_output_and_gradients_are_those_of_plain_operations(
    shape: dict[str, int], rotates: bool
) -> None:
    augmentation = {"rotate_events": "any"} if rotates else {}
    single, double = networks(**shape, augmentation=augmentation)
    hits = hits_of(COUNTS)
    results = []
    for network in (single, double):
        torch.manual_seed(3)  # of the rotations
        results.append(gradients(network, hits))
    assert results[0].keys() == results[1].keys()
    for name, expected in results[1].items():
        assert_close(results[0][name], expected, 1e-4)
    single.eval()
    double.eval()
    with torch.inference_mode():
        assert_close(outputs(single(hits)), outputs(double(hits)), 2e-5)


@pytest.mark.parametrize("num_bins", [3, 5, 20])
def test_other_features(num_bins: int) -> None:
    single, double = networks(num_bins)
    hits = hits_of(COUNTS, num_bins)
    with torch.no_grad():
        assert_close(outputs(single(hits)), outputs(double(hits)), 2e-5)


def test_first_pulses_of_doms() -> None:
    """The nine features, times of eight pulses, and their charges: outputs and gradients."""
    single, double = networks(25, "pulse_summary_and_first_pulses_8")
    hits = hits_of(COUNTS, 25)
    features = hits.features
    features[:, [3, 4, 5, 6, 7, *range(9, 17)]] += 1000 * features[:, :1]  # those with times
    hits = replace(hits, features=features)
    single.eval()
    double.eval()
    assert single._fused.accepts(hits)
    with torch.inference_mode():
        assert_close(outputs(single(hits)), outputs(double(hits)), 2e-5)
    single.train()
    double.train()
    results, expected = gradients(single, hits), gradients(double, hits)
    assert results.keys() == expected.keys()
    for name, gradient in expected.items():
        assert_close(results[name], gradient, 1e-4)


@pytest.fixture
def restored_threads() -> Iterator[None]:
    """The number of threads is the same afterwards."""
    number = torch.get_num_threads()
    yield
    threads._number = None
    torch.set_num_threads(number)


@pytest.mark.usefixtures("restored_threads")
def test_results_do_not_depend_on_the_number_of_threads() -> None:
    network, _ = networks()
    hits = hits_of([60, 90, 130, 250] * 12)

    def compute(number: int) -> list[Tensor]:
        threads.use_threads(number, in_pieces=True)
        return [outputs(network(hits)).detach(), *gradients(network, hits).values()]

    single = compute(1)
    for number in (2, 3, 4):
        for result, expected in zip(compute(number), single, strict=True):
            assert torch.equal(result, expected)


@torch.inference_mode()
def test_events_do_not_depend_on_others_of_the_batch() -> None:
    network = networks()[0].eval()
    together = network._fused(hits_of(COUNTS), None)
    hits = hits_of(COUNTS)
    for event in range(len(COUNTS)):
        rows = hits.event == event
        alone = HitBatch(1, hits.event[rows] - event, hits.dom[rows], hits.features[rows])
        assert torch.equal(network._fused(alone, None)[0], together[event])


@torch.inference_mode()
def test_no_events_and_no_hits() -> None:
    network, double = networks()
    assert network(hits_of([])).labels.shape == (0, len(LABELS))
    hits = hits_of([0, 0])
    assert_close(outputs(network(hits)), outputs(double(hits)), 1e-5)


def test_prediction_with_gradients_and_without_is_the_same() -> None:
    network = networks()[0].eval()
    hits = hits_of(COUNTS)
    expected = outputs(network(hits)).detach()
    with torch.no_grad():
        assert torch.equal(outputs(network(hits)), expected)
    for _ in range(2):
        with torch.inference_mode():
            assert torch.equal(outputs(network(hits)), expected)


@pytest.mark.parametrize("fused_step", [False, True])
def test_predictions_are_those_of_the_present_weights(fused_step: bool) -> None:
    """Also after steps of fused optimizers, which do not count as changes of a tensor."""
    network, hits = networks()[0], hits_of(COUNTS)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1, fused=fused_step)
    before = None
    for _ in range(2):
        network.train()
        outputs(network(hits)).square().mean().backward()
        optimizer.step()
        network.eval()
        expected = outputs(network(hits)).detach()
        assert before is None or not torch.equal(before, expected)
        for _ in range(2):
            with torch.inference_mode():
                assert torch.equal(outputs(network(hits)), expected)
        before = expected
    zeros = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
    for assign in (False, True):
        network.load_state_dict({name: value + assign for name, value in zeros.items()}, assign)
        expected = outputs(network(hits)).detach()
        with torch.inference_mode():
            assert torch.equal(outputs(network(hits)), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("feature", [0, 1, 3])
def test_values_that_are_not_finite_reach_their_event_alone(value: float, feature: int) -> None:
    network, _ = networks()
    hits = hits_of(COUNTS)
    expected = network._fused(hits, None).detach()
    first = sum(COUNTS[:3])
    changed = replace(hits, features=hits.features.clone())
    changed.features[first + 5, feature] = value
    found = network._fused(changed, None)
    others = [event for event in range(len(COUNTS)) if event != 3]
    assert torch.equal(found[others], expected[others])
    assert not torch.isfinite(found[3]).any()
    found.sum().backward()
    assert not torch.isfinite(network.hit_tokens[0].weight.grad).all()


def test_what_cannot_be_fused_is_computed_by_plain_operations() -> None:
    network, _ = networks()
    hits = hits_of(COUNTS)
    assert network._fused.accepts(hits)
    backwards = torch.arange(len(hits.event)).flip(0)
    shuffled = HitBatch(
        hits.num_events, hits.event[backwards], hits.dom[backwards], hits.features[backwards]
    )
    with pytest.raises(ModelError, match="not in the order of their events"):
        network(shuffled)
    assert not network._fused.accepts(replace(hits, features=hits.features.double()))
    with torch.autocast("cpu", torch.bfloat16):
        assert not network._fused.accepts(hits)
    features = hits.features.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(
        outputs(network(replace(hits, features=features))).sum(), features
    )
    assert gradient.abs().max() > 0
    seen: list[Tensor] = []
    hook = network.trunk.layers[1].register_forward_hook(lambda *args: seen.append(args[2]))
    network(hits)
    hook.remove()
    assert len(seen) == 1


@pytest.mark.parametrize("dom", [-1, NUM_DOMS])
def test_doms_that_do_not_exist_are_refused(dom: int) -> None:
    network, hits = networks()[0], hits_of(COUNTS)
    hits.dom[7] = dom
    assert not network._fused.accepts(hits)


def test_hits_with_another_number_of_features_are_refused() -> None:
    network, hits = networks()[0], hits_of(COUNTS, num_bins=3)
    assert not network._fused.accepts(hits)
