"""Networks that predict shapes of densities beside labels and uncertainties."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from made_up_spec import made_up_spec
from scipy import stats

from dnn_reco.errors import ModelError
from dnn_reco.nn.density_heads import DensityHeads
from dnn_reco.nn.density_layout import DensityShape, PredictedShapes, columns_of, mixed_layout
from dnn_reco.nn.direction import concentration, rotate_about_z
from dnn_reco.nn.ensemble import Mixture
from dnn_reco.nn.interface import LabelKeys, NetworkSpec, Prediction
from dnn_reco.nn.sphere_flow import flow_mean

LABELS = ("dir_z", "energy", "azimuth", "dir_x", "p_track", "zenith", "dir_y", "length")
KEYS = LabelKeys("zenith", "azimuth", "dir_x", "dir_y", "dir_z", ("p_track",))
VECTOR, ENERGY, LENGTH = [3, 6, 0], 1, 7
ALL = {"direction": "mixture", "energy": "student", "length": {"kind": "mixture", "components": 3}}
LAYOUT = (
    DensityShape("direction", "von_mises_fisher", 4),
    DensityShape("energy", "student", 1),
    DensityShape("length", "normal", 3),
)
SPEC = made_up_spec(LABELS, KEYS, [0.0] * 8, [0.6, 2.0, 1.8, 0.6, 0.5, 0.7, 0.6, 300.0])


def heads_of(spec: NetworkSpec = SPEC, dtype: torch.dtype = torch.float64, **heads: Any) -> Any:
    """Heads with weights that are all different from 0, and 50 events."""
    torch.manual_seed(3)
    network = DensityHeads(spec, 12, heads or ALL).to(dtype)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    events = torch.randn(50, 12, dtype=torch.float64).to(dtype)
    return network, events, torch.arange(50) % 10 != 0


def of(prediction: Prediction, label: str, layout: tuple[DensityShape, ...] = LAYOUT) -> np.ndarray:
    found = PredictedShapes(layout, prediction.shapes.detach().double().numpy()).of(label)
    assert found is not None
    return found


def mean_vectors(components: np.ndarray) -> np.ndarray:
    """Mean vector [B, 3] of mixtures: coth κ - 1/κ along each direction."""
    kappa = np.linalg.norm(components[..., 1:], axis=2, keepdims=True)
    length = 1 / np.tanh(kappa) - 1 / kappa
    weight = np.exp(components[..., :1])
    return (weight * length * components[..., 1:] / kappa).sum(axis=1)


def test_layout_and_weights() -> None:
    network, events, known = heads_of()
    prediction = network(events, known)
    assert network.layout == LAYOUT
    assert prediction.shapes.shape == (50, 16 + 4 + 9)
    for label in ("direction", "energy", "length"):
        np.testing.assert_allclose(np.exp(of(prediction, label)[..., 0]).sum(axis=1), 1)


def test_direction_and_concentration_are_those_of_the_mean_vector() -> None:
    network, events, known = heads_of()
    prediction = network(events, known)
    mean = mean_vectors(of(prediction, "direction"))[known]
    length = np.linalg.norm(mean, axis=1)
    labels = prediction.labels.detach()[known]
    np.testing.assert_allclose(labels[:, VECTOR], mean / length[:, None], rtol=1e-6)
    kappa = concentration(prediction.uncertainty.detach()[:, VECTOR]).numpy()[known]
    np.testing.assert_allclose(1 / np.tanh(kappa) - 1 / kappa, length, rtol=1e-6)
    np.testing.assert_allclose(labels[:, 5], torch.acos(-labels[:, 0]))


def test_central_share_of_labels_is_one_sigma() -> None:
    network, events, known = heads_of()
    prediction = network(events, known)
    (_, offset, scale, freedom) = of(prediction, "energy")[:, 0].T
    assert (offset == 0).all()
    assert (freedom >= 2).all() and (freedom <= 100).all() and np.ptp(freedom) > 10
    share = np.diff(stats.t(freedom, 0, scale).cdf([[-1], [1]]), axis=0)[0]
    np.testing.assert_allclose(share, math.erf(math.sqrt(0.5)), atol=1e-8)
    parts = of(prediction, "length")
    weight = np.exp(parts[..., 0])
    np.testing.assert_allclose((weight * parts[..., 1]).sum(axis=1), 0, atol=1e-12)


def test_an_event_without_hits_is_unknown() -> None:
    network, events, known = heads_of()
    prediction = network(events, known)
    unknown = ~known.numpy()
    direction = of(prediction, "direction")[unknown]
    assert (np.linalg.norm(direction[..., 1:], axis=2) < 1.01e-3).all()
    np.testing.assert_allclose(of(prediction, "energy")[unknown, 0, 3], 100)
    np.testing.assert_allclose(of(prediction, "length")[unknown][..., 1], 0, atol=1e-12)
    np.testing.assert_allclose(of(prediction, "length")[unknown][..., 2], 1, atol=1e-8)


def test_labels_and_uncertainties_are_those_of_the_default_heads() -> None:
    network, events, known = heads_of()
    default = DensityHeads(SPEC, 12, {}).double()
    assert set(default.state_dict()) == {
        f"{layer}.{part}"
        for layer in ("labels", "uncertainties", "vector", "sharpness")
        for part in ("weight", "bias")
    }
    default.load_state_dict(network.state_dict(), strict=False)
    found, expected = network(events, known), default(events, known)
    for column in (ENERGY, LENGTH, 4):
        for name in ("labels", "labels_trafo", "uncertainty", "uncertainty_trafo"):
            assert torch.equal(getattr(found, name)[:, column], getattr(expected, name)[:, column])
    assert expected.shapes.shape == (50, 0)


def test_all_components_of_a_rotated_event_are_rotated_back() -> None:
    network, events, known = heads_of()
    angle = torch.linspace(0, 6, 50, dtype=torch.float64)
    plain, rotated = network(events, known), network(events, known, angle)
    one, other = (torch.from_numpy(of(each, "direction"))[known] for each in (plain, rotated))
    for component in range(4):
        back = rotate_about_z(other[:, component, 1:], angle[known])
        torch.testing.assert_close(back, one[:, component, 1:])
    torch.testing.assert_close(rotated.uncertainty[known], plain.uncertainty[known])
    assert torch.equal(plain.shapes[:, 16:], rotated.shapes[:, 16:])


def test_gradients_reach_all_weights_and_are_finite() -> None:
    """Also of weights so large that all limits are reached."""
    for factor in (1.0, 100.0):
        network, events, known = heads_of(dtype=torch.float32)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter *= factor
        prediction = network(events, known)
        assert torch.isfinite(prediction.shapes).all()
        assert torch.isfinite(prediction.uncertainty).all()
        (prediction.shapes.tanh().sum() + prediction.labels_trafo.tanh().sum()).backward()
        for name, parameter in network.named_parameters():
            if "uncertainties" not in name:
                assert parameter.grad is not None, name
                assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({"direction": "student"}, "'direction' is 'student'; allowed: gaussian, von_mises_fisher"),
        ({"direction": {"kind": "flow", "components": 2}}, "only a mixture has 'components'"),
        ({"energy": "flow"}, "'energy' is 'flow'; allowed: gaussian, student, mixture"),
        ({"p_track": "student"}, "'p_track' is 'student'; allowed: gaussian, classification"),
        ({"dir_x": "student"}, "'dir_x' belongs to the direction"),
        ({"direction": "gaussian", "azimuth": "mixture"}, "'azimuth' is 'mixture'; allowed: gauss"),
        ({"energy": {"kind": "student", "components": 3}}, "only a mixture has 'components'"),
        ({"energy": {"kind": "mixture", "components": 0}}, "components' is 0"),
        ({"enrgy": "student"}, "unknown setting 'enrgy'. Did you mean 'energy'"),
        ({"energy": ["student"]}, "model_kwargs.heads.energy is"),
    ],
)
def test_wrong_heads_are_errors(heads: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        DensityHeads(SPEC, 4, heads)


def test_a_mixture_needs_the_whole_vector() -> None:
    spec = made_up_spec(("zenith", "energy"), KEYS, [0.0] * 2, [1.0] * 2)
    with pytest.raises(ModelError, match="a mixture for the direction needs all three components"):
        DensityHeads(spec, 4, {"direction": "mixture"})


def test_a_flow_as_head() -> None:
    network, events, known = heads_of(direction="flow")
    assert network.layout == (DensityShape("direction", "flow", 1),)
    prediction = network(events, known)
    components = prediction.shapes[:, None]
    mean = flow_mean(components)
    torch.testing.assert_close(
        prediction.labels[:, VECTOR], torch.nn.functional.normalize(mean, dim=1)
    )
    kappa = concentration(prediction.uncertainty[:, VECTOR])
    torch.testing.assert_close(1 / torch.tanh(kappa) - 1 / kappa, mean.norm(dim=1))
    angle = torch.linspace(0, 6, 50, dtype=torch.float64)
    rotated = network(events, known, angle)
    back = rotate_about_z(rotated.labels[known][:, VECTOR], angle[known])
    torch.testing.assert_close(back, prediction.labels[known][:, VECTOR])
    torch.testing.assert_close(rotated.shapes[:, 4:], prediction.shapes[:, 4:])
    mixed = Mixture(SPEC, [network.layout] * 2)([prediction, rotated])
    assert mixed.shapes.shape == (50, 2 * 53)
    (prediction.shapes.sum() + prediction.labels.sum()).backward()
    for name, parameter in network.direction_components.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name


# --------------------------------------------------------------------------------------------------
# Mixtures of predictions
# --------------------------------------------------------------------------------------------------
def three_predictions() -> list[Prediction]:
    network, events, _ = heads_of()
    known = torch.ones(50, dtype=torch.bool)
    return [network(events + shift, known) for shift in (0.0, 0.2, -0.3)]


def density(
    prediction: Prediction, label: str, layout: tuple[DensityShape, ...], value: float, log: bool
) -> np.ndarray:
    """Density [B] of a label at a value, in the space of its uncertainty."""
    column = LABELS.index(label)
    middle = prediction.labels.detach().numpy()[:, column]
    middle = np.log1p(middle) if log else middle
    sigma = prediction.uncertainty.detach().numpy()[:, column]
    pull = (value - middle) / sigma
    total = np.zeros(len(pull))
    parts = of(prediction, label, layout)
    for component in range(parts.shape[1]):
        log_weight, offset, scale, *freedom = parts[:, component].T
        shape = stats.t(freedom[0], offset, scale) if freedom else stats.norm(offset, scale)
        total += np.exp(log_weight) * shape.pdf(pull)
    return total / sigma


def test_the_mixture_has_the_mean_density() -> None:
    members = three_predictions()
    mixture = Mixture(SPEC, [LAYOUT] * 3)
    mixed = mixture(members)
    assert [shape.num_components for shape in mixture.layout] == [12, 3, 9]
    for label, value, log in (("energy", 1.0, True), ("length", 40.0, False)):
        expected = np.mean([density(each, label, LAYOUT, value, log) for each in members], axis=0)
        found = density(mixed, label, mixture.layout, value, log)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    components = of(mixed, "direction", mixture.layout)
    expected = np.mean([mean_vectors(of(each, "direction")) for each in members], axis=0)
    np.testing.assert_allclose(mean_vectors(components), expected, rtol=1e-6, atol=1e-9)
    unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(mixed.labels.detach()[:, VECTOR], unit, rtol=1e-5, atol=1e-7)


def test_only_what_all_have_is_mixed() -> None:
    normal = DensityShape("energy", "normal", 4)
    assert mixed_layout([LAYOUT, LAYOUT[1:]]) == (
        DensityShape("energy", "student", 2),
        DensityShape("length", "normal", 6),
    )
    assert mixed_layout([LAYOUT, (normal,)]) == ()
    assert mixed_layout([LAYOUT, ()]) == ()


def test_columns() -> None:
    assert columns_of(LAYOUT, "length") == (LAYOUT[2], slice(20, 29))
    assert columns_of(LAYOUT, "zenith") is None
    values = np.arange(2 * 29.0).reshape(2, 29)
    found = PredictedShapes(LAYOUT, values).rows(np.array([1])).of("length")
    assert found is not None
    assert found[0, 1].tolist() == [52.0, 53.0, 54.0]
