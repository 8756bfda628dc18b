"""The modules in a tray: which frames come out, and with which predictions."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ic3_frames import (
    LABELS,
    PULSES,
    SETTINGS,
    I3Frame,
    I3Module,
    Network,
    direct,
    i3,
    make_container,
    make_frame,
    p_frame,
    random_pulses,
    run_tray,
    write_model,
)

from dnn_reco.errors import ConfigError, DataError, ModelError
from dnn_reco.ic3.container import DNNDataContainer
from dnn_reco.ic3.modules import DeepLearningReco, DNNContainerHandler
from dnn_reco.inference.prediction_table import Status

KEY = "DeepLearningReco"


def reco(model: Path, container: object, **parameters: Any) -> tuple[type, dict[str, Any]]:
    given = {"ModelPath": str(model), "DNNDataContainer": container, "ParallelismThreads": 1}
    return DeepLearningReco, {**given, **parameters}


def handler(container: object, **parameters: Any) -> tuple[type, dict[str, Any]]:
    return DNNContainerHandler, {"DNNDataContainer": container, **parameters}


def reconstructed(
    frames: Sequence[I3Frame], model: Path, batch_size: int = 1, **parameters: Any
) -> list[I3Frame]:
    container = make_container(model, batch_size)
    return run_tray(frames, handler(container), reco(model, container, **parameters))


def assert_predicted(frame: I3Frame, model: Path, key: str = KEY) -> None:
    """The result is the prediction for the same pulses without the module."""
    expected = {**direct(frame, model), "status": 0.0}
    assert frame[key].keys() == expected.keys()
    for name, value in expected.items():
        assert frame[key][name] == pytest.approx(value, rel=1e-4, abs=1e-3), name


@pytest.mark.parametrize("batch_size", [1, 3])
def test_frames_of_all_kinds_leave_in_order(models: Path, batch_size: int) -> None:
    order = "GCDQPPQPSQQPIPPQPQ"
    frames = [p_frame(i) if kind == "P" else make_frame(kind) for i, kind in enumerate(order)]
    found = reconstructed(frames, models / "first", batch_size)
    assert [id(frame) for frame in found] == [id(frame) for frame in frames]
    for frame, kind in zip(found, order, strict=True):
        results = {KEY, f"{KEY}_I3Particle"} if kind == "P" else set()
        assert set(frame.keys()) == results | set(p_frame(0).keys() if kind == "P" else [])
        if kind == "P":
            assert_predicted(frame, models / "first")


def test_only_frames_behind_a_waiting_event_wait(models: Path) -> None:
    container = make_container(models / "first", 3)
    arrived: list[str] = []
    when: list[int] = []

    class Before(I3Module):
        def Process(self) -> None:
            frame = self.PopFrame()
            when.append(len(arrived))
            self.PushFrame(frame)

    class After(I3Module):
        def Process(self) -> None:
            frame = self.PopFrame()
            arrived.append(frame.Stop.id)
            self.PushFrame(frame)

    frames = [p_frame(i) if kind == "P" else make_frame(kind) for i, kind in enumerate("QPPQPQP")]
    run_tray(
        frames, (Before, {}), handler(container), reco(models / "first", container), (After, {})
    )
    assert when == [0, 1, 1, 1, 1, 5, 6]
    assert arrived == list("QPPQPQP")


def no_events() -> dict[str, tuple[I3Frame, Status]]:
    """P frames that cannot be reconstructed."""
    mask = i3.I3RecoPulseSeriesMapMask(None, "Absent", lambda *_: True)
    spoilt = random_pulses(3)
    next(iter(spoilt.values()))[0].time = math.nan
    whole = i3.I3TimeWindowSeriesMap(
        {key: i3.I3TimeWindowSeries([i3.I3TimeWindow()]) for key in random_pulses(2)}
    )
    excluded = {PULSES: random_pulses(2), "CalibrationErrata": whole}
    no_series = i3.I3RecoPulseSeriesMap(dict.fromkeys(random_pulses(1), i3.I3RecoPulseSeries()))
    null = make_frame("P", 3, "NullSplit", **{PULSES: random_pulses(1)})
    return {
        "no header, no pulses": (I3Frame(I3Frame.Physics), Status.NO_INPUT),
        "no pulses": (make_frame("P", 1), Status.NO_INPUT),
        "empty map": (make_frame("P", 2, **{PULSES: i3.I3RecoPulseSeriesMap()}), Status.NO_HITS),
        "NullSplit": (null, Status.NO_INPUT),
        "mask of nothing": (make_frame("P", 4, **{PULSES: mask}), Status.NO_INPUT),
        "all excluded": (make_frame("P", 5, **excluded), Status.NO_HITS),
        "empty series": (make_frame("P", 6, **{PULSES: no_series}), Status.NO_HITS),
        "time NaN": (make_frame("P", 7, **{PULSES: spoilt}), Status.INVALID_INPUT),
    }


@pytest.mark.parametrize("batch_size", [1, 3])
def test_frames_that_cannot_be_reconstructed(models: Path, batch_size: int) -> None:
    cases = no_events()
    frames = [
        frame for i, (case, _) in enumerate(cases.values()) for frame in (case, p_frame(20 + i))
    ]
    found = reconstructed(frames, models / "first", batch_size, MeasureTime=True)
    assert found == frames
    names = found[1][KEY].keys()
    for (name, (frame, status)), good in zip(cases.items(), found[1::2], strict=True):
        result, particle = frame[KEY], frame[f"{KEY}_I3Particle"]
        assert result.keys() == names, name
        assert result["status"] == status, name
        assert all(math.isnan(result[label]) for label in LABELS), name
        no_hits = status == Status.NO_HITS
        assert particle.fit_status.name == ("InsufficientHits" if no_hits else "GeneralFailure")
        numbers = [*particle.pos, particle.time, particle.energy, particle.length]
        numbers += [particle.dir.zenith, particle.dir.azimuth]
        assert all(math.isnan(number) for number in numbers), name
        assert good[KEY]["status"] == 0
        assert good[f"{KEY}_I3Particle"].fit_status.name == "OK"


def test_the_particle_is_made_of_the_labels(models: Path) -> None:
    (frame,) = reconstructed([p_frame(1)], models / "first")
    particle, result = frame[f"{KEY}_I3Particle"], frame[KEY]
    assert particle.energy == result["EnergyVisible"]
    assert particle.dir.zenith == pytest.approx(result["PrimaryZenith"])
    assert particle.dir.azimuth == pytest.approx(result["PrimaryAzimuth"])
    assert particle.time == result["VertexTime"] > 5000, "the time is not absolute"
    assert particle.pos.x == result["VertexX"]
    assert math.isnan(particle.pos.y) and math.isnan(particle.length)


def test_masks_and_unions(models: Path) -> None:
    """The pulses of a mask are those of a map with them alone."""
    pulses = random_pulses(9)
    early = i3.I3RecoPulseSeriesMap(
        {key: i3.I3RecoPulseSeries(series[:2]) for key, series in pulses.items()}
    )
    late = i3.I3RecoPulseSeriesMap(
        {key: i3.I3RecoPulseSeries(series[2:]) for key, series in pulses.items()}
    )
    masked = p_frame(9, Mask=i3.I3RecoPulseSeriesMapMask(None, PULSES, lambda _, i, pulse: i < 2))
    united = p_frame(
        9, Early=early, Late=late, Union=i3.I3RecoPulseSeriesMapUnion(None, ["Early", "Late"])
    )
    model = models / "first"
    for key, frame, same in (
        ("Mask", masked, p_frame(9, **{PULSES: early})),
        ("Union", united, p_frame(9)),
    ):
        container = make_container(model, pulse_key=key)
        run_tray([frame], handler(container), reco(model, container))
        assert frame[KEY] == pytest.approx({**direct(same, model), "status": 0}, rel=1e-4)


@dataclass
class Ic3DataContainer:
    """What a module reads of the container of ic3_data."""

    batch_size: int
    config: dict[str, Any]
    x_ic78: np.ndarray = field(init=False)
    x_deepcore: np.ndarray = field(init=False)
    global_time_offset_batch: np.ndarray = field(init=False)
    runtime_batch: np.ndarray = field(init=False)


class Ic3DataHandler(I3Module):
    """Fills one row of the arrays for each P frame, as the handler of ic3_data does."""

    def __init__(self, context: object) -> None:
        super().__init__(context)
        self.AddParameter("Container", "", None)
        self.AddParameter("Own", "Container to compute the features with.", None)
        self._row = 0

    def Physics(self, frame: I3Frame) -> None:
        container, own = self.GetParameter("Container"), self.GetParameter("Own")
        own.add(frame)
        if self._row in (0, container.batch_size):
            self._row = 0
            container.x_ic78 = np.zeros((container.batch_size, 10, 10, 60, 9))
            container.x_deepcore = np.zeros((container.batch_size, 8, 60, 9))
            container.global_time_offset_batch = np.zeros(container.batch_size)
            container.runtime_batch = np.zeros(container.batch_size)
        container.x_ic78[self._row] = own.x_ic78[0]
        container.x_deepcore[self._row] = own.x_deepcore[0]
        container.global_time_offset_batch[self._row] = own.global_time_offset_batch[0]
        container.runtime_batch[self._row] = 0.25
        self._row += 1
        self.PushFrame(frame)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_container_of_ic3_data(models: Path, batch_size: int) -> None:
    config = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(SETTINGS).items()}
    container = Ic3DataContainer(batch_size, {**config, "something_else": 1})
    own = make_container(models / "first", 1)
    empty = make_frame("P", 40, **{PULSES: i3.I3RecoPulseSeriesMap()})
    null = p_frame(41, stream="NullSplit")
    events = [p_frame(i) for i in range(5)]
    frames = [make_frame("Q"), *events[:2], empty, null, make_frame("Q"), *events[2:]]
    found = run_tray(
        frames,
        (Ic3DataHandler, {"Container": container, "Own": own}),
        reco(models / "first", container, OutputBaseName="first", MeasureTime=True),
        reco(models / "second", container, OutputBaseName="second"),
    )
    assert found == frames
    for frame in events:
        assert frame["first"].pop("runtime_preprocess") == 0.25
        del frame["first"]["runtime_prediction"], frame["first"]["runtime_write"]
        assert_predicted(frame, models / "first", "first")
        assert_predicted(frame, models / "second", "second")
    assert empty["second"]["status"] == Status.NO_HITS
    assert null["second"]["status"] == Status.NO_INPUT


def test_arrays_by_string_and_dom_are_refused(models: Path) -> None:
    container = Ic3DataContainer(1, {**asdict(SETTINGS), "is_str_dom_format": True})
    with pytest.raises(ConfigError, match="is_str_dom_format"):
        run_tray([], reco(models / "first", container))


def test_several_models_share_a_container(models: Path) -> None:
    container = make_container(models / "first", 3)
    frames = [p_frame(i) for i in range(5)]
    run_tray(
        frames,
        handler(container),
        reco(models / "first", container, OutputBaseName="a"),
        reco(models / "second", container, OutputBaseName="b"),
    )
    for frame in frames:
        assert_predicted(frame, models / "first", "a")
        assert_predicted(frame, models / "second", "b")
        assert frame["a"]["EnergyVisible"] != frame["b"]["EnergyVisible"]


def test_measured_times(models: Path) -> None:
    frames = [p_frame(i) for i in range(4)]
    reconstructed(frames, models / "first", 3, MeasureTime=True)
    for frame in frames:
        for part in ("prediction", "preprocess", "write"):
            assert 0 < frame[KEY][f"runtime_{part}"] < 60


@pytest.mark.parametrize("batch_size", [1, 3])
def test_frames_left_out_by_a_condition_keep_their_place(models: Path, batch_size: int) -> None:
    frames = [p_frame(i) if kind == "P" else make_frame(kind) for i, kind in enumerate("PPQPPPPPQ")]
    container = make_container(models / "first", batch_size)
    condition: Callable[[I3Frame], bool] = lambda frame: (  # noqa: E731
        frame.Stop.id != "P" or frame["I3EventHeader"].event_id not in (1, 4, 7)
    )
    found = run_tray(
        frames,
        handler(container, If=condition),
        reco(models / "first", container, If=condition),
    )
    assert found == frames
    for frame in frames:
        if frame.Stop.id == "P" and condition(frame):
            assert_predicted(frame, models / "first")
        else:
            assert KEY not in frame


def test_other_events_in_the_container_are_noticed(models: Path) -> None:
    container = make_container(models / "first", 2)
    frames = [p_frame(i) for i in range(4)]
    with pytest.raises(DataError, match=r"holds the events .* the module has .*'If'"):
        run_tray(
            frames,
            handler(container),
            reco(models / "first", container, If=lambda f: f["I3EventHeader"].event_id != 1),
        )


def test_mismatches_are_named(
    models: Path, network: Network, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = replace(SETTINGS, relative_time_method=None, dom_exclusions=("BrightDOMs",))
    model = write_model(network, tmp_path / "other", other)
    container = make_container(models / "first")
    with pytest.raises(DataError) as error:
        run_tray([], reco(model, container))
    for text in ("relative_time_method", "dom_exclusions", "IgnoreMisconfiguredSettingsList"):
        assert text in str(error.value)
    names = ["relative_time_method", "dom_exclusions"]
    found = run_tray(
        [p_frame(0)],
        handler(container),
        reco(model, container, IgnoreMisconfiguredSettingsList=names),
    )
    assert found[0][KEY]["status"] == 0
    assert all(name in caplog.text for name in names)


def test_what_the_modules_refuse(models: Path, network: Network, tmp_path: Path) -> None:
    container = make_container(models / "first")
    unknown = write_model(network, tmp_path / "unknown", None)
    with pytest.raises(ModelError, match="does not hold the settings"):
        run_tray([], reco(unknown, container))
    with pytest.raises(ModelError, match="no model folder"):
        run_tray([], reco(tmp_path / "absent", container))
    with pytest.raises(ConfigError, match="needs ModelPath and DNNDataContainer"):
        run_tray([], reco(models / "first", None))
    with pytest.raises(ConfigError, match="handler of ic3_data"):
        run_tray([], handler(Ic3DataContainer(1, {})))
    with pytest.raises(ConfigError, match="call set_up"):
        run_tray([], handler(DNNDataContainer()))
    with pytest.raises(DataError, match="already has an object 'DeepLearningReco'"):
        run_tray([p_frame(0)], handler(container), *[reco(models / "first", container)] * 2)


def test_verbose_prints_what_is_excluded(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_tray([p_frame(0)], handler(make_container(models / "first"), Verbose=True))
    # two DOMs with four pulses each, and the first pulse of another DOM
    assert capsys.readouterr().out.startswith("9 pulses excluded, 40 left in (1, 0, 0,")
