"""Event files made from frames: which events they hold, and what of each."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from i3_files import (
    PULSES,
    events,
    frame,
    header,
    mask_of,
    om_keys,
    pulse_map,
    windows,
    write,
)

from dnn_reco.data.file_events import HitsSettings
from dnn_reco.data.hdf5 import InputTables, input_tables, read_file, read_record
from dnn_reco.data_creation.event_file import FileJob, FileSummary, make_event_file
from dnn_reco.data_creation.modules import Modules, modules_of
from dnn_reco.data_creation.plan import CREATE_DATA, Segment
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.i3.objects import FilterResult, Particle, PulseUnion
from dnn_reco.i3.reader import read_i3
from dnn_reco.simulation.dataset import PlannedFile, write_file
from dnn_reco.simulation.labels import STARTING_EXTENSION
from dnn_reco.simulation.settings import SimulationSettings

STREAMS = ("in_ice", "InIceSplit", "Final")
HITS = {(3, 4): [(9000.0, 1.5), (9100.0, 0.5)], (50, 60): [(9050.0, 1.0)]}


def create(**kwargs: Any) -> Segment:
    arguments = {
        "NumDataBins": 9,
        "RelativeTimeMethod": "time_range",
        "DataFormat": "pulse_summmary_clipped",
        "PulseKey": PULSES,
        "OutputKey": "dnn_data",
        **kwargs,
    }
    return Segment(CREATE_DATA, arguments, "test")


def labels(**kwargs: Any) -> Segment:
    return Segment("ic3_labels.labels.modules.MCLabelsCascades", kwargs, "test")


def features_only(**kwargs: Any) -> Modules:
    return modules_of([create(**kwargs)])


def make(
    folder: Path,
    *inputs: Path,
    modules: Modules | None = None,
    keys: tuple[str, ...] = (),
    gcd: Path | None = None,
) -> tuple[FileSummary, Path]:
    output = folder / "events.hdf5"
    job = FileJob(inputs, output, ("I3EventHeader", *keys), STREAMS, gcd=gcd)
    return make_event_file(job, modules or features_only()), output


def rows(path: Path, table: str) -> np.ndarray:
    with h5py.File(path) as file:
        return np.asarray(file[table][()])


def read(path: Path, tables: InputTables = InputTables(), num_bins: int = 9) -> Any:  # noqa: B008
    return read_file(path, HitsSettings(tables, num_bins, (0.0,) * num_bins, "float64"))


# --------------------------------------------------------------------------------------------------
# Simulated events: frames and tables of the same events
# --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("flavor", ["mixed", "muon"])
def test_simulated_frames_give_the_tables_that_the_simulation_writes(
    tmp_path: Path, flavor: Any
) -> None:
    settings = SimulationSettings(flavor=flavor, energy=(1e2, 1e5), seed=3)
    frames, tables = tmp_path / "sim.i3.zst", tmp_path / "sim.hdf5"
    for path in (frames, tables):
        write_file(settings, PlannedFile(path, 5, 40))
    segments = [labels(ExtendBoundary=STARTING_EXTENSION), create()]
    summary, made = make(tmp_path, frames, modules=modules_of(segments))
    assert (summary.num_frames, summary.num_events) == (80, 40)
    assert not (summary.skipped or summary.without or summary.left_out)
    for table in ("dnn_data_bin_values", "dnn_data_bin_indices", "dnn_data_global_time_offset"):
        assert rows(made, table).tobytes() == rows(tables, table).tobytes()
    found, expected = rows(made, "LabelsDeepLearning"), rows(tables, "LabelsDeepLearning")
    assert found.dtype == expected.dtype
    for name in found.dtype.names or ():
        np.testing.assert_allclose(found[name], expected[name], 1e-6, 1e-6, err_msg=name)


@pytest.mark.parametrize("on_daq_frames", [True, False])
def test_labels_of_q_frames_are_those_of_their_p_frames(
    tmp_path: Path, on_daq_frames: bool
) -> None:
    path, output = tmp_path / "sim.i3", tmp_path / "made.i3"
    write_file(SimulationSettings(), PlannedFile(path, 1, 5))
    modules = modules_of([labels(RunOnDAQFrames=on_daq_frames, OutputKey="Labels"), create()])
    job = FileJob((path,), tmp_path / "made.hdf5", (), STREAMS, output, ("Q", "P"))
    make_event_file(job, modules)
    assert rows(tmp_path / "made.hdf5", "Labels")["exists"].all()
    for each in read_i3(output):
        assert ("Labels" in each.own) is ((each.stop == "Q") is on_daq_frames)


def test_tables_of_features_may_be_named_as_keys(tmp_path: Path) -> None:
    """Also where the frames hold what an earlier processing made."""
    path = events(tmp_path / "x.i3", 3)
    _, expected = make(tmp_path, path)
    parts = ("bin_values", "bin_indices", "bin_exclusions", "global_time_offset", "runtime")
    keys = tuple(f"dnn_data_{part}" for part in parts)
    before = {key: rows(expected, key).tobytes() for key in keys[:-1]}
    earlier = list(read_i3(path, mix=False))
    for each in earlier:
        for key in keys:
            each.put(key, 2.5)
    write(path, earlier)
    summary, made = make(tmp_path, path, keys=("dnn_data", *keys))
    assert {key: rows(made, key).tobytes() for key in keys[:-1]} == before
    assert not (rows(made, "dnn_data_runtime")["value"] == 2.5).any()
    assert not (summary.absent or summary.unwritable)


def with_objects(path: Path, **values: list[Any]) -> Path:
    """A file of events that have these objects, with a value for each event."""
    frames = list(read_i3(events(path, len(next(iter(values.values())))), mix=False))
    for number, each in enumerate(each for each in frames if each.stop == "P"):
        for key, of_events in values.items():
            each.put(key, of_events[number])
    return write(path, frames)


def test_numbers_are_real_if_one_is(tmp_path: Path) -> None:
    """Their type may change between frames."""
    path = with_objects(
        tmp_path / "x.i3",
        Number=[3, 2.75, True],
        Map=[{"a": 1, "b": 2}, {"a": 0.5}, {"a": 2, "b": 3}],
        Whole=[True, 300, False],
    )
    _, made = make(tmp_path, path, keys=("Number", "Map", "Whole"))
    assert rows(made, "Number")["value"].tolist() == [3, 2.75, 1]
    assert rows(made, "Map")["a"].tolist() == [1, 0.5, 2]
    assert rows(made, "Map")["b"].tolist() == [2, 0, 3]
    assert rows(made, "Whole")["value"].tolist() == [1, 300, 0]
    assert rows(made, "Map")["b"].dtype.kind == rows(made, "Whole")["value"].dtype.kind == "i"


def test_numbers_and_pairs_are_no_column(tmp_path: Path) -> None:
    values = [{"a": FilterResult(True, True)}, {"a": 2.0}]
    path = with_objects(tmp_path / "x.i3", Map=values)
    with pytest.raises(DataError, match="'a' of the frame objects 'Map' is a number in some fra"):
        make(tmp_path, path, keys=("Map",))
    assert not (tmp_path / "events.hdf5").exists()


def test_objects_that_are_a_row_in_some_frames_only(tmp_path: Path) -> None:
    path = with_objects(tmp_path / "x.i3", Changing=[1.5, "text", 2.5, "text"])
    summary, made = make(tmp_path, path, keys=("Changing", PULSES))
    assert rows(made, "Changing")["exists"].tolist() == [1, 0, 1, 0]
    assert rows(made, "Changing")["value"][[0, 2]].tolist() == [1.5, 2.5]
    assert summary.without == {"no 'Changing': I3PODHolder<string> is no row of a table": 2}
    assert summary.unwritable == (PULSES,)


# --------------------------------------------------------------------------------------------------
# Which frames are events
# --------------------------------------------------------------------------------------------------
def test_only_p_frames_of_the_streams_are_events(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.i3",
        [
            frame("I", note="a note"),
            frame("Q", **{PULSES: pulse_map(HITS)}),
            frame("P", I3EventHeader=header(1, "NullSplit")),
            frame("P", I3EventHeader=header(1, "InIceSplit", sub_event=0)),
            frame("P", I3EventHeader=header(1, "InIceSplit", sub_event=1)),
            frame("P", I3EventHeader=header(1, "IceTopSplit")),
            frame("P", other=1.0),
            frame("Q", **{PULSES: pulse_map(HITS)}),
            frame("P", I3EventHeader=header(2, "Final")),
        ],
    )
    summary, made = make(tmp_path, path)
    assert summary.num_frames == 9
    assert summary.num_events == 3
    assert summary.skipped == {
        "sub-event stream 'NullSplit'": 1,
        "sub-event stream 'IceTopSplit'": 1,
        "no 'I3EventHeader'": 1,
    }
    ids = rows(made, "dnn_data_global_time_offset")
    assert ids["Event"].tolist() == [1, 1, 2]
    assert ids["SubEvent"].tolist() == [0, 1, 0]
    assert ids["SubEventStream"].tolist() == [1, 1, 2]


def test_pulses_that_are_missing_empty_or_masked_out_keep_their_row(tmp_path: Path) -> None:
    nothing = mask_of(PULSES, [[False, False], [False]])
    first = mask_of(PULSES, [[True, False], [False]])
    frames = [frame("Q", **{PULSES: pulse_map(HITS)})]
    cases = {
        "chosen": first,
        "masked out": nothing,
        "empty": pulse_map({}),
        "no source": mask_of("Absent", [[True]]),
        "wrong mask": mask_of(PULSES, [[True]]),
        "missing": None,
        "whole": PulseUnion((PULSES,)),
    }
    for number, value in enumerate(cases.values()):
        made = frame("P", I3EventHeader=header(number))
        if value is not None:
            made.put("Chosen", value)
        frames.append(made)
    summary, made_file = make(
        tmp_path, write(tmp_path / "x.i3", frames), modules=features_only(PulseKey="Chosen")
    )
    assert summary.num_events == len(cases)
    assert sum(summary.without.values()) == 3
    found = read(made_file)
    assert dict(zip(cases, found.exists.tolist(), strict=True)) == {
        "chosen": True,
        "masked out": True,
        "empty": True,
        "no source": False,
        "wrong mask": False,
        "missing": False,
        "whole": True,
    }
    assert np.diff(found.hits.offsets).tolist() == [1, 0, 0, 0, 0, 0, 2]
    assert found.hits.features[:, 0].tolist() == [1.5, 2.0, 1.0]  # total charges
    assert found.ids["Event"].tolist() == list(range(len(cases)))


def test_an_empty_file_has_no_event(tmp_path: Path) -> None:
    path = write(tmp_path / "x.i3.gz", [frame("I", note="nothing")])
    summary, made = make(tmp_path, path)
    assert (summary.num_frames, summary.num_events) == (1, 0)
    assert len(read(made).ids) == 0
    assert summary.absent == ("I3EventHeader",)


def test_many_blocks_keep_the_order_of_events(tmp_path: Path) -> None:
    path = events(tmp_path / "x.i3", 230)
    _, made = make(tmp_path, path)
    found = read(made)
    assert found.ids["Event"].tolist() == list(range(230))
    pulses = [each[PULSES] for each in read_i3(path) if each.stop == "P"]
    assert np.diff(found.hits.offsets).tolist() == [len(each) for each in pulses]
    charges = [float(each.items["charge"].astype(float).sum()) for each in pulses]
    sums = np.add.reduceat(found.hits.features[:, 0], found.hits.offsets[:-1])
    np.testing.assert_allclose(sums, charges, rtol=1e-12)


# --------------------------------------------------------------------------------------------------
# Exclusions and the GCD file
# --------------------------------------------------------------------------------------------------
def excluding(partial: bool) -> Modules:
    return features_only(
        DOMExclusions=["BadDomsList", "SaturationWindows"], PartialExclusion=partial
    )


@pytest.mark.parametrize("partial", [True, False])
@pytest.mark.parametrize("is_separate", [True, False])
def test_exclusions_of_a_gcd_file_and_of_events(
    tmp_path: Path, partial: bool, is_separate: bool
) -> None:
    status = [frame("G", a=1.0), frame("D", BadDomsList=om_keys([(50, 60)]))]
    saturated = windows({(3, 4): [(9090.0, 9200.0)]})
    event = [
        frame("Q", **{PULSES: pulse_map(HITS)}, SaturationWindows=saturated),
        frame("P", I3EventHeader=header(1)),
    ]
    if is_separate:  # P frames of the GCD file are no events
        other = frame("P", I3EventHeader=header(7))
        gcd = write(tmp_path / "gcd.i3.gz", [*status, other])
        path = write(tmp_path / "x.i3", event)
    else:
        gcd, path = None, write(tmp_path / "x.i3", [*status, *event])
    summary, made = make(tmp_path, path, modules=excluding(partial), gcd=gcd)
    assert summary.absent_exclusions == ()
    assert summary.num_events == 1
    charges = read(made).hits.features[:, 0].tolist()
    assert charges == ([1.5] if partial else [])


def test_exclusions_that_no_frame_has_are_named(tmp_path: Path) -> None:
    summary, _ = make(tmp_path, events(tmp_path / "x.i3", 3), modules=excluding(True))
    assert summary.absent_exclusions == ("BadDomsList", "SaturationWindows")


def test_an_exclusion_of_another_kind_is_an_error(tmp_path: Path) -> None:
    frames = [
        frame("Q", **{PULSES: pulse_map(HITS)}, BadDomsList=5.0),
        frame("P", I3EventHeader=header(1)),
    ]
    with pytest.raises(DataError, match="BadDomsList"):
        make(tmp_path, write(tmp_path / "x.i3", frames), modules=excluding(True))
    assert not (tmp_path / "events.hdf5").exists()


def test_pulses_outside_of_the_detector_are_counted(tmp_path: Path) -> None:
    pulses = pulse_map({**HITS, (87, 1): [(9000.0, 1.0)], (90, 2, 3): [(1.0, 1.0), (2.0, 1.0)]})
    frames = [frame("Q", **{PULSES: pulses}), frame("P", I3EventHeader=header(1))]
    summary, made = make(tmp_path, write(tmp_path / "x.i3", frames))
    assert summary.left_out == {"pulses of modules outside of IceCube-86": 3}
    assert read(made).hits.features[:, 0].tolist() == [2.0, 1.0]


# --------------------------------------------------------------------------------------------------
# Tables
# --------------------------------------------------------------------------------------------------
def test_objects_of_all_kinds_become_tables(tmp_path: Path) -> None:
    particle = Particle(x=1.0, zenith=0.5, energy=1e3, pdg=14, shape=10, location=20, fit_status=0)
    first = {
        "particle": particle,
        "number": 2.5,
        "count": 7,
        "passed": True,
        "weights": {"b": 1.0, "a": 2.0},
        "filters": {"X_13": FilterResult(True, False)},
        "pulses": pulse_map(HITS),
    }
    frames = [
        frame("Q", **{PULSES: pulse_map(HITS)}, **first),
        frame("P", I3EventHeader=header(1)),
        frame("Q", **{PULSES: pulse_map(HITS)}, weights={"a": 3.0, "c": 4.0}),
        frame("P", I3EventHeader=header(2)),
    ]
    path = write(tmp_path / "x.i3", frames)
    summary, made = make(tmp_path, path, keys=(*first, "absent"))
    assert summary.absent == ("absent",)
    assert summary.unwritable == ("pulses",)
    assert rows(made, "number")["value"].tolist() == [2.5, 0.0]
    assert rows(made, "number")["exists"].tolist() == [1, 0]
    assert rows(made, "count")["value"].tolist() == [7, 0]
    assert rows(made, "passed")["value"].tolist() == [1, 0]
    weights = rows(made, "weights")
    assert weights.dtype.names[5:] == ("a", "b", "c")
    np.testing.assert_equal(weights["a"], [2.0, 3.0])
    np.testing.assert_equal(weights["b"], [1.0, np.nan])
    np.testing.assert_equal(weights["c"], [np.nan, 4.0])
    assert rows(made, "filters")["X_13"].tolist() == [[1, 0], [0, 0]]
    found = rows(made, "particle")
    assert found.dtype.itemsize == 128
    assert found.dtype.fields["x"][1] == 24
    assert found.dtype.fields["pdg_encoding"][1] == 96
    assert (found["energy"][0], found["pdg_encoding"][0], found["location"][0]) == (1e3, 14, 20)
    times = rows(made, "I3EventHeader")
    assert times.dtype.itemsize == 64
    assert times["time_start_utc_daq"].tolist() == [10, 10]
    assert times["time_start_mjd"][0] == pytest.approx(58849.0)  # 1 January 2020


def test_labels_that_an_event_lacks_are_counted(tmp_path: Path) -> None:
    segments = [labels(OutputKey="Labels"), create()]
    summary, made = make(tmp_path, events(tmp_path / "x.i3", 2), modules=modules_of(segments))
    (reason,) = summary.without
    assert "no 'Labels'" in reason
    assert "I3MCTree" in reason
    assert summary.without[reason] == 2
    assert "Labels" in summary.absent
    assert read(made).exists.all()


def test_several_sets_of_features_record_their_settings(tmp_path: Path) -> None:
    segments = [
        create(OutputKey="nine"),
        create(
            OutputKey="bins",
            NumDataBins=2,
            DataFormat="charge_bins",
            TimeBins=[0, 3000, 6000],
            DOMExclusions=["BadDomsList"],
            PartialExclusion=True,
        ),
    ]
    gcd = write(tmp_path / "gcd.i3", [frame("D", BadDomsList=om_keys([(1, 1)]))])
    path = events(tmp_path / "x.i3", 12)
    _, made = make(tmp_path, path, modules=modules_of(segments), gcd=gcd)
    for name, num_bins in (("nine", 9), ("bins", 2)):
        settings = read_record(made, input_tables(name))
        assert settings is not None
        assert (settings.num_bins, settings.output_key) == (num_bins, name)
        assert len(read(made, input_tables(name), num_bins).ids) == 12
    assert read_record(made) is None
    excluded = rows(made, "bins_bin_exclusions")
    assert len(excluded) == 12
    assert set(excluded["item"]) == {-1}
    assert {"nine_runtime", "bins_runtime"} <= set(h5py.File(made))


def test_frames_are_written_with_features_and_labels(tmp_path: Path) -> None:
    path = events(tmp_path / "x.i3.gz", 120)
    output = tmp_path / "made.i3.zst"
    job = FileJob((path,), tmp_path / "made.hdf5", (), STREAMS, output, ("Q", "P"))
    make_event_file(job, features_only())
    before, after = list(read_i3(path)), list(read_i3(output, verify=True))
    assert [each.stop for each in after] == [each.stop for each in before]
    values = rows(tmp_path / "made.hdf5", "dnn_data_bin_values")
    for old, new in zip(before, after, strict=True):
        assert all(new.own[key].content == old.own[key].content for key in old.own)
        if new.stop == "Q":
            assert list(new.own) == list(old.own)
            continue
        event = new["I3EventHeader"].event
        of_event = values[values["Event"] == event]
        found = new["dnn_data_bin_values"].to_numpy()
        assert np.array_equal(found["value"], of_event["item"])
        assert np.array_equal(found["string"], of_event["string"])
        assert isinstance(new["dnn_data_global_time_offset"], float)


def test_time_offsets_are_listed_even_if_they_are_zero(tmp_path: Path) -> None:
    """DATA_FORMATS: the offset stands in each DOM's list; empty time bins do not."""
    frames = [frame("Q", **{PULSES: pulse_map(HITS)}), frame("P", I3EventHeader=header(1))]
    for name, num_bins, listed in (
        ("charge_bins_and_dom_time_offset", 3, [0, 2, 0, 2]),
        ("charge_bins_and_times", 4, [0, 1, 3, 0, 1, 3]),
    ):
        modules = features_only(
            DataFormat=name, NumDataBins=num_bins, RelativeTimeMethod="none", TimeBins=[0, 5, 1e5]
        )
        _, made = make(tmp_path, write(tmp_path / "x.i3", frames), modules=modules)
        assert rows(made, "dnn_data_bin_indices")["item"].tolist() == listed
        assert rows(made, "dnn_data_bin_values")["item"][-1] == 1.0


