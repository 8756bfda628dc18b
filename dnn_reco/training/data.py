"""The events of a training."""

from __future__ import annotations

from dataclasses import dataclass

from dnn_reco.data.device_cache import DeviceEvents
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.loader import EventWeightFunction
from dnn_reco.training.biased_selection import BiasedSelection
from dnn_reco.training.validation_set import ValidationSet


@dataclass(frozen=True)
class TrainingData:
    """The events of a training, and how they are weighted and drawn.

    Attributes
    ----------
    training, validation
        The events.
    event_weights
        Gives the weights of events in the loss; None: all weigh the same.
    validation_set
        Events to evaluate now and then, always the same; None: there are none.
    selection
        Chooses the events to train on; None: all are, in random order.
    device_events
        The training events, where they lie in the memory of the device.
    """

    training: EventDataset
    validation: EventDataset
    event_weights: EventWeightFunction | None = None
    validation_set: ValidationSet | None = None
    selection: BiasedSelection | None = None
    device_events: DeviceEvents | None = None
