"""A small stand-in of IceTray: the calls that dnn_reco.ic3 and its tests make, with their meaning.

Frames pass as in IceTray: what a module pushes is processed by the next one at once, `Finish` goes
from the first module to the last, and `If` of a conditional module is evaluated for DAQ and Physics
frames before its `Process`.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from types import ModuleType
from typing import Any, NamedTuple


# icetray
class OMKey(NamedTuple):
    string: int
    om: int
    pmt: int = 0


@dataclass(frozen=True)
class Stream:
    id: str


class I3Frame:
    TrayInfo = Stream("I")
    Geometry = Stream("G")
    Calibration = Stream("C")
    DetectorStatus = Stream("D")
    Simulation = Stream("S")
    DAQ = Stream("Q")
    Physics = Stream("P")

    def __init__(self, stop: Stream) -> None:
        self.Stop = stop
        self._objects: dict[str, object] = {}

    def Has(self, key: str) -> bool:
        return key in self._objects

    __contains__ = Has

    def __getitem__(self, key: str) -> Any:
        return self._objects[key]

    def __setitem__(self, key: str, value: object) -> None:
        if value is None:
            raise TypeError("FrameObject cannot be None")
        if key in self._objects:
            raise RuntimeError(f"frame already contains {key}")
        self._objects[key] = value

    def keys(self) -> list[str]:
        return list(self._objects)


class I3Module:
    def __init__(self, context: object) -> None:
        self._parameters: dict[str, object] = {}
        self._inbox: deque[I3Frame] = deque()
        self._outbox: deque[I3Frame] = deque()

    def AddParameter(self, name: str, description: str, default: object = None) -> None:
        self._parameters[name] = default

    def GetParameter(self, name: str) -> Any:
        return self._parameters[name]

    def PopFrame(self) -> I3Frame | None:
        return self._inbox.popleft() if self._inbox else None

    def PushFrame(self, frame: I3Frame) -> None:
        self._outbox.append(frame)

    def RequestSuspension(self) -> None:
        self.is_suspended = True

    def Configure(self) -> None: ...

    def Physics(self, frame: I3Frame) -> None:
        self.PushFrame(frame)

    def Process(self) -> None:
        frame = self.PopFrame()
        if frame is not None:
            (self.Physics if frame.Stop == I3Frame.Physics else self.PushFrame)(frame)

    def Finish(self) -> None: ...

    def should_process(self, frame: I3Frame) -> bool:
        return True

    def process_checked(self) -> None:
        if self._inbox and not self.should_process(self._inbox[0]):
            self.PushFrame(self._inbox.popleft())
        else:
            self.Process()


class I3ConditionalModule(I3Module):
    def __init__(self, context: object) -> None:
        super().__init__(context)
        self.AddParameter("If", "", None)

    def should_process(self, frame: I3Frame) -> bool:
        condition = self.GetParameter("If")
        is_subject = frame.Stop in (I3Frame.DAQ, I3Frame.Physics)
        return not is_subject or condition is None or bool(condition(frame))


class I3Tray:
    def __init__(self) -> None:
        self._modules: list[I3Module] = []

    def AddModule(self, kind: type[I3Module], name: str, **parameters: object) -> None:
        module = kind(None)
        for key, value in parameters.items():
            if key not in module._parameters:
                raise RuntimeError(f"module {name} has no parameter {key}")
            module._parameters[key] = value
        self._modules.append(module)

    def AddSegment(self, segment: Callable[..., None], name: str, **arguments: object) -> None:
        segment(self, name, **arguments)

    def Execute(self) -> None:
        for module in self._modules:
            module.Configure()
        source = self._modules[0]
        source.is_suspended = False
        while not source.is_suspended:
            source.process_checked()
            self._pass_on(0)
        for i, module in enumerate(self._modules):
            module.Finish()
            self._pass_on(i)

    def _pass_on(self, i: int) -> None:
        """Let the next module process what module i has pushed."""
        while self._modules[i]._outbox and i + 1 < len(self._modules):
            following = self._modules[i + 1]
            following._inbox.append(self._modules[i]._outbox.popleft())
            following.process_checked()
            self._pass_on(i + 1)


def traysegment(function: Callable[..., None]) -> Callable[..., None]:
    function.__i3traysegment__ = True  # type: ignore[attr-defined]
    return function


# dataclasses
class I3Position(NamedTuple):
    x: float = math.nan
    y: float = math.nan
    z: float = math.nan


class I3Direction:
    """From (zenith, azimuth) of where a particle comes from, or from the vector that it flies."""

    def __init__(self, *values: float) -> None:
        if len(values) == 2:
            self.zenith, self.azimuth = values
        elif len(values) == 3:
            x, y, z = values
            self.zenith = math.pi - math.atan2(math.hypot(x, y), z)
            self.azimuth = (math.atan2(y, x) + math.pi) % (2 * math.pi)
        else:
            self.zenith = self.azimuth = math.nan

    @property
    def x(self) -> float:
        return -math.sin(self.zenith) * math.cos(self.azimuth)

    @property
    def y(self) -> float:
        return -math.sin(self.zenith) * math.sin(self.azimuth)

    @property
    def z(self) -> float:
        return -math.cos(self.zenith)


class FitStatus(IntEnum):
    NotSet = -1
    OK = 0
    GeneralFailure = 10
    InsufficientHits = 20
    FailedToConverge = 30
    MissingSeed = 40
    InsufficientQuality = 50


@dataclass
class I3Particle:
    pos: I3Position = field(default_factory=I3Position)
    dir: I3Direction = field(default_factory=I3Direction)
    time: float = math.nan
    energy: float = math.nan
    length: float = math.nan
    fit_status: FitStatus = FitStatus.NotSet

    FitStatus = FitStatus


@dataclass
class I3RecoPulse:
    time: float = math.nan
    charge: float = math.nan
    width: float = math.nan
    flags: int = 0


class I3RecoPulseSeries(list[I3RecoPulse]): ...


class I3RecoPulseSeriesMap(dict[OMKey, I3RecoPulseSeries]):
    def items(self) -> Iterator[tuple[OMKey, I3RecoPulseSeries]]:  # type: ignore[override]
        return iter(sorted(super().items()))


class I3RecoPulseSeriesMapMask:
    """The pulses of a map in the frame for which `keep(omkey, index, pulse)` is true."""

    def __init__(
        self, frame: I3Frame, key: str, keep: Callable[[OMKey, int, I3RecoPulse], bool]
    ) -> None:
        self.source, self._keep = key, keep

    def apply(self, frame: I3Frame) -> I3RecoPulseSeriesMap:
        if self.source not in frame:
            raise RuntimeError(f"the frame has no {self.source}")
        return I3RecoPulseSeriesMap(
            {
                key: I3RecoPulseSeries(p for i, p in enumerate(series) if self._keep(key, i, p))
                for key, series in frame[self.source].items()
            }
        )


class I3RecoPulseSeriesMapUnion:
    """The pulses of several maps in the frame, sorted by time."""

    def __init__(self, frame: I3Frame, keys: list[str]) -> None:
        self.sources = keys

    def apply(self, frame: I3Frame) -> I3RecoPulseSeriesMap:
        found = I3RecoPulseSeriesMap()
        for source in self.sources:
            for key, series in frame[source].items():
                found.setdefault(key, I3RecoPulseSeries()).extend(series)
        for series in found.values():
            series.sort(key=lambda pulse: pulse.time)
        return found


@dataclass
class I3TimeWindow:
    start: float = -math.inf
    stop: float = math.inf


class I3TimeWindowSeries(list[I3TimeWindow]): ...


class I3TimeWindowSeriesMap(dict[OMKey, I3TimeWindowSeries]): ...


class I3VectorOMKey(list[OMKey]): ...


class I3MapStringDouble(dict[str, float]): ...


@dataclass
class I3EventHeader:
    run_id: int = 0
    event_id: int = 0
    sub_event_id: int = 0
    sub_event_stream: str = ""


_ICETRAY = (OMKey, I3Frame, I3Module, I3ConditionalModule, I3Tray, traysegment)
_DATACLASSES = (
    *(I3Position, I3Direction, I3Particle, I3RecoPulse, I3RecoPulseSeries, I3RecoPulseSeriesMap),
    *(I3RecoPulseSeriesMapMask, I3RecoPulseSeriesMapUnion, I3TimeWindow, I3TimeWindowSeries),
    *(I3TimeWindowSeriesMap, I3VectorOMKey, I3MapStringDouble, I3EventHeader),
)


def install() -> None:
    """Make `icecube.icetray` and `icecube.dataclasses` importable."""
    package = ModuleType("icecube")
    package.__path__ = []  # type: ignore[attr-defined]
    sys.modules["icecube"] = package
    for name, members in (("icetray", _ICETRAY), ("dataclasses", _DATACLASSES)):
        module = ModuleType(f"icecube.{name}")
        for member in members:
            setattr(module, member.__name__, member)
        setattr(package, name, module)
        sys.modules[module.__name__] = module
