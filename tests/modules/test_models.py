import math

import numpy as np
import pytest
import torch

from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.detector.grid import CELL_HAS_DOM, NUM_CELLS
from dnn_reco.errors import ModelError
from dnn_reco.modules.models.general_IC86_cnn import GeneralIC86CNN
from dnn_reco.modules.models.general_IC86_models import (
    general_model_IC86,
    general_model_IC86_opt4,
)
from dnn_reco.nn.interface import LabelKeys, NetworkSpec
from dnn_reco.transform import TransformationModel, TransformSettings

LABELS = ("energy", "dir_x", "dir_y", "dir_z", "zenith", "azimuth", "p_track")
DIRECTION = slice(1, 4)
KEYS = LabelKeys("zenith", "azimuth", "dir_x", "dir_y", "dir_z", ("p_track",))
BRANCH = {
    "num_filters_list": [2, 2],
    "filter_size_list": [[1, 3], [1, 3]],
    "pooling_type_list": [False, "avg"],
    "use_residual_list": True,
}
KWARGS = {
    "conv_upper_deepcore_settings": BRANCH,
    "conv_lower_deepcore_settings": BRANCH,
    "conv_ic78_settings": {
        **BRANCH,
        "filter_size_list": [[2, 0, 3], [2, 0, 3]],
        "method_list": "hex_convolution",
        "pooling_ksize_list": [1, 5, 5, 15, 1],
        "pooling_strides_list": [1, 5, 5, 15, 1],
    },
    "fc_settings": {"fc_sizes": [8, -1], "activation_list": ["elu", ""]},
    "fc_unc_settings": {"fc_sizes": [8, -1], "activation_list": ["elu", ""]},
}


def network_spec(log_labels=(True,) + (False,) * 6, keys=KEYS, labels=LABELS) -> NetworkSpec:
    settings = TransformSettings(
        label_names=labels,
        misc_names=(),
        log_dom_bins=(True, False),
        log_label_bins=log_labels,
        log_misc_bins=(),
        normalize_dom_data=True,
        normalize_label_data=True,
        normalize_misc_data=False,
        treat_doms_equally=True,
        norm_constant=1e-4,
    )
    has_dom = CELL_HAS_DOM[:, None]
    transformation = TransformationModel(
        settings,
        dom_mean=np.where(has_dom, [0.3, 100.0], 0),
        dom_std=np.where(has_dom, [0.5, 900.0], np.ones((NUM_CELLS, 1))),
        label_mean=np.array([5.0, 0.0, 0.1, -0.2, 1.5, 3.0, 0.5]),
        label_std=np.array([2.0, 0.6, 0.6, 0.6, 0.7, 1.8, 0.5]),
        misc_mean=np.zeros(0),
        misc_std=np.zeros(0),
    )
    return NetworkSpec(transformation, np.zeros(2), keys)


