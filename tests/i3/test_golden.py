"""Files of the collaboration against values that an independent decoder and IceTray's tables give.

Floats that both decode from the same bytes must be equal to the last bit; only sums differ by their
order.
"""

import hashlib
import io
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from golden_files import (
    HIGH_ENERGY,
    NAMES,
    golden_frames,
    golden_path,
    golden_stream,
    golden_values,
)
from numpy.typing import NDArray

from dnn_reco.i3.codecs import CODECS, decode, encode
from dnn_reco.i3.frame import Frame, frame_bytes
from dnn_reco.i3.objects import MCTree, OMKeyMap, Particle, PulseMask, RawObject
from dnn_reco.i3.writer import FrameWriter

_HLC = 1
_MUON_MASS = 0.105658367  # GeV, as the reference tables have it


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def golden(name: str) -> dict[str, Any]:
    return golden_values(name)


@pytest.fixture(scope="module")
def frames(name: str) -> list[Frame]:
    return golden_frames(name)


@pytest.fixture(scope="module")
def events(golden: dict[str, Any], frames: list[Frame]) -> list[tuple[dict[str, Any], Frame]]:
    """What stands in each P frame, and the frame."""
    physics = [frame for frame in frames if frame.stop == "P"]
    return list(zip(golden["events"], physics, strict=True))


# --------------------------------------------------------------------------------------------------
# Files and frames
# --------------------------------------------------------------------------------------------------
def test_file(name: str, golden: dict[str, Any]) -> None:
    content = golden_path(name).read_bytes()
    assert len(content) == golden["bytes"]
    assert hashlib.sha256(content).hexdigest() == golden["sha256"]
    assert len(golden_stream(name)) == golden["bytes_uncompressed"]


def test_frames(golden: dict[str, Any], frames: list[Frame]) -> None:
    assert len(frames) == golden["n_frames"]
    assert "".join(frame.stop for frame in frames) == golden["stops"]
    assert sorted({frame.version for frame in frames}) == golden["frame_versions"]
    assert [len(frame.own) for frame in frames] == golden["frame_keys"]
    stored = [frame_bytes(frame)[-4:][::-1].hex() for frame in frames]
    assert stored == golden["frame_crc"]


def test_written_again_a_file_is_the_same(name: str, frames: list[Frame]) -> None:
    written = io.BytesIO()
    writer = FrameWriter(written)
    for frame in frames:
        writer.write(frame)
    assert written.getvalue() == golden_stream(name)


def test_every_object_is_encoded_to_its_own_bytes(frames: list[Frame]) -> None:
    num_encoded: Counter[str] = Counter()
    for frame in frames:
        for key, stored in frame.own.items():
            value, of_class = stored.value, stored.class_name
            if isinstance(value, RawObject) or CODECS[of_class].write is None:
                continue
            type_name, content = encode(value, of_class)
            if isinstance(value, PulseMask):  # one without any bits has two spellings
                assert_same_mask(decode(content), value)
                assert content == stored.content or not len(value.selected), (frame, key)
            else:
                assert content == stored.content, (frame, key)
            assert normalised(type_name) == normalised(stored.type_name)
            num_encoded[of_class] += 1
    if any(frame.stop == "P" for frame in frames):
        expected = {"I3EventHeader", "I3MapStringDouble", "I3MCTree", "I3RecoPulseSeriesMap"}
        assert expected <= set(num_encoded)


def normalised(type_name: str) -> str:
    return type_name.replace("__cxx11::string", "string").replace(" ", "")


