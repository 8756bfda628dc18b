"""Track losses depend only on the distance of the predicted vertex from the true track."""

import pytest
import torch
from loss_inputs import DIRECTION, LABELS, VERTEX, evaluate, random_events

from dnn_reco.modules.loss.track_loss import track_pos_gaussian, track_pos_mse

LIGHT_SPEED = 0.299792458


def track_events(num_events=40):
    """Vertices within 300 m, uncertainties of some 10."""
    events = random_events(num_events)
    for labels in (events.true, events.predicted):
        labels[:, VERTEX] *= 100
    events.sigma[:, VERTEX] *= 20
    return events


def distances(events) -> torch.Tensor:
    """r of x, y, z, time, from the point of a finely divided true track nearest to the vertex."""
    along = torch.linspace(-1000, 1000, 200_001, dtype=torch.float64)[:, None]
    rows = []
    for true, predicted in zip(events.true, events.predicted, strict=True):
        points = true[VERTEX[:3]] + along * true[DIRECTION]
        nearest = (points - predicted[VERTEX[:3]]).norm(dim=1).argmin()
        time_there = true[VERTEX[3]] + along[nearest, 0] / LIGHT_SPEED
        late = (time_there - predicted[VERTEX[3]]) * LIGHT_SPEED
        rows.append(torch.cat([points[nearest] - predicted[VERTEX[:3]], late[None]]))
    return torch.stack(rows)


def test_values():
    events = track_events()
    r, sigma = distances(events), events.sigma[:, VERTEX]
    expected = {
        track_pos_mse: r**2 + (r - sigma) ** 2,
        track_pos_gaussian: 2 * sigma.log() + (r / sigma) ** 2,
    }
    for loss, terms in expected.items():
        values = torch.zeros(len(LABELS), dtype=torch.float64)
        values[VERTEX] = terms.mean(dim=0)
        # the divided track is exact to half a centimetre
        torch.testing.assert_close(evaluate(loss, events).loss, values, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("loss", [track_pos_mse, track_pos_gaussian])
def test_a_vertex_moved_along_the_track_at_the_speed_of_light_has_the_same_loss(loss):
    events = track_events()
    before = evaluate(loss, events)
    way = torch.linspace(-500, 500, 40, dtype=torch.float64)[:, None]
    events.predicted[:, VERTEX[:3]] += way * events.true[:, DIRECTION]
    events.predicted[:, VERTEX[3]] += way[:, 0] / LIGHT_SPEED
    after = evaluate(loss, events)
    torch.testing.assert_close(after.loss, before.loss)
    torch.testing.assert_close(after.predicted, before.predicted)


def test_only_the_second_term_of_the_squares_reaches_sigma():
    events = track_events()
    result = evaluate(track_pos_mse, events)
    r = distances(events)
    torch.testing.assert_close(
        result.sigma[:, VERTEX], 2 * (events.sigma[:, VERTEX] - r) / 40, rtol=1e-3, atol=1e-3
    )
    # of time, and of it alone, the gradient is that of r²
    torch.testing.assert_close(
        result.predicted[:, VERTEX[3]], -2 * r[:, 3] * LIGHT_SPEED / 40, rtol=1e-3, atol=1e-3
    )