def some_hits(num_events=3, empty_event=1) -> HitBatch:
    rng = np.random.default_rng(5)
    events = [event for event in range(num_events) if event != empty_event for _ in range(50)]
    features = rng.exponential([2.0, 1000.0], (len(events), 2)).astype(np.float32)
    doms = [np.sort(rng.choice(5160, 50, replace=False)) for _ in range(len(events) // 50)]
    return HitBatch(
        num_events,
        torch.tensor(events),
        torch.tensor(np.concatenate(doms)),
        torch.tensor(features),
    )


def test_shapes_and_sizes_of_groups():
    network = GeneralIC86CNN(network_spec(), **KWARGS)
    prediction = network(some_hits())
    tensors = vars(prediction)
    assert tensors.pop("shapes").shape == (3, 0)
    assert all(tensor.shape == (3, 7) for tensor in tensors.values())
    groups = network.parameter_groups()
    assert sum(map(len, groups.values())) == len(list(network.parameters()))
    assert {id(p) for p in groups["unc"]} == {id(p) for p in network.fc_unc.parameters()}


def test_prediction_is_a_unit_vector_with_its_angles():
    network = GeneralIC86CNN(network_spec(), **KWARGS).eval()
    labels = network(some_hits()).labels.double()
    vector = labels[:, DIRECTION]
    zenith, azimuth = labels[:, 4], labels[:, 5]
    torch.testing.assert_close(vector.norm(dim=1), torch.ones(3).double(), rtol=1e-6, atol=1e-6)
    back = torch.stack(
        [-zenith.sin() * azimuth.cos(), -zenith.sin() * azimuth.sin(), -zenith.cos()], dim=1
    )
    torch.testing.assert_close(back, vector, rtol=0, atol=1e-6)
    assert ((azimuth >= 0) & (azimuth <= 2 * math.pi)).all()


def test_independent_z_is_kept_and_xy_fill_the_unit_vector():
    kwargs = {**KWARGS, "dir_z_independent": True, "limit_dir_vec": 0.98}
    free = GeneralIC86CNN(network_spec(), **{**kwargs, "enforce_direction_norm": False}).eval()
    bound = GeneralIC86CNN(network_spec(), **kwargs).eval()
    z = free(some_hits()).labels[:, 3]
    vector = bound(some_hits()).labels[:, DIRECTION]
    torch.testing.assert_close(vector[:, 2], z)
    torch.testing.assert_close(vector.norm(dim=1), torch.ones(3))
    assert (z.abs() <= 0.98).all()


def test_classification_labels_are_the_sigmoid_of_their_logits():
    prediction = GeneralIC86CNN(network_spec(), **KWARGS).eval()(some_hits())
    torch.testing.assert_close(prediction.labels[:, 6], prediction.logits[:, 6].sigmoid())
    assert (prediction.logits[:, :6] == 0).all()


def test_transformed_and_physical_values_belong_together():
    spec = network_spec()
    prediction = GeneralIC86CNN(spec, **KWARGS).eval()(some_hits())
    trafo = spec.transformation
    scale = torch.tensor(trafo.label_std + 1e-4)
    labels = prediction.labels.double().clone()
    labels[:, 0] = labels[:, 0].log1p()
    expected = (labels - torch.tensor(trafo.label_mean)) / scale
    torch.testing.assert_close(prediction.labels_trafo.double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        prediction.uncertainty.double(), prediction.uncertainty_trafo.double() * scale
    )


@pytest.mark.parametrize("raw", [0.0, 1e-30, 1.0, 1e10, -1e10])
@pytest.mark.parametrize("log_labels", [(True,) * 7, (False,) * 7])
@pytest.mark.parametrize("legacy", [False, True])
def test_predictions_of_extreme_last_layers_are_finite(raw, log_labels, legacy):
    spec = network_spec(log_labels)
    network = GeneralIC86CNN(spec, **KWARGS, legacy_direction_norm=legacy)
    with torch.no_grad():
        # a constant output of the last layer: weights 0, bias √2 · raw; in physical units exactly
        # `raw` where there is no logarithm
        network.fc[-1].weight.zero_()
        mean = torch.tensor(spec.transformation.label_mean)
        scale = torch.tensor(spec.transformation.label_std + 1e-4)
        network.fc[-1].bias.copy_((raw - mean) / scale * math.sqrt(2))
    prediction = network(some_hits())
    for name, tensor in vars(prediction).items():
        assert torch.isfinite(tensor).all(), name
    (prediction.labels_trafo.sum() + prediction.uncertainty.sum()).backward()
    for name, parameter in network.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name


def test_weights_depend_on_the_seed_alone():
    first = GeneralIC86CNN(network_spec(), **KWARGS, random_seed=7)
    torch.manual_seed(99)
    second = GeneralIC86CNN(network_spec(), **KWARGS, random_seed=7)
    other = GeneralIC86CNN(network_spec(), **KWARGS, random_seed=8)
    for name, weights in first.state_dict().items():
        assert torch.equal(weights, second.state_dict()[name])
        assert not torch.equal(weights, other.state_dict()[name])


def test_creating_a_network_does_not_change_the_global_random_state():
    state = torch.get_rng_state()
    GeneralIC86CNN(network_spec(), **KWARGS)
    assert torch.equal(state, torch.get_rng_state())


def test_names_of_parameters():
    names = set(GeneralIC86CNN(network_spec(), **KWARGS).state_dict())
    convolution = {"convolution.weight", "convolution.bias", "residual_scale"}
    assert names == {
        f"{branch}.{layer}.{name}"
        for branches, kinds in (
            (("upper", "lower", "ic78"), convolution),
            (("fc", "fc_unc"), {"weight", "bias"}),
        )
        for branch in branches
        for layer in range(2)
        for name in kinds
    }


def test_dropout_acts_in_training_only():
    rates = {f"keep_prob_{part}": 0.5 for part in ("dom", "conv", "flat", "fc")}
    branches = {name: {**block, "use_dropout_list": True} for name, block in KWARGS.items()}
    network = GeneralIC86CNN(network_spec(), **branches, **rates)
    assert not torch.equal(network(some_hits()).labels, network(some_hits()).labels)
    network.eval()
    without = GeneralIC86CNN(network_spec(), **KWARGS).eval()
    assert torch.equal(network(some_hits()).labels, without(some_hits()).labels)


def gradients_of_uncertainty(network) -> dict[str, float]:
    """Largest gradient of the uncertainty with respect to each part of the network."""
    network(some_hits()).uncertainty_trafo.sum().backward()
    parts = ("upper", "lower", "ic78", "fc", "fc_unc")
    return {
        part: max(
            float(p.grad.abs().max()) if p.grad is not None else 0.0
            for p in getattr(network, part).parameters()
        )
        for part in parts
    }


def test_newer_uncertainty_trains_the_convolutions_but_not_the_prediction():
    network = GeneralIC86CNN(network_spec(), **KWARGS, add_prediction_to_unc_input=True)
    gradients = gradients_of_uncertainty(network)
    assert gradients["fc"] == 0
    assert gradients["ic78"] > 0
    assert gradients["fc_unc"] > 0


@pytest.mark.parametrize("model", [general_model_IC86, general_model_IC86_opt4])
def test_older_uncertainty_trains_only_its_layers(model):
    gradients = gradients_of_uncertainty(model(network_spec(), **KWARGS))
    assert gradients.pop("fc_unc") > 0
    assert set(gradients.values()) == {0.0}


def test_older_uncertainty_is_the_modulus_plus_a_thousandth():
    network = general_model_IC86_opt4(network_spec(), **KWARGS).eval()
    raw = []
    network.fc_unc.register_forward_hook(lambda module, inputs, output: raw.append(output))
    prediction = network(some_hits())
    torch.testing.assert_close(prediction.uncertainty_trafo, raw[0].abs() + 1e-3)


def test_uncertainty_layers_of_the_older_network_have_prediction_then_features_as_input():
    network = general_model_IC86(network_spec(), **KWARGS).eval()
    inputs = []
    network.fc.register_forward_pre_hook(lambda module, x: inputs.append(x[0]))
    network.fc_unc.register_forward_pre_hook(lambda module, x: inputs.append(x[0]))
    prediction = network(some_hits())
    flat, uncertainty_input = inputs
    assert torch.equal(uncertainty_input, torch.cat([prediction.labels_trafo, flat], dim=1))


def test_limits_of_uncertainties():
    limits = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    network = GeneralIC86CNN(
        network_spec(), **KWARGS, min_uncertainty_values=0.05, max_uncertainty_values=limits
    )
    uncertainty = network(some_hits()).uncertainty_trafo
    assert (uncertainty >= 0.05).all()
    assert (uncertainty <= torch.tensor(limits)).all()


def test_float64():
    prediction = GeneralIC86CNN(network_spec(), **KWARGS, dtype="float64")(some_hits())
    assert all(tensor.dtype == torch.float64 for tensor in vars(prediction).values())


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"keep_prob_dome": 0.9}, ["'keep_prob_dome'", "Did you mean 'keep_prob_dom'"]),
        ({"keep_prob_dom": 0}, ["keep_prob_dom", "0"]),
        ({"keep_prob_fc": 1.2}, ["keep_prob_fc", "1.2"]),
        ({"dtype": "float16"}, ["dtype", "float32"]),
        ({"uncertainty_activation": "exp"}, ["uncertainty_activation", "softplus"]),
        ({"min_uncertainty_values": [1.0, 2.0]}, ["min_uncertainty_values", "7 labels"]),
        ({"dir_z_independent": True}, ["dir_z_independent", "limit_dir_vec"]),
        ({"fc_settings": None}, ["'fc_settings' is None", "a mapping of settings"]),
        ({"add_prediction_to_unc_input": "no"}, ["'no' (text)", "true or false"]),
        (
            {"fc_settings": {"fc_sizes": [8, -1], "activation": "elu"}},
            ["fc_settings", "'activation'"],
        ),
    ],
)
def test_wrong_model_kwargs_name_the_key(changes, parts):
    with pytest.raises(ModelError) as error:
        GeneralIC86CNN(network_spec(), **{**KWARGS, **changes})
    for part in parts:
        assert part in str(error.value)


