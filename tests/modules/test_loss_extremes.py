"""No loss or its gradient is NaN or infinite, whatever the prediction."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_inputs import (
    ANGLES,
    CLASSES,
    DIRECTION,
    Events,
    all_losses,
    evaluate,
    random_events,
)

LOSSES = all_losses()
pytestmark = pytest.mark.parametrize("name", LOSSES)


def opposite(events: Events) -> Events:
    """Predictions of exactly the direction opposite to the true one."""
    events.predicted[:, ANGLES[0]] = math.pi - events.true[:, ANGLES[0]]
    events.predicted[:, ANGLES[1]] = events.true[:, ANGLES[1]] + math.pi
    events.predicted[:, DIRECTION] = -events.true[:, DIRECTION]
    return events


def perfect(events: Events) -> Events:
    events.predicted = events.true.clone()
    return events


def vertical(events: Events) -> Events:
    """True and predicted directions straight up and down, whose azimuths are undefined."""
    zenith = torch.tensor([0.0, math.pi], dtype=torch.float64)
    for labels, angles in (
        (events.true, zenith.repeat_interleave(2)),
        (events.predicted, zenith.repeat(2)),
    ):
        labels[:4, ANGLES[0]] = angles
        labels[:4, DIRECTION] = 0
        labels[:4, DIRECTION[2]] = -angles.cos()
    return events


def no_direction(events: Events) -> Events:
    events.predicted[:, DIRECTION] = 0
    return events


def far_off(events: Events) -> Events:
    events.predicted += 1e6 * (-1.0) ** torch.arange(len(events.predicted))[:, None]
    return events


def sigma(value: float):
    def change(events: Events) -> Events:
        events.sigma = torch.full_like(events.sigma, value)
        return events

    return change


def logits(value: float):
    def change(events: Events) -> Events:
        events.logits[:, CLASSES] = value
        events.predicted[:, CLASSES] = torch.sigmoid(events.logits[:, CLASSES])
        return events

    return change


CHANGES = {
    "as they are": lambda events: events,
    "opposite direction": opposite,
    "perfect": perfect,
    "vertical": vertical,
    "no direction": no_direction,
    "far off": far_off,
    "sigma 0": sigma(0.0),
    "sigma 1e-30": sigma(1e-30),
    "sigma 1e-6": sigma(1e-6),
    "sigma 1e6": sigma(1e6),
    "logits 1e4": logits(1e4),
    "logits -1e4": logits(-1e4),
}
EVENT_WEIGHTS = {
    "none": None,
    "all but one 0": [0.0, 2.0, 0.0, 0.0, 0.0],
    "all 0": [0.0] * 5,
    "tiny": [1e-30] * 5,
    "unlike": [1e-12, 1e12, 1.0, 0.0, 3.0],
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=60)
@given(
    changes=st.lists(st.sampled_from(sorted(CHANGES)), min_size=1, max_size=3),
    weights=st.sampled_from(sorted(EVENT_WEIGHTS)),
    tukey_scale=st.sampled_from([0.67449, 1e-30, 0.0]),
)
def test_values_and_gradients_are_finite(name, dtype, changes, weights, tukey_scale):
    events = random_events(5)
    for change in changes:
        events = CHANGES[change](events)
    column = EVENT_WEIGHTS[weights]
    event_weights = None if column is None else torch.tensor(column, dtype=dtype)[:, None]
    assert evaluate(LOSSES[name], events.to(dtype), event_weights, tukey_scale).is_finite()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("change", CHANGES)
def test_each_extreme_alone_and_as_the_only_event_of_a_batch(name, change, dtype):
    events = CHANGES[change](random_events(5)).to(dtype)
    assert evaluate(LOSSES[name], events).is_finite()
    for number in range(5):
        assert evaluate(LOSSES[name], events.take([number])).is_finite()
