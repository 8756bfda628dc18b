"""Frames with pulses, trays over IceTray's stand-in, and small models for them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import icetray_stub
import numpy as np
import torch
from event_files import random_events, write_events
from small_run import ON_CPU, make_small_run

icetray_stub.install()

from icecube import dataclasses as i3  # noqa: E402
from icecube.icetray import I3Frame, I3Module, I3Tray, OMKey  # noqa: E402

from dnn_reco.commands.trafo import run_trafo  # noqa: E402
from dnn_reco.config import Config  # noqa: E402
from dnn_reco.data.data_settings import DataSettings  # noqa: E402
from dnn_reco.data.exclusions import exclude  # noqa: E402
from dnn_reco.ic3.container import DNNDataContainer  # noqa: E402
from dnn_reco.ic3.frames import pulses_of, read_exclusions  # noqa: E402
from dnn_reco.inference.model_folder import (  # noqa: E402
    Member,
    contents_of,
    write_model_folder,
)
from dnn_reco.inference.reconstructor import Reconstructor  # noqa: E402
from dnn_reco.nn.from_config import make_network, network_spec  # noqa: E402
from dnn_reco.transform import TransformationModel, load_transformation  # noqa: E402

PULSES = "SplitInIceDSTPulses"
LABELS = ("EnergyVisible", "PrimaryAzimuth", "PrimaryZenith", "VertexTime", "VertexX")
SETTINGS = DataSettings(
    num_bins=9,
    relative_time_method="time_range",
    data_format="pulse_summmary_clipped",
    pulse_key=PULSES,
    allowed_pulse_keys=(PULSES, "Mask", "Union"),
    dom_exclusions=("BadDomsList", "CalibrationErrata"),
    partial_exclusion=True,
)


# Models
@dataclass(frozen=True)
class Network:
    """An untrained network that predicts an energy, a direction and a vertex of 9 features."""

    config: Config
    transformation: TransformationModel
    weights: Mapping[str, torch.Tensor]


def make_network_of_nine_features(folder: Path) -> Network:
    data = [str(write_events(folder / "data.hdf5", random_events(0, 60, run=7)))]
    config = make_small_run(
        folder,
        training_data_file=data,
        trafo_data_file=data,
        data_handler_num_bins=9,
        data_handler_relative_time_key_pattern="time",
        trafo_log_dom_bins=[True] * 3 + [False] * 6,
        trafo_num_batches=2,
        label_weight_dict=dict.fromkeys(LABELS, 1.0),
        label_particle_keys={
            "energy": "EnergyVisible",
            "zenith": "PrimaryZenith",
            "azimuth": "PrimaryAzimuth",
            "time": "VertexTime",
            "pos_x": "VertexX",
        },
    ).config()
    run_trafo(config, ON_CPU, overwrite=False)
    transformation = load_transformation(Path(config.trafo.trafo_model_path))
    network = make_network(config, network_spec(config, transformation), torch.device("cpu"))
    return Network(config, transformation, network.state_dict())


def write_model(
    network: Network, path: Path, settings: DataSettings | None = SETTINGS, scale: float = 1.0
) -> Path:
    """A model folder of the network with its weights scaled."""
    weights = {name: tensor * scale for name, tensor in network.weights.items()}
    contents = contents_of([Member(weights, network.transformation, network.config)], "a test")
    model = replace(contents.model, data_settings=settings)
    write_model_folder(path, replace(contents, model=model))
    return path


def make_container(model: Path, batch_size: int = 1, **settings: Any) -> DNNDataContainer:
    container = DNNDataContainer(batch_size=batch_size)
    container.load_configuration(model)
    container.set_up(**settings)
    return container


@cache
def load(model: Path) -> Reconstructor:
    return Reconstructor(model, "cpu", 1)


def direct(frame: I3Frame, model: Path) -> dict[str, float]:
    """The prediction for the pulses of a frame without any module."""
    pulses = pulses_of(frame[PULSES])
    kept = exclude(pulses, *read_exclusions(frame, SETTINGS.dom_exclusions), partial=True)
    assert 0 < len(kept.time) < len(pulses.time)
    table = load(model).predict(kept)
    return {name: float(column[0]) for name, column in table.columns().items()}


# Frames
def random_pulses(seed: int, num_doms: int = 12) -> i3.I3RecoPulseSeriesMap:
    """Up to four pulses in each of some DOMs, one of them a surface tank."""
    rng = np.random.default_rng(seed)
    found = i3.I3RecoPulseSeriesMap()
    for dom in rng.choice(5160, num_doms, replace=False).tolist():
        key = OMKey(dom // 60 + 1, dom % 60 + 1)
        found[key] = i3.I3RecoPulseSeries(
            i3.I3RecoPulse(time, charge, 8.0, 1)
            for time, charge in zip(
                np.sort(rng.uniform(9500, 12000, 4)).tolist(), rng.exponential(1.0, 4), strict=True
            )
        )
    if num_doms:
        found[OMKey(5, 61)] = i3.I3RecoPulseSeries([i3.I3RecoPulse(9400.0, 0.5, 8.0, 1)])
    return found


def make_frame(stop: str, number: int = 0, stream: str = "InIceSplit", **objects: Any) -> I3Frame:
    """A frame of a kind ("P", "Q", …); P frames have a header."""
    frame = I3Frame(icetray_stub.Stream(stop))
    if stop == "P":
        frame["I3EventHeader"] = i3.I3EventHeader(1, number, 0, stream)
    for name, value in objects.items():
        frame[name] = value
    return frame


def p_frame(number: int, stream: str = "InIceSplit", **objects: Any) -> I3Frame:
    """A P frame with pulses, the exclusion of a time window, and of two DOMs."""
    pulses = random_pulses(number)
    some = next(iter(pulses))
    windows = i3.I3TimeWindowSeriesMap(
        {some: i3.I3TimeWindowSeries([i3.I3TimeWindow(0.0, pulses[some][1].time)])}
    )
    mine = {
        PULSES: pulses,
        "CalibrationErrata": windows,
        "BadDomsList": i3.I3VectorOMKey(list(pulses)[1:3]),
    }
    return make_frame("P", number, stream, **{**mine, **objects})


# Trays
class Source(I3Module):
    def __init__(self, context: object) -> None:
        super().__init__(context)
        self.AddParameter("Frames", "What to push.", [])

    def Configure(self) -> None:
        self._frames = iter(self.GetParameter("Frames"))

    def Process(self) -> None:
        frame = next(self._frames, None)
        if frame is None:
            self.RequestSuspension()
        else:
            self.PushFrame(frame)


class Sink(I3Module):
    def __init__(self, context: object) -> None:
        super().__init__(context)
        self.AddParameter("Frames", "Where frames arrive.", [])

    def Process(self) -> None:
        self.GetParameter("Frames").append(self.PopFrame())


def run_tray(
    frames: Iterable[I3Frame], *modules: tuple[type[I3Module], dict[str, Any]]
) -> list[I3Frame]:
    """The frames that leave a chain of modules."""
    tray, found = I3Tray(), list[I3Frame]()
    tray.AddModule(Source, "source", Frames=list(frames))
    for i, (module, parameters) in enumerate(modules):
        tray.AddModule(module, f"module_{i}", **parameters)
    tray.AddModule(Sink, "sink", Frames=found)
    tray.Execute()
    return found
