"""Labels that a loss needs are checked before any event is read."""

from dataclasses import replace

import pytest
import torch
from loss_inputs import KEYS, LABELS, evaluate, random_events

from dnn_reco.errors import ConfigError
from dnn_reco.modules.loss.classification_loss import focal_cross_entropy
from dnn_reco.modules.loss.default_loss import mse, opening_angle, opening_angle_raleigh
from dnn_reco.modules.loss.direction_loss import von_mises_fisher
from dnn_reco.modules.loss.special_labels import check_special_labels, true_label_names
from dnn_reco.modules.loss.track_loss import track_pos_gaussian, track_pos_mse
from dnn_reco.nn.interface import LabelKeys

PARTICLE = dict(KEYS.particle)


def check(loss, keys=KEYS, untrained=()):
    trained = [name for name in LABELS if name not in untrained]
    check_special_labels(loss, "loss_class 'some.loss'", keys, LABELS, trained)


def test_valid_labels():
    for loss in (opening_angle, von_mises_fisher, track_pos_mse, focal_cross_entropy):
        check(loss)
    check(mse, LabelKeys(), LABELS)  # needs no special label
    # only the true values of direction and time are needed to compare positions
    check(track_pos_gaussian, untrained=["dir_x", "dir_y", "dir_z", "vertex_time"])
    check(focal_cross_entropy, untrained=["p_track"])


@pytest.mark.parametrize("loss", [opening_angle, opening_angle_raleigh])
def test_a_key_that_is_not_set(loss):
    with pytest.raises(ConfigError, match=r"some\.loss' cannot be used: 'label_zenith_key' is"):
        check(loss, replace(KEYS, zenith=None))


@pytest.mark.parametrize("part", PARTICLE)
@pytest.mark.parametrize("loss", [track_pos_mse, track_pos_gaussian])
def test_a_part_of_the_particle_that_is_not_set(loss, part):
    particle = {key: name for key, name in PARTICLE.items() if key != part}
    with pytest.raises(ConfigError, match=f"'label_particle_keys.{part}' is not set: name a label"):
        check(loss, replace(KEYS, particle=particle))


@pytest.mark.parametrize("axis", "xyz")
@pytest.mark.parametrize("loss", [track_pos_mse, track_pos_gaussian])
def test_track_losses_take_the_direction_of_label_dir_keys(loss, axis):
    unset = replace(
        KEYS,
        particle={**PARTICLE, f"dir_{axis}": f"dir_{axis}"},
        **{f"dir_{axis}": None},
    )
    with pytest.raises(ConfigError, match=f"'label_dir_{axis}_key' is not set"):
        check(loss, unset)


def test_a_key_that_names_no_label():
    message = r"'label_azimuth_key' names 'azimut', which is not .*'azimuth'\? Labels: energy"
    with pytest.raises(ConfigError, match=message):
        check(opening_angle, replace(KEYS, azimuth="azimut"))


@pytest.mark.parametrize(
    ("loss", "untrained", "together"),
    [
        (opening_angle, "azimuth", "label_zenith_key, label_azimuth_key"),
        (von_mises_fisher, "dir_z", "label_dir_x_key, label_dir_y_key, label_dir_z_key"),
        (track_pos_mse, "vertex_y", "label_particle_keys.pos_x, .*pos_y, .*pos_z are trained"),
    ],
)
def test_a_label_of_weight_0_that_is_compared_together_with_others(loss, untrained, together):
    with pytest.raises(ConfigError, match=f"'{untrained}' .* has weight 0, but {together}"):
        check(loss, untrained=[untrained])


def test_a_loss_of_classes_without_a_class_to_train():
    with pytest.raises(ConfigError, match="no label of 'label_pid_keys' has a weight above 0"):
        check(focal_cross_entropy, untrained=["p_track", "p_starting"])
    with pytest.raises(ConfigError, match="no label of 'label_pid_keys'"):
        check(focal_cross_entropy, replace(KEYS, pid=()))


def test_true_values_that_are_needed_beside_those_of_trained_labels():
    needed = {"dir_x", "dir_y", "dir_z", "vertex_time"}
    assert true_label_names([mse, track_pos_mse], KEYS) == needed
    assert true_label_names([mse, opening_angle], KEYS) == set()


def test_a_loss_called_without_its_labels_raises_an_error():
    with pytest.raises(ConfigError, match="'label_zenith_key' is not set"):
        evaluate(opening_angle, random_events(2), keys=LabelKeys())
    events = random_events(2)
    assert (evaluate(mse, events, keys=LabelKeys()).loss > 0).all()
    assert torch.equal(evaluate(mse, events, keys=LabelKeys()).loss, evaluate(mse, events).loss)
