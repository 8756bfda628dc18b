"""dnn_reco: deep networks for the reconstruction of IceCube events.

A first session in Python::

    from dnn_reco import load_model, open_events, plot_event, predict

    events = open_events("data/*.hdf5", "config.yaml", max_events=1000)
    plot_event(events.hits, event=3)
    model = load_model("config.yaml")
    predictions = predict(model, events.hits)
    predictions["EnergyVisible"], events.labels["EnergyVisible"]

====================  ==============================================================
open_events           events of files: hits, labels, misc data (NumPy, or pandas)
simulate_events       the same from the simulation
plot_event            an event display
event_html            the same in three dimensions, as an interactive page
densify               dense arrays (n, 10, 10, 60, F) and (n, 8, 60, F)
load_config           a config from its YAML files
load_model            a trained model from a config or a model folder
predict               labels and uncertainties of events, as named columns
Reconstructor         the same for files, pulses and frames, as NumPy arrays
read_i3               frames of .i3 files, without IceTray
write_i3              frames to an .i3 file
====================  ==============================================================

Importing the package is cheap: nothing heavy (torch, matplotlib, tensorboard) is loaded before it
is needed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dnn_reco._version import __version__
from dnn_reco.errors import ConfigError, DataError, DnnRecoError, ModelError, TrainingError

if TYPE_CHECKING:
    from dnn_reco.api import (
        densify,
        load_config,
        load_model,
        open_events,
        predict,
        simulate_events,
    )
    from dnn_reco.data.event_table import EventTable, NamedColumns
    from dnn_reco.data.hits import Hits
    from dnn_reco.display.event_page import event_html
    from dnn_reco.display.event_view import plot_event
    from dnn_reco.i3.frame import Frame
    from dnn_reco.i3.reader import read_i3
    from dnn_reco.i3.writer import write_i3
    from dnn_reco.inference.prediction_table import PredictionTable
    from dnn_reco.inference.reconstructor import Reconstructor
    from dnn_reco.inference.trained_model import TrainedModel

_MODULES = {
    "densify": "api",
    "event_html": "display.event_page",
    "load_config": "api",
    "load_model": "api",
    "open_events": "api",
    "plot_event": "display.event_view",
    "predict": "api",
    "read_i3": "i3.reader",
    "simulate_events": "api",
    "write_i3": "i3.writer",
    "Frame": "i3.frame",
    "NamedColumns": "data.event_table",
    "EventTable": "data.event_table",
    "Hits": "data.hits",
    "PredictionTable": "inference.prediction_table",
    "Reconstructor": "inference.reconstructor",
    "TrainedModel": "inference.trained_model",
}

__all__ = [
    "ConfigError",
    "DataError",
    "DnnRecoError",
    "EventTable",
    "Frame",
    "Hits",
    "ModelError",
    "NamedColumns",
    "PredictionTable",
    "Reconstructor",
    "TrainedModel",
    "TrainingError",
    "__version__",
    "densify",
    "event_html",
    "load_config",
    "load_model",
    "open_events",
    "plot_event",
    "predict",
    "read_i3",
    "simulate_events",
    "write_i3",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
