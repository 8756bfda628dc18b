"""Frame objects as arrays and back, the container, and the package without IceTray."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ic3_frames import PULSES, SETTINGS, i3, make_frame, p_frame
from icecube.icetray import OMKey

from dnn_reco.data.data_settings import features_of
from dnn_reco.data.pulses import join
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.ic3.container import DNNDataContainer
from dnn_reco.ic3.frames import frame_input, particles_of, pulses_of, read_exclusions, values_of
from dnn_reco.inference.prediction_table import PredictionTable, Status


def configured(batch_size: int = 1, **changes: object) -> DNNDataContainer:
    container = DNNDataContainer(batch_size)
    container.configure(**{**vars_of_settings(), **changes})
    container.set_up()
    return container


def vars_of_settings() -> dict[str, object]:
    return {key: getattr(SETTINGS, key) for key in SETTINGS.__dataclass_fields__}


def test_without_icetray_the_message_names_it() -> None:
    code = "import dnn_reco.ic3.modules"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: dnn_reco.ic3 runs inside of IceTray")
    assert "No module named 'icecube'" in last


def test_pulses_of_a_map() -> None:
    """In the order of DOM and time; all PMTs of a DOM are one, tanks have no DOM index."""
    series_map = i3.I3RecoPulseSeriesMap(
        {
            OMKey(2, 1): i3.I3RecoPulseSeries([i3.I3RecoPulse(5.0, 0.5, 8.0, 7)]),
            OMKey(1, 60): i3.I3RecoPulseSeries(
                [i3.I3RecoPulse(3.0, 1.0), i3.I3RecoPulse(2.0, 2.0)]
            ),
            OMKey(2, 1, 3): i3.I3RecoPulseSeries([i3.I3RecoPulse(4.0, 3.0)]),
            OMKey(2, 62): i3.I3RecoPulseSeries([i3.I3RecoPulse(9.0, 4.0)]),
            OMKey(7, 7): i3.I3RecoPulseSeries(),
        }
    )
    found = pulses_of(series_map)
    assert found.num_events == 1
    assert found.dom.tolist() == [-1, 59, 59, 60, 60]
    assert found.time.tolist() == [9.0, 2.0, 3.0, 4.0, 5.0]
    assert found.charge.tolist() == [4.0, 2.0, 1.0, 3.0, 0.5]
    assert found.flags.tolist() == [0, 0, 0, 0, 7]


def test_exclusions_of_a_frame() -> None:
    windows = i3.I3TimeWindowSeriesMap(
        {
            OMKey(1, 1): i3.I3TimeWindowSeries([i3.I3TimeWindow(1.0, 2.0), i3.I3TimeWindow(5, 7)]),
            OMKey(1, 2): i3.I3TimeWindowSeries(),
        }
    )
    frame = make_frame("P", Windows=windows, Doms=[OMKey(2, 3), OMKey(2, 61)], Wrong=3.0)
    doms, found = read_exclusions(frame, ["Windows", "Absent", "Doms"])
    assert doms.dom.tolist() == [62, -1]
    rows = sorted(zip(found.dom.tolist(), found.start.tolist(), found.stop.tolist(), strict=True))
    assert rows == [(0, 0.0, 0.0), (0, 1.0, 2.0), (0, 5.0, 7.0), (1, 0.0, 0.0)]
    for wrong in (3.0, {OMKey(1, 1): [1.0]}, "text"):
        frame = make_frame("P", Wrong=wrong)
        with pytest.raises(DataError, match=r"'Wrong' in 'dom_exclusions' is a (float|dict|str)"):
            read_exclusions(frame, ["Wrong"])


@pytest.mark.parametrize("partial", [True, False])
def test_excluded_pulses(partial: bool) -> None:
    frame = p_frame(0)
    window = next(iter(frame["CalibrationErrata"]))
    keys = ("BadDomsList", "CalibrationErrata")
    found = frame_input(frame, PULSES, keys, partial, None)
    kept = i3.I3RecoPulseSeriesMap(
        {k: list(v) for k, v in frame[PULSES].items() if k not in frame["BadDomsList"]}
    )
    kept[window] = kept[window][1:] if partial else []
    expected = pulses_of(kept)
    assert found.pulses.dom.tolist() == expected.dom.tolist()
    assert found.pulses.time.tolist() == expected.time.tolist()
    assert found.num_excluded == (9 if partial else 12)


def test_an_object_of_another_kind_as_pulses() -> None:
    with pytest.raises(DataError, match="'Pulses' is a list, not a map, mask or union"):
        frame_input(make_frame("P", Pulses=[1.0]), "Pulses", (), False, None)


def test_zenith_and_azimuth_are_in_their_places() -> None:
    zenith, azimuth = 0.4, 4.5
    table = PredictionTable(
        ("Zenith", "Azimuth"),
        (False, True),
        np.array([[zenith, azimuth], [np.nan, np.nan]]),
        np.array([[0.1, 0.2], [np.nan, np.nan]]),
        status=np.array([Status.OK, Status.INVALID_PREDICTION], dtype=np.int32),
        particle_labels={"zenith": "Zenith", "azimuth": "Azimuth"},
    )
    particle, invalid = particles_of(table)
    assert (particle.dir.zenith, particle.dir.azimuth) == pytest.approx((zenith, azimuth))
    source = [math.sin(zenith) * math.cos(azimuth), math.sin(zenith) * math.sin(azimuth)]
    found = [particle.dir.x, particle.dir.y, particle.dir.z]
    np.testing.assert_allclose(found, [-source[0], -source[1], -math.cos(zenith)])
    assert particle.fit_status == 0
    assert math.isnan(invalid.dir.zenith) and invalid.fit_status == 10
    first, second = values_of(table)
    assert first == {
        "Zenith": zenith,
        "Zenith_uncertainty": 0.1,
        "Azimuth": azimuth,
        "Azimuth_log_uncertainty": 0.2,
        "status": 0.0,
    }
    assert second["status"] == 4 and math.isnan(second["Zenith"])


def test_a_direction_vector_goes_before_angles() -> None:
    keys = {f"dir_{axis}": axis for axis in "xyz"}
    vector = np.array([[0.3, -0.4, 1.2]])
    table = PredictionTable(tuple("xyz"), (False,) * 3, vector, vector, particle_labels=keys)
    (particle,) = particles_of(table)
    found = [particle.dir.x, particle.dir.y, particle.dir.z]
    np.testing.assert_allclose(found, vector[0] / 1.3)


def test_batches_of_the_container() -> None:
    container = configured(3)
    frames = [p_frame(i) for i in range(5)]
    sizes = []
    for frame in frames:
        container.add(frame)
        sizes.append(container.events.hits.num_events)
    assert sizes == [1, 2, 3, 1, 2]
    keys = ("BadDomsList", "CalibrationErrata")
    pulses = join([frame_input(f, PULSES, keys, True, None).pulses for f in frames[3:]])
    expected = features_of(pulses, SETTINGS)
    assert np.array_equal(container.events.hits.features, expected.hits.features)
    assert container.global_time_offset_batch.tolist() == [*expected.time_offset, 0.0]
    assert container.x_ic78.shape == (3, 10, 10, 60, 9)
    assert container.x_deepcore.shape == (3, 8, 60, 9)
    charges = container.x_ic78[..., 0].sum() + container.x_deepcore[..., 0].sum()
    assert charges == pytest.approx(expected.hits.features[:, 0].sum())
    assert (container.runtime_batch[:2] > 0).all()


@pytest.mark.parametrize("method", ["cascade_vertex", "first_light_at_dom"])
def test_features_relative_to_a_vertex(method: str) -> None:
    particle = i3.I3Particle(pos=i3.I3Position(1.0, 2.0, 3.0), time=9900.0)
    container = configured(3, relative_time_method=method, cascade_key="Cascade")
    frames = [p_frame(0, Cascade=particle), p_frame(1), p_frame(2, Cascade=i3.I3Particle())]
    for frame in frames:
        container.add(frame)
    assert container.events.exists.tolist() == [True, False, False]
    assert container.events.time_offset[0] == 9900.0
    keys = ("BadDomsList", "CalibrationErrata")
    pulses = frame_input(frames[0], PULSES, keys, True, None).pulses
    settings = replace(SETTINGS, relative_time_method=method)
    expected = features_of(pulses, settings, np.array([[1.0, 2.0, 3.0, 9900.0]]))
    assert np.array_equal(container.events.hits.part(0, 1).features, expected.hits.features)


def test_how_a_container_is_set_up(tmp_path: Path) -> None:
    container = DNNDataContainer()
    assert not container.is_ready() and container.config == {}
    with pytest.raises(ConfigError, match="not configured"):
        container.set_up()
    with pytest.raises(ConfigError, match="num_bins"):
        container.configure(relative_time_method=None)
    container.configure(**vars_of_settings())
    with pytest.raises(ConfigError, match="configured already"):
        container.configure(**vars_of_settings())
    with pytest.raises(ConfigError, match="not set up"):
        container.add(p_frame(0))
    container.set_up(pulse_key="Mask")
    assert container.is_ready() and container.config["pulse_key"] == "Mask"
    with pytest.raises(ConfigError, match="set up already"):
        container.set_up()
    with pytest.raises(ConfigError, match="batch_size is 0"):
        DNNDataContainer(0)
    with pytest.raises(ConfigError, match="give partial_exclusion"):
        configured(partial_exclusion=None)