def test_layers_that_are_missing():
    with pytest.raises(ModelError, match="model_kwargs: 'fc_settings' is missing"):
        GeneralIC86CNN(network_spec(), **{k: v for k, v in KWARGS.items() if k != "fc_settings"})


def test_missing_direction_label_names_the_key():
    keys = LabelKeys("zenith", "azimuth", "dir_x", "dir_y", "direction_z", ("p_track",))
    with pytest.raises(ModelError, match=r"'label_dir_z_key'.*'direction_z'"):
        GeneralIC86CNN(network_spec(keys=keys), **KWARGS)
    GeneralIC86CNN(network_spec(keys=keys), **KWARGS, enforce_direction_norm=False)


def test_label_that_looks_like_a_classification():
    keys = LabelKeys("zenith", "azimuth", "dir_x", "dir_y", "dir_z", ())
    with pytest.raises(ModelError, match=r"\['p_track'\].*'label_pid_keys'"):
        GeneralIC86CNN(network_spec(keys=keys), **KWARGS)


def test_further_arguments_of_the_reference_are_accepted():
    plain = GeneralIC86CNN(network_spec(), **KWARGS)
    num_inputs = plain.fc[0].weight.shape[0]
    more = {
        "fc_input_shape": [-1, num_inputs],
        "fc_unc_input_shape": [-1, plain.fc_unc[0].weight.shape[0]],
        "name": "my_model",
        "logger": None,
        "verbose": False,
    }
    network = GeneralIC86CNN(network_spec(), **KWARGS, **more)
    for name, weights in plain.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], weights, rtol=0, atol=0)
    with pytest.raises(ModelError, match=rf"fc_input_shape is \[-1, 3\].*give \[-1, {num_inputs}"):
        GeneralIC86CNN(network_spec(), **KWARGS, fc_input_shape=[-1, 3])