def test_labels_that_some_events_lack_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "sim.i3"
    write_file(SimulationSettings(), PlannedFile(path, 1, 3))
    frames = list(read_i3(path, mix=False))
    del frames[2].own["I3MCTree"]  # of the second event
    write(path, frames)
    for only_simulation in (True, False):
        segments = [replace(labels(OutputKey="Labels"), only_simulation=only_simulation), create()]
        summary, made = make(tmp_path, path, modules=modules_of(segments))
        assert rows(made, "Labels")["exists"].tolist() == [1, 0, 1]
        assert sum(summary.without.values()) == 1
        assert summary.unlabelled == ()


# --------------------------------------------------------------------------------------------------
# Errors
# --------------------------------------------------------------------------------------------------
def test_a_truncated_file_leaves_nothing(tmp_path: Path) -> None:
    path = events(tmp_path / "x.i3", 5)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"x\.i3' is damaged after 9 complete frames"):
        make(tmp_path, path)
    assert [each.name for each in tmp_path.iterdir()] == ["x.i3"]


def test_segments_that_need_icetray_are_refused() -> None:
    other = Segment("icecube.SomeModule", {}, "config.yaml, line 5")
    with pytest.raises(ConfigError, match=r"config\.yaml, line 5: .*without IceTray"):
        modules_of([other])


@pytest.mark.parametrize(
    "key", ["dnn_data_runtime", "I3EventHeader", "I3MCTree", "__I3Index__", "a/b", "dnn_data"]
)
def test_names_of_labels_that_cannot_be_used(key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        modules_of([labels(OutputKey=key), create()])


@pytest.mark.parametrize(
    "wrong",
    [
        {"ConvexHull": "sphere_r-5"},
        {"ConvexHull": "sphere_r0"},
        {"ConvexHull": "icecube_hull_ext_-600"},
        {"ExtendBoundary": -600},
    ],
)
def test_volumes_without_inside_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        modules_of([labels(**wrong)])


def test_damaged_pulses_are_found_by_their_checksum(tmp_path: Path) -> None:
    path = events(tmp_path / "x.i3", 3)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        make(tmp_path, path)


def test_two_segments_with_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="two segments write 'dnn_data'"):
        modules_of([create(), replace(create(), where="b")])
