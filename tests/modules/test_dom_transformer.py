"""The transformer over hit DOMs: its invariances, settings and test-time augmentation."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_spec import made_up_spec

from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.errors import ModelError
from dnn_reco.modules.models.dom_transformer import DomTransformer, DomTransformerSettings
from dnn_reco.nn.interface import LabelKeys, NetworkSpec, Prediction
from dnn_reco.nn.length_buckets import bucket_by_length
from dnn_reco.nn.predictor import predictor
from dnn_reco.nn.tokens import FeatureRoles

LABELS = ("energy", "dir_x", "dir_y", "dir_z", "zenith", "azimuth", "p_track")
KEYS = LabelKeys("zenith", "azimuth", "dir_x", "dir_y", "dir_z", ("p_track",))
SMALL = {"width": 16, "num_heads": 2, "num_layers": 3, "hidden": 24}


def network_spec(num_bins: int = 9, normalize: bool = True) -> NetworkSpec:
    mean, std = [5.0, 0.0, 0.1, -0.2, 1.5, 3.0, 0.2], [2.0, 0.6, 0.6, 0.6, 0.7, 1.8, 0.4]
    return made_up_spec(LABELS, KEYS, mean, std, num_bins, normalize=normalize)


def hits_of(counts: list[int], num_bins: int = 9, seed: int = 5) -> HitBatch:
    """Events with these numbers of hits."""
    rng = np.random.default_rng(seed)
    num_hits = sum(counts)
    features = rng.exponential(3.0, (num_hits, num_bins)).astype(np.float32)
    if num_bins == 9:
        features[:, 3] = rng.uniform(0, 6000, num_hits)
        features[:, 4:8] = features[:, 3:4] + rng.exponential(200, (num_hits, 4))
    doms = [np.sort(rng.choice(5160, count, replace=False)) for count in counts]
    return HitBatch(
        len(counts),
        torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)),
        torch.from_numpy(np.concatenate(doms)),
        torch.from_numpy(features),
    )


def part(hits: HitBatch, rows: torch.Tensor, num_events: int, first: int = 0) -> HitBatch:
    return HitBatch(num_events, hits.event[rows] - first, hits.dom[rows], hits.features[rows])


def assert_same(found: Prediction, expected: Prediction, events: slice = slice(None)) -> None:
    for name, tensor in vars(found).items():
        torch.testing.assert_close(tensor, getattr(expected, name)[events], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def trained(spec: NetworkSpec | None = None, **kwargs: object) -> DomTransformer:
    """A network whose weights are all different from 0, unlike initially."""
    network = DomTransformer(spec or network_spec(), **SMALL, **kwargs).eval()
    generator = torch.Generator().manual_seed(11)
    for parameter in network.parameters():
        parameter += 0.15 * torch.randn(parameter.shape, generator=generator)
    return network


COUNTS = [40, 3, 0, 41, 7, 120, 39, 1, 38, 119]


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "relative bias"])
def network(request: pytest.FixtureRequest) -> DomTransformer:
    return trained(relative_bias=request.param)


@torch.no_grad()
def test_the_order_of_hits_does_not_matter(network: DomTransformer) -> None:
    hits = hits_of(COUNTS)
    shuffled = torch.randperm(len(hits.event), generator=torch.Generator().manual_seed(1))
    by_event = shuffled[hits.event[shuffled].argsort(stable=True)]
    assert not torch.equal(hits.dom[by_event], hits.dom)
    assert_same(network(part(hits, by_event, len(COUNTS))), network(hits))


@torch.no_grad()
def test_events_are_independent(network: DomTransformer) -> None:
    """A single event is in a bucket without padding, or with different padding."""
    hits = hits_of(COUNTS)
    together = network(hits)
    for event in range(len(COUNTS)):
        rows = torch.nonzero(hits.event == event).flatten()
        alone = network(part(hits, rows, 1, event))
        assert_same(alone, together, slice(event, event + 1))


@torch.no_grad()
def test_bucketing_does_not_change_predictions(
    network: DomTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hits = hits_of(COUNTS)
    expected = network(hits)
    for share, num_buckets in ((0.0, 1), (1.0, 10), (0.5, 4)):
        layout = bucket_by_length(hits, torch.float32, share)
        assert len(layout.buckets) == num_buckets
        monkeypatch.setattr(
            "dnn_reco.modules.models.dom_transformer.bucket_by_length",
            lambda *_, layout=layout: layout,
        )
        assert_same(network(hits), expected)


def test_layout_has_a_row_for_each_token_and_little_padding() -> None:
    counts = torch.randint(0, 200, (256,), generator=torch.Generator().manual_seed(3))
    event = torch.arange(256).repeat_interleave(counts)
    nothing = torch.zeros(len(event), 1)
    layout = bucket_by_length(HitBatch(256, event, event, nothing), torch.float32)
    rows = torch.cat([layout.summary, layout.hits])
    assert len(rows.unique()) == len(rows) == 256 + len(event)
    assert len(rows) <= layout.num_rows < 1.12 * len(rows)
    # each event has consecutive rows, the summary token first
    assert torch.equal(
        layout.hits.diff()[event.diff() == 0], torch.ones(len(event) - 1).long()[event.diff() == 0]
    )
    for number in (0, 100, 255):
        own = layout.hits[event == number]
        assert len(own) == 0 or own[0] == layout.summary[number] + 1


@pytest.mark.parametrize("normalize", [True, False])
@torch.no_grad()
def test_an_event_without_hits_has_the_mean_and_the_spread_of_the_labels(normalize: bool) -> None:
    spec = network_spec(normalize=normalize)
    prediction = trained(spec)(hits_of([0, 5]))
    assert all(tensor.isfinite().all() for tensor in vars(prediction).values())
    model = spec.transformation
    assert prediction.labels[0, 0] == pytest.approx(np.expm1(model.label_mean[0]), rel=1e-5)
    assert prediction.uncertainty[0, 0] == pytest.approx(model.label_std[0], rel=1e-4)
    assert prediction.labels[0, 6] == pytest.approx(model.label_mean[6])
    assert (prediction.uncertainty[0, 1:4] > 10).all()
    # those of directions that are uniform on the sphere, from 10 million random ones
    rng = np.random.default_rng(1)
    assert prediction.uncertainty[0, 4] == pytest.approx(
        np.arccos(rng.uniform(-1, 1, 10_000_000)).std(), rel=1e-3
    )
    assert prediction.uncertainty[0, 5] == pytest.approx(
        rng.uniform(0, 2 * np.pi, 10_000_000).std(), rel=1e-3
    )


@torch.no_grad()
def test_a_batch_without_any_hit() -> None:
    prediction = DomTransformer(network_spec(), **SMALL)(hits_of([0, 0]))
    assert all(tensor.isfinite().all() for tensor in vars(prediction).values())


@pytest.mark.parametrize("num_bins", [1, 2, 3, 9, 25])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_number_of_features(num_bins: int, dtype: str) -> None:
    network = DomTransformer(network_spec(num_bins), **SMALL, dtype=dtype)
    prediction = network(hits_of([5, 0, 60], num_bins))
    tensors = vars(prediction)
    assert tensors.pop("shapes").shape == (3, 0)
    assert all(tensor.shape == (3, 7) for tensor in tensors.values())
    assert prediction.labels_trafo.dtype == getattr(torch, dtype)
    (prediction.labels_trafo.sum() + prediction.uncertainty_trafo.log().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@torch.no_grad()
def test_every_feature_is_read() -> None:
    network = trained()
    hits = hits_of([30])
    before = network(hits).labels_trafo
    for feature in range(9):
        changed = hits.features.clone()
        changed[0, feature] += 50.0
        after = network(HitBatch(1, hits.event, hits.dom, changed)).labels_trafo
        assert not torch.allclose(after, before, rtol=0, atol=1e-6), feature


@torch.no_grad()
def test_events_are_truncated_to_the_doms_of_highest_charge() -> None:
    network = trained(max_tokens=30)
    hits = hits_of([100, 20, 31])
    prediction = network(hits)
    assert (network.num_hits_read, network.num_hits_truncated) == (80, 71)
    assert "num_hits_cut" not in network.state_dict()
    kept = []
    for event, count in enumerate((100, 20, 31)):
        rows = torch.nonzero(hits.event == event).flatten()
        order = sorted(range(count), key=lambda i: -hits.features[rows[i], 0])
        kept += [int(rows[i]) for i in order[:30]]
    by_hand = part(hits, torch.tensor(sorted(kept)), 3)
    everything = trained(max_tokens=200)
    assert_same(everything(by_hand), prediction)


def test_truncation_of_equal_charges_does_not_depend_on_the_order_of_hits() -> None:
    network = trained(max_tokens=10)
    hits = hits_of([40])
    hits.features[:, 0] = 1.0
    backwards = part(hits, torch.arange(39, -1, -1), 1)
    assert_same(network(backwards), network(hits))


@pytest.mark.parametrize(
    ("size", "millions"), [("S", (0.1, 0.2)), ("M", (2.4, 3.0)), ("L", (15, 20))]
)
def test_sizes(size: str, millions: tuple[float, float]) -> None:
    network = DomTransformer(network_spec(), size=size)
    low, high = millions
    assert low < sum(p.numel() for p in network.parameters()) / 1e6 < high


def test_parts_of_a_size_can_be_changed() -> None:
    network = DomTransformer(network_spec(), size="M", num_layers=1, width=12, num_heads=3)
    assert network.trunk.last.qkv.weight.shape == (36, 12)
    assert len(network.trunk.layers) == 0


def test_parameter_groups_hold_every_weight_once() -> None:
    network = DomTransformer(network_spec(), **SMALL)
    groups = network.parameter_groups()
    assert sum(map(len, groups.values())) == len(list(network.parameters()))
    prediction = network(hits_of([20, 30]))
    # uncertainty heads change no label
    wrt_unc = torch.autograd.grad(
        prediction.labels_trafo.sum(), groups["unc"], retain_graph=True, allow_unused=True
    )
    assert all(gradient is None for gradient in wrt_unc)
    assert groups["unc"]


def test_the_seed_decides_the_initial_weights_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(())
    torch.manual_seed(7)
    networks = [DomTransformer(network_spec(), **SMALL, random_seed=seed) for seed in (1, 1, 2)]
    assert torch.rand(()) == expected
    first, same, other = (network.state_dict()["hit_tokens.0.weight"] for network in networks)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("kwargs", "messages"),
    [
        ({"widht": 3}, ["unknown setting 'widht'", "Did you mean 'width'"]),
        ({"size": ["S"]}, ["model_kwargs: 'size' is ['S']"]),
        ({"size": "XL"}, ["model_kwargs: 'size' is 'XL'", "S, M, L"]),
        ({"width": 10, "num_heads": 4}, ["'num_heads'", "cannot be divided among 4"]),
        ({"num_layers": 0}, ["'num_layers' is 0"]),
        ({"max_tokens": True}, ["'max_tokens' is True"]),
        ({"dropout": 1.0}, ["'dropout' is 1.0"]),
        ({"time_feature": 9}, ["time_feature: there is no input feature 9"]),
        ({"time_feature": "aut"}, ["'time_feature' is 'aut'"]),
        ({"charge_features": [0, "x"]}, ["'charge_features' is [0, 'x']"]),
        ({"charge_features": 0}, ["'charge_features' is 0", "auto, or a list"]),
        ({"late_time_features": "none"}, ["'late_time_features' is 'none'", "auto, or a list"]),
        ({"heads": ["direction"]}, ["'heads' is ['direction']", "a mapping of settings"]),
        ({"augmentation": True}, ["'augmentation' is True", "a mapping of settings"]),
        ({"relative_bias": "yes"}, ["'relative_bias' is 'yes' (text); allowed: true or false"]),
        ({"heads": {"directoin": "gaussian"}}, ["heads", "Did you mean 'direction'"]),
        ({"heads": {"direction": "classification"}}, ["heads: 'direction'", "von_mises_fisher"]),
        ({"heads": {"energy": "classification"}}, ["heads: 'energy'", "student"]),
        ({"augmentation": {"drop_dom": 0.1}}, ["augmentation", "Did you mean 'drop_doms'"]),
        ({"augmentation": {"drop_doms": 1.0}}, ["'drop_doms' is 1.0"]),
        ({"augmentation": {"noise_hits": -1}}, ["'noise_hits' is -1"]),
        ({"augmentation": {"rotate_events": 60}}, ["'rotate_events' is 60", "sixths, any"]),
        (
            {"time_feature": None, "augmentation": {"jitter_times": 1.0}},
            ["jitter_times", "time_feature"],
        ),
        (
            {"heads": {"direction": "gaussian"}, "augmentation": {"rotate_events": "any"}},
            ["rotate_events", "rotated back"],
        ),
    ],
)
def test_wrong_settings_are_errors(kwargs: dict[str, object], messages: list[str]) -> None:
    with pytest.raises(ModelError) as error:
        DomTransformer(network_spec(), **kwargs)
    assert all(message in str(error.value) for message in messages), str(error.value)


def test_older_names_of_settings() -> None:
    spec = network_spec()
    older = DomTransformer(spec, prediction_turns=6, augmentation={"turn_events": "any"})
    newer = {"test_time_rotations": 6, "augmentation": {"rotate_events": "any"}}
    assert older.settings.test_time_rotations == 6
    assert older.augmentation == DomTransformer(spec, **newer).augmentation
    DomTransformer(spec, **newer, prediction_turns=6)  # both, but the same
    with pytest.raises(ModelError, match="'prediction_turns' is 3, but 'test_time_rotations' is 6"):
        DomTransformer(spec, **newer, prediction_turns=3)
    both = {"rotate_events": "any", "turn_events": "sixths"}
    with pytest.raises(ModelError, match=r"augmentation: 'turn_events'.*'rotate_events' is 'any'"):
        DomTransformer(spec, augmentation=both)


def test_roles_of_features() -> None:
    nine = FeatureRoles.of(9, "auto", "auto", "auto")
    assert (nine.times, nine.scaling, nine.charges) == ((3, 4, 5, 6, 7), (0, 1, 2), (0,))
    three = FeatureRoles.of(3, "auto", "auto", "auto")
    assert (three.times, three.scaling) == ((1,), (0,))
    bins = FeatureRoles.of(5, "auto", "auto", "auto")
    assert (bins.times, bins.charges) == ((), (0, 1, 2, 3, 4))
    with_times = FeatureRoles.of(5, 0, [1], "auto")
    assert (with_times.times, with_times.charges) == ((0, 1), (2, 3, 4))
    without = FeatureRoles.of(9, None, "auto", [1, 2])
    assert (without.times, without.charges) == ((), (1, 2))
    features = torch.tensor([[1.0, 2.0, -5.0, 9.0, 9.0], [1.0, 2.0, 4.0, 0.5, 0.0]])
    assert with_times.charge(features).tolist() == [13.0, 4.5]
    assert FeatureRoles.of(5, None, [], []).charge(features).tolist() == [1.0, 1.0]


def test_roles_of_a_format_that_is_named() -> None:
    """Of 9 features, then times 9 to 11, then charges 12 to 14."""
    pulses = FeatureRoles.of(15, "auto", "auto", "auto", "pulse_summary_and_first_pulses_3")
    assert pulses.times == (3, 4, 5, 6, 7, 9, 10, 11)
    assert (pulses.charges, pulses.charge_of_one_pulse) == ((0,), (0, 1, 2, 12))
    assert pulses.scaling == (0, 1, 2, 12, 13, 14)
    padded = FeatureRoles.of(16, "auto", "auto", "auto", "pulse_summary_and_first_pulses_3")
    assert padded == pulses
    chosen = FeatureRoles.of(15, "auto", "auto", [13], "pulse_summary_and_first_pulses_3")
    assert (chosen.charges, chosen.later_pulses) == ((13,), (14,))
    # the number of features alone says otherwise
    assert FeatureRoles.of(15, "auto", "auto", "auto").charges == tuple(range(15))
    assert FeatureRoles.of(9, "auto", "auto", "auto", "charge_bins").charges == tuple(range(9))
    nine = FeatureRoles.of(9, "auto", "auto", "auto")
    assert FeatureRoles.of(9, "auto", "auto", "auto", "pulse_summmary_clipped") == nine
    assert FeatureRoles.of(12, "auto", "auto", "auto", "pulse_summmary_clipped") == nine
    spec = replace(network_spec(15), data_format="pulse_summary_and_first_pulses_3")
    assert DomTransformer(spec, **SMALL).inputs.roles == pulses
    with pytest.raises(ModelError, match="has 9 features, but the model has 8"):
        FeatureRoles.of(8, "auto", "auto", "auto", "pulse_summmary_clipped")
    with pytest.raises(ModelError, match="has 17 features, but the model has 15: set data_handler"):
        DomTransformer(replace(spec, data_format="pulse_summary_and_first_pulses_4"), **SMALL)


@torch.no_grad()
def test_test_time_rotations_are_mixed_to_one_density() -> None:
    """Compared with the moments of the six predictions, rotated back by hand."""
    spec, hits = network_spec(), hits_of([30, 5, 80])
    plain, augmented = trained(spec), trained(spec, test_time_rotations=6)
    assert augmented.state_dict().keys() == plain.state_dict().keys()
    prediction = augmented(hits)
    parts = [plain._predict(hits, torch.full((3,), number * np.pi / 3)) for number in range(6)]
    vectors = np.stack([part.labels[:, 1:4].double().numpy() for part in parts])
    sigmas = np.stack([part.uncertainty[:, 1:4].double().numpy() for part in parts])
    assert np.abs(vectors - vectors[0]).max() > 0.01  # the network is not the same on all sides
    kappa = 2 / (sigmas**2).sum(axis=2, keepdims=True)
    mean = (vectors * (1 / np.tanh(kappa) - 1 / kappa)).mean(axis=0)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(prediction.labels[:, 1:4].numpy(), expected, atol=1e-5)
    energy = np.stack([np.log1p(part.labels[:, 0].numpy()) for part in parts])
    np.testing.assert_allclose(
        np.log1p(prediction.labels[:, 0].numpy()), energy.mean(axis=0), rtol=1e-4
    )
    track = np.stack([part.labels[:, 6].numpy() for part in parts])
    np.testing.assert_allclose(prediction.labels[:, 6].numpy(), track.mean(axis=0), rtol=1e-4)
    assert_same(trained(spec, test_time_rotations=1)(hits), plain(hits))


def test_rotations_need_a_direction() -> None:
    spec = made_up_spec(("energy",), LabelKeys(), [5.0], [2.0])
    with pytest.raises(ModelError, match="test_time_rotations: the labels have no direction"):
        DomTransformer(spec, test_time_rotations=6)


def test_bfloat16_is_accurate_enough(network: DomTransformer) -> None:
    hits = hits_of(COUNTS)
    exact, coarse = network(hits), predictor(network, in_bfloat16=True)(hits)
    for name, tensor in vars(exact).items():
        found = getattr(coarse, name)
        assert found.dtype == torch.float32
        assert 0 <= (found - tensor).norm() <= 0.05 * tensor.norm() + 1e-6, name
    assert not torch.equal(exact.labels_trafo, coarse.labels_trafo)


def test_sizes_are_those_of_the_page() -> None:
    """docs/how-to/dom_transformer.md lists width, layers, heads, hidden width and tokens."""
    page = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "dom_transformer.md"
    rows = [line.split("|") for line in page.read_text().splitlines() if line.startswith("| `")]
    defaults = {cells[1].strip(): cells[2].strip() for cells in rows}
    shapes = defaults["`width`, `num_layers`, `num_heads`, `hidden`"].split(" · ")
    tokens = defaults["`max_tokens`"].split(" · ")
    for size, shape, max_tokens in zip("SML", shapes, tokens, strict=True):
        settings = DomTransformerSettings.from_kwargs({"size": size}).shape
        found = (settings.width, settings.num_layers, settings.num_heads, settings.hidden)
        assert ", ".join(map(str, found)) == shape
        assert str(settings.max_tokens) == max_tokens


SHAPED = {"direction": "mixture", "energy": "student"}


@torch.no_grad()
def test_rotated_mixtures_are_mixed_with_all_components() -> None:
    """Each rotation contributes its components, turned back: symmetric inputs give the same."""
    network = trained(heads=SHAPED, test_time_rotations=3)
    alone = trained(heads=SHAPED)
    hits = hits_of([30, 5, 0])
    mixed, plain = network(hits), alone(hits)
    assert [shape.num_components for shape in network.density_layout] == [12, 3]
    assert [shape.num_components for shape in alone.density_layout] == [4, 1]
    first = mixed.shapes[:, :16].view(3, 4, 4), plain.shapes[:, :16].view(3, 4, 4)
    torch.testing.assert_close(first[0][..., 1:], first[1][..., 1:], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(first[0][..., 0], first[1][..., 0] - math.log(3))
    assert mixed.shapes.shape == (3, 48 + 12)
    network.train()
    assert [shape.num_components for shape in network.density_layout] == [4, 1]


@torch.no_grad()
def test_densities_are_in_single_precision_with_bfloat16() -> None:
    """The heads see the rounded summary of an event, but do not round themselves."""
    network = trained(heads=SHAPED)
    hits = hits_of(COUNTS)
    seen = []
    network.heads.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    prediction = predictor(network, in_bfloat16=True)(hits)
    assert prediction.shapes.dtype == torch.float32
    has_hits = torch.tensor(COUNTS) > 0
    assert torch.equal(network.heads(seen[0], has_hits).shapes, prediction.shapes)