def assert_same_mask(one: PulseMask, other: PulseMask) -> None:
    assert one.source == other.source
    for name in ("selected", "counts", "pulses"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


def test_class_of_a_value_is_the_one_it_was_read_from(frames: list[Frame]) -> None:
    same_value = {"I3MapStringInt", "I3MapStringVectorDouble", "I3MapStringDouble"}
    for frame in frames:
        for key, stored in frame.own.items():
            value, of_class = stored.value, stored.class_name
            codec = CODECS.get(of_class)
            if codec is None or codec.write is None or (isinstance(value, dict) and not value):
                continue
            if of_class in same_value or isinstance(value, (Particle, MCTree, OMKeyMap)):
                assert encode(value) == encode(value, of_class), key


# --------------------------------------------------------------------------------------------------
# Events
# --------------------------------------------------------------------------------------------------
Events = list[tuple[dict[str, Any], Frame]]


def test_headers(events: Events) -> None:
    for expected, frame in events:
        header = frame["I3EventHeader"]
        found = {
            "run": header.run,
            "subrun": header.sub_run,
            "event": header.event,
            "subevent": header.sub_event,
            "stream": header.stream,
            "state": header.state,
            "start_year": header.start.year,
            "start_daq": header.start.daq_time,
            "end_daq": header.end.daq_time,
        }
        assert found == expected["header"]


def rows_of(pulses: OMKeyMap) -> list[list[float]]:
    return [list(row) for row in pulses.to_numpy().tolist()]


def test_pulses(events: Events) -> None:
    for expected, frame in events:
        assert expected["pulses"]
        for key, summary in expected["pulses"].items():
            pulses = frame[key]
            assert frame.object(key).class_name == summary["type"], key
            assert len(pulses) == summary["n_doms"]
            assert np.count_nonzero(pulses.counts) == summary["n_doms_nonempty"]
            assert len(pulses.items) == summary["n_pulses"]
            total = pulses.items["charge"].astype(np.float64).sum()
            assert total == pytest.approx(summary["sum_charge"], rel=1e-12, abs=0)
            rows = rows_of(pulses)
            assert rows[:3] == summary["first3"], key
            assert rows[-1:] == summary["last1"], key
            if "mask_source" in summary:
                assert frame.stored(key).source == summary["mask_source"]


def test_all_pulse_keys_are_in_the_golden_values(events: Events) -> None:
    for expected, frame in events:
        found = {
            key
            for key in frame
            if frame.object(key).class_name.startswith(("I3RecoPulseSeriesMap", "I3SuperDST"))
        }
        assert {key for key in found if "Triggers" not in key} == set(expected["pulses"])


def test_particles(events: Events) -> None:
    for expected, frame in events:
        for key in ("MCInIcePrimary", "MCPrimary1", "MCMostEnergeticTrack"):
            if key not in expected:
                assert key not in frame
                continue
            particle, summary = frame[key], dict(expected[key])
            position = summary.pop("pos")
            assert [particle.x, particle.y, particle.z] == position
            for name, value in summary.items():
                assert_same_number(getattr(particle, name), value)


def assert_same_number(found: float, expected: Any) -> None:
    """JSON has large integers and NaN as text."""
    if expected == "nan":
        assert math.isnan(found)
    else:
        assert found == (int(expected) if isinstance(expected, str) else expected)


def test_trees(events: Events) -> None:
    for expected, frame in events:
        tree, summary = frame["I3MCTree"], expected["I3MCTree"]
        assert len(tree) == summary["n"]
        assert len(tree.primaries) == summary["n_primaries"]
        assert depth(tree) == summary["max_depth"]
        counts = Counter(str(code) for code in tree.particles["pdg"].tolist())
        assert counts == summary["pdg_counts"]
        for number, particle in enumerate(summary["first4"]):
            row = tree.particles[number]
            assert tree.parents[number] == particle["parent_index"]
            for name in ("pdg", "energy", "shape", "location"):
                assert_same_number(row[name].item(), particle[name])


def depth(tree: MCTree) -> int:
    """Number of ancestors of the particle that has the most."""
    depths: list[int] = []
    for parent in tree.parents.tolist():
        depths.append(depths[parent] + 1 if parent >= 0 else 0)
    return max(depths, default=0)


def test_weights(events: Events) -> None:
    for expected, frame in events:
        weights, summary = frame["I3MCWeightDict"], dict(expected["I3MCWeightDict"])
        assert len(weights) == summary.pop("n")
        for name, value in summary.items():
            assert_same_number(weights[name], value)


def test_tracks(events: Events) -> None:
    names = {"elost": "energy_lost"}
    for expected, frame in events:
        if "MMCTrackList" not in expected:
            assert "MMCTrackList" not in frame
            continue
        tracks, summary = frame["MMCTrackList"], expected["MMCTrackList"]
        assert len(tracks) == summary["n"]
        for name, value in summary.get("first", {}).items():
            assert_same_number(tracks[0][names.get(name, name)].item(), value)


def test_windows_and_lists_of_doms(events: Events) -> None:
    for expected, frame in events:
        for key, summary in expected.get("time_window_maps", {}).items():
            windows = frame[key]
            assert len(windows) == summary["n"]
            found = [
                [[*dom.tolist()], [list(window) for window in part.tolist()]]
                for dom, part in split(windows)
            ]
            assert found[: len(summary["items"])] == summary["items"]
        for key, summary in expected.get("omkey_vectors", {}).items():
            doms = frame[key]
            assert len(doms) == summary["n"]
            assert [list(dom) for dom in doms[:3].tolist()] == summary["first3"]


def split(values: OMKeyMap) -> list[tuple[Any, NDArray[Any]]]:
    """Photomultipliers and their items."""
    stops = np.cumsum(values.counts)[:-1]
    return list(zip(values.keys, np.split(values.items, stops), strict=False))


# --------------------------------------------------------------------------------------------------
# Tables of the reference software
# --------------------------------------------------------------------------------------------------
def oracles(events: Events) -> list[tuple[Mapping[str, Any], Frame]]:
    found = [(expected["oracle"], frame) for expected, frame in events if "oracle" in expected]
    if not found:
        pytest.skip("no table of the reference software for this file")
    return found


def test_pulses_of_the_reference_software(events: Events) -> None:
    for oracle, frame in oracles(events):
        pulses = frame[oracle["pulse_key"]]
        assert len(pulses.items) == oracle["n_pulses"]
        total = pulses.items["charge"].astype(np.float64).sum()
        assert total == pytest.approx(oracle["sum_charge"], rel=1e-12, abs=0)
        rows = [[*row[:-1], row[-1] & _HLC] for row in rows_of(pulses)[:3]]
        assert rows == oracle["first3"]


def test_labels_of_the_reference_software(events: Events) -> None:
    for oracle, frame in oracles(events):
        tree = frame["I3MCTree"]
        primary = tree.particles[0]
        assert [primary[name] for name in ("energy", "zenith", "azimuth", "pdg")] == [
            oracle[name] for name in ("energy", "zenith", "azimuth", "pid")
        ]
        assert [primary[axis] for axis in "xyz"] == oracle["pos"]
        weights = frame["I3MCWeightDict"]
        assert weights["InteractionType"] == oracle["interaction_type"]
        assert frame["I3EventHeader"].start.mjd == oracle["event_time_mjd"]
        daughters = tree.particles[tree.daughters(0)]
        muons = daughters[np.abs(daughters["pdg"]) == 13]
        track = sum(energy + _MUON_MASS for energy in muons["energy"].tolist())
        assert track == pytest.approx(oracle["energy_track"], rel=1e-7)
        cascade = primary["energy"] - track
        assert cascade == pytest.approx(oracle["energy_cascade"], rel=1e-6)
        assert cascade / primary["energy"] == pytest.approx(oracle["inelasticity"], rel=1e-6)


def test_stored_maps_equal_those_of_super_dst(events: Events) -> None:
    """IceTray unpacked the same pulses and stored some of them as full maps."""
    num_compared = 0
    for _, frame in events:
        everything = (
            {tuple(row[:4]): row for row in rows_of(frame["I3SuperDST"])}
            if ("I3SuperDST" in frame)
            else {}
        )
        for key in ("L4_SRTTWPulses", "L4_TWPulses_DCFid"):
            if key in frame:
                for row in rows_of(frame[key]):
                    assert everything[tuple(row[:4])] == row
                    num_compared += 1
    assert num_compared > 0 or all("L4_SRTTWPulses" not in frame for _, frame in events)


def test_large_file_has_large_trees_and_many_pulses() -> None:
    physics = [frame for frame in golden_frames(HIGH_ENERGY) if frame.stop == "P"]
    assert [len(frame["I3SuperDST"].items) for frame in physics] == [721, 4692, 245, 426, 3185]
    assert all(800 < len(frame["I3MCTree"]) < 1500 for frame in physics)
