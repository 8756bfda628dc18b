"""Frames to arrays, compared with loops over photomultipliers, and blocks of events."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnn_reco.data.data_settings import DataSettings, features_of
from dnn_reco.data.file_events import EVENT_ID
from dnn_reco.data.pulses import join
from dnn_reco.data.time_offsets import event_randoms
from dnn_reco.data_creation.block_inputs import EventInputs, join_inputs, make_inputs
from dnn_reco.data_creation.frame_inputs import (
    OTHER_MODULES,
    OTHER_PMTS,
    FrameInput,
    exclusions_of,
    frame_input,
    hypothesis_of,
    losses_of,
    pulses_of,
    vertex_of,
)
from dnn_reco.errors import DataError
from dnn_reco.i3.objects import (
    OM_KEY,
    PARTICLE,
    PULSE,
    TIME_WINDOW,
    MCTree,
    OMKeyMap,
    Particle,
    RawObject,
)

Key = tuple[int, int, int]
NINE = DataSettings(9, "time_range", "pulse_summmary_clipped", pulse_key="Pulses")
BINS = replace(
    NINE, num_bins=5, data_format="charge_bins_and_times", time_bins=(-1e3, 0.0, 500.0, 9e3)
)
VERTEX = Particle(x=1.0, y=2.0, z=3.0, time=9500.0)


class Frame(dict[str, Any]):
    stop = "P"


def om_keys(keys: list[Key]) -> np.ndarray:
    return np.array(keys, dtype=OM_KEY)


def om_map(content: dict[Key, list[tuple]], item: np.dtype = PULSE) -> OMKeyMap:
    keys = sorted(content)
    items = [row for key in keys for row in content[key]]
    counts = np.array([len(content[key]) for key in keys], dtype=np.int64)
    return OMKeyMap(om_keys(keys), counts, np.array(items, dtype=item))


def ids_of(n: int) -> np.ndarray:
    ids = np.zeros(n, EVENT_ID)
    ids["Event"] = np.arange(n)
    return ids


def inputs_of(frames: list[Frame], settings: DataSettings, **options: Any) -> EventInputs:
    read = [frame_input(frame, settings) for frame in frames]
    return make_inputs(read, settings, ids_of(len(frames)), **options)


strings, oms = st.sampled_from([-1, 0, 1, 2, 86, 87, 93]), st.sampled_from([1, 2, 60, 61, 64])
om_key = st.tuples(strings, oms, st.integers(0, 1))
pulse = st.tuples(
    st.integers(9000, 14000).map(float),
    st.floats(0.125, 9, width=32),
    st.just(8.0),
    st.integers(0, 7),
)
pulse_maps = st.dictionaries(om_key, st.lists(pulse, max_size=4), max_size=10)


# --------------------------------------------------------------------------------------------------
# Pulses
# --------------------------------------------------------------------------------------------------
@given(pulse_maps)
def test_pulses_of_a_map(content: dict[Key, list[tuple]]) -> None:
    pulses, left_out = pulses_of(om_map(content))
    rows, other_pmts, other_modules = [], 0, 0
    for (string, om, pmt), series in sorted(content.items()):
        if not 1 <= string <= 86:
            other_modules += len(series)
        elif pmt:
            other_pmts += len(series)
        else:
            dom = 60 * (string - 1) + om - 1 if om <= 60 else -1
            rows += [(dom, *row) for row in series]
    rows.sort(key=lambda row: row[:2])
    assert pulses.dom.tolist() == [row[0] for row in rows]
    assert pulses.time.tolist() == [row[1] for row in rows]
    assert pulses.charge.tolist() == [row[2] for row in rows]
    assert pulses.flags.tolist() == [row[4] for row in rows]
    assert pulses.num_events == 1 and not pulses.event.any()
    assert left_out.get(OTHER_PMTS, 0) == other_pmts
    assert left_out.get(OTHER_MODULES, 0) == other_modules
    assert 0 not in left_out.values()


def test_charges_are_those_of_the_frame() -> None:
    """As float64 of the float32 that is stored."""
    pulses, _ = pulses_of(om_map({(1, 1, 0): [(10.0, 0.1, 8.0, 7)]}))
    assert pulses.charge.dtype == np.float64
    assert pulses.charge[0] == float(np.float32(0.1))


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (3.0, "a float"),
        (RawObject("I3Unknown", "I3Unknown", b""), "a I3Unknown"),
        (om_map({(1, 1, 0): [(1.0, 2.0)]}, TIME_WINDOW), "a map with items of start, stop"),
        (OMKeyMap(om_keys([]), np.zeros(0, np.int64), np.zeros(0)), "a map with items of float64"),
    ],
)
def test_another_object_as_pulses(found: object, kind: str) -> None:
    with pytest.raises(DataError, match=f"'Pulses' is {kind}, not a map, mask or union"):
        frame_input(Frame(Pulses=found), NINE)


class WithoutSource(Frame):
    def __getitem__(self, key: str) -> Any:
        raise DataError(f"the pulses {key!r} refer to what is not there")


@pytest.mark.parametrize(
    ("frame", "settings", "missing"),
    [
        (Frame(), NINE, "no 'Pulses'"),
        (WithoutSource(Pulses=0), NINE, "'Pulses' cannot be read"),
        (Frame(), replace(NINE, relative_time_method="cascade_vertex"), "no usable 'MCCascade'"),
        (
            Frame(MCCascade=replace(VERTEX, time=np.nan)),
            replace(NINE, relative_time_method="first_light_at_dom"),
            "no usable 'MCCascade'",
        ),
        (Frame(), replace(NINE, data_format="mc_tree_input_data"), "no 'I3MCTree'"),
        (Frame(), replace(NINE, data_format="cascade_classification_data"), "no usable 'MCCasc"),
    ],
)
def test_events_without_input(frame: Frame, settings: DataSettings, missing: str) -> None:
    content = {(1, 1, 0): [(10.0, 1.0, 8.0, 7)]}
    if missing != "no 'Pulses'":
        frame.setdefault("Pulses", om_map(content))
    frame["Doms"] = om_keys([(1, 1, 0)])
    settings = replace(settings, dom_exclusions=("Doms",), partial_exclusion=False)
    found = frame_input(frame, settings)
    assert found.missing.startswith(missing)
    assert bool(found.detail) == isinstance(frame, WithoutSource)
    assert len(found.pulses.time) == len(found.doms.dom) == 0
    block = join_inputs([found], partial_exclusion=False)
    assert block.exists.tolist() == [False]


# --------------------------------------------------------------------------------------------------
# Exclusions
# --------------------------------------------------------------------------------------------------
EXCLUSIONS = {
    "Bright": om_keys([(1, 2, 0), (2, 1, 1), (1, 61, 0)]),
    "Windows": om_map(
        {(1, 1, 0): [(9100.0, 9200.0), (9150.0, 9300.0)], (2, 2, 0): []}, TIME_WINDOW
    ),
    "More": om_map({(1, 1, 0): [(9300.0, 9400.0)], (86, 60, 3): [(0.0, 1.0)]}, TIME_WINDOW),
}
KEYS = ("Bright", "Absent", "Windows", "More")


def test_exclusions_of_a_frame() -> None:
    doms, windows = exclusions_of(Frame(EXCLUSIONS), KEYS)
    assert doms.dom.tolist() == [1]
    rows = zip(windows.dom.tolist(), windows.start, windows.stop, strict=True)
    expected = [(0, 9100.0, 9200.0), (0, 9150.0, 9300.0), (0, 9300.0, 9400.0), (61, 0.0, 0.0)]
    assert sorted(rows) == expected


@pytest.mark.parametrize("wrong", [3.0, np.zeros(3), om_map({})])
def test_another_object_as_exclusion(wrong: object) -> None:
    with pytest.raises(DataError, match=r"'Wrong' in 'dom_exclusions' is a .* is needed"):
        exclusions_of(Frame(Wrong=wrong), ["Wrong"])


@settings(max_examples=40)
@given(st.lists(pulse_maps, max_size=3), st.booleans())
def test_excluded_pulses_of_a_block(contents: list[dict[Key, list[tuple]]], partial: bool) -> None:
    frames = [Frame(EXCLUSIONS, Pulses=om_map(content)) for content in contents]
    chosen = replace(NINE, dom_exclusions=KEYS, partial_exclusion=partial)
    read = [frame_input(frame, chosen) for frame in frames]
    block = join_inputs(read, partial)
    expected = []
    for event, content in enumerate(contents):
        for (string, om, pmt), series in content.items():
            key = (string, om)
            if pmt or not 1 <= string <= 86 or key == (1, 2):
                continue
            if not partial and key in ((1, 1), (2, 2)):
                continue
            for time, charge, *_ in series:
                if not (key == (1, 1) and 9100 <= time < 9400):
                    dom = 60 * (string - 1) + om - 1 if om <= 60 else -1
                    expected.append((event, dom, time, charge))
    kept = block.pulses
    columns = (kept.event, kept.dom, kept.time, kept.charge)
    assert sorted(zip(*(c.tolist() for c in columns), strict=True)) == sorted(expected)
    num_read = sum(len(each.pulses.time) for each in read)
    assert block.num_excluded.sum() == num_read - len(expected)


@pytest.mark.parametrize(
    ("partial", "expected"),
    [
        (True, {0: [3], 1: [-1]}),  # 100 … 400 ns after the offset: in the second bin
        (False, {0: [-1], 1: [-1], 61: [-1]}),
    ],
)
def test_excluded_bins_of_an_event(partial: bool, expected: dict[int, list[int]]) -> None:
    """DOMs without pulses are listed too; the numbers count the two times before the bins."""
    content = {(1, 1, 0): [(9050.0, 1.0, 8.0, 7)], (30, 7, 0): [(9060.0, 2.0, 8.0, 7)]}
    frame = Frame(EXCLUSIONS, Pulses=om_map(content), MCCascade=replace(VERTEX, time=9000.0))
    chosen = replace(
        BINS,
        relative_time_method="cascade_vertex",
        dom_exclusions=KEYS,
        partial_exclusion=partial,
    )
    found = inputs_of([Frame(), frame], chosen)
    rows = zip(found.exclusions.dom.tolist(), found.exclusions.item.tolist(), strict=True)
    assert found.exclusions.offsets.tolist()[:2] == [0, 0]
    assert list(rows) == [(dom, item) for dom, items in expected.items() for item in items]
    assert found.exists.tolist() == [False, True]


@settings(max_examples=40)
@given(st.lists(pulse_maps, max_size=3), st.booleans())
def test_charge_and_excluded_bins_agree(
    contents: list[dict[Key, list[tuple]]], partial: bool
) -> None:
    """A DOM that is excluded as a whole has no charge, nor have bins inside of a window."""
    edges = (-np.inf, 9100.0, 9200.0, 9300.0, 9400.0, np.inf)
    chosen = replace(
        BINS,
        relative_time_method=None,
        data_format="charge_bins",
        time_bins=edges,
        dom_exclusions=KEYS,
        partial_exclusion=partial,
    )
    frames = [Frame(EXCLUSIONS, Pulses=om_map(content)) for content in contents]
    read = [frame_input(frame, chosen) for frame in frames]
    made = make_inputs(read, chosen, ids_of(len(frames)))
    hits, exclusions = made.features.hits, made.exclusions
    events = np.repeat(np.arange(len(frames)), np.diff(exclusions.offsets))
    for event, dom, item in zip(events, exclusions.dom, exclusions.item, strict=True):
        rows = hits.features[(hits.event == event) & (hits.dom == dom)]
        assert not (rows if item == -1 else rows[:, item]).any()
    whole = exclusions.item == -1
    assert set(exclusions.dom[whole].tolist()) <= ({1} if partial else {0, 1, 61})
    block = join_inputs(read, partial)
    in_ice = block.pulses.charge[block.pulses.dom >= 0].sum()
    assert hits.features.sum() == pytest.approx(in_ice, rel=1e-12)
    cells = hits.event * 5160 + hits.dom
    assert (np.diff(cells) > 0).all() and (hits.features != 0).any(axis=1).all()


def test_other_formats_exclude_no_bins() -> None:
    frame = Frame(EXCLUSIONS, Pulses=om_map({(1, 1, 0): [(9050.0, 1.0, 8.0, 7)]}))
    chosen = replace(NINE, dom_exclusions=KEYS, partial_exclusion=True)
    assert len(inputs_of([frame], chosen).exclusions.item) == 0


# --------------------------------------------------------------------------------------------------
# Features
# --------------------------------------------------------------------------------------------------
@settings(max_examples=25)
@given(st.lists(pulse_maps, min_size=1, max_size=4))
def test_a_block_is_as_its_events_alone(contents: list[dict[Key, list[tuple]]]) -> None:
    frames = [Frame(Pulses=om_map(content), MCCascade=VERTEX) for content in contents]
    random = "cascade_vertex_random_uniform_minus_plus_100_300"
    for chosen in (NINE, BINS, replace(BINS, relative_time_method=random)):
        read = [frame_input(frame, chosen) for frame in frames]
        ids = ids_of(len(frames))
        block = make_inputs(read, chosen, ids, seed=5)
        vertex = np.array([[1.0, 2.0, 3.0, 9500.0]] * len(frames))
        pulses = join([each.pulses for each in read])
        expected = features_of(pulses, chosen, vertex, event_randoms(5, ids))
        assert np.array_equal(block.features.hits.features, expected.hits.features)
        for i in range(len(frames)):
            alone = make_inputs(read[i : i + 1], chosen, ids[i : i + 1], seed=5)
            part = block.features.hits.part(i, i + 1)
            assert np.array_equal(alone.features.hits.features, part.features)
            assert alone.features.time_offset[0] == block.features.time_offset[i]


def test_random_offsets_need_the_event_alone() -> None:
    chosen = replace(BINS, relative_time_method="cascade_vertex_random_uniform_minus_plus_100_300")
    frame = Frame(Pulses=om_map({}), MCCascade=VERTEX)
    offsets = inputs_of([frame] * 200, chosen).features.time_offset
    assert 9400 <= offsets.min() < 9410 and 9790 < offsets.max() <= 9800
    assert np.array_equal(inputs_of([frame] * 100, chosen).features.time_offset, offsets[:100])
    assert not np.array_equal(
        inputs_of([frame] * 200, chosen, seed=1).features.time_offset, offsets
    )


def test_pulses_that_are_not_finite() -> None:
    content = {(1, 1, 0): [(9050.0, np.nan, 8.0, 7)], (1, 2, 0): [(9060.0, 2.0, 8.0, 7)]}
    frames = [Frame(Pulses=om_map(content)), Frame(Pulses=om_map({}))]
    found = inputs_of(frames, NINE)
    assert np.isnan(found.features.time_offset).tolist() == [True, False]
    assert found.features.hits.dom.tolist() == [1]
    assert found.exists.tolist() == [True, True]


def test_runtime_of_each_event() -> None:
    frame = Frame(Pulses=om_map({(1, 1, 0): [(9050.0, 1.0, 8.0, 7)]}))
    read = [replace(frame_input(frame, NINE), seconds=second) for second in (1.0, 3.0)]
    found = make_inputs(read, NINE, ids_of(2)).seconds
    assert found[1] - found[0] == pytest.approx(2.0) and 1.0 < found[0] < 1.5


def test_no_event() -> None:
    found = make_inputs([], replace(BINS, relative_time_method="cascade_vertex"), ids_of(0))
    assert found.features.hits.num_events == 0 and found.exclusions.offsets.tolist() == [0]


# --------------------------------------------------------------------------------------------------
# Other objects
# --------------------------------------------------------------------------------------------------
def test_vertex() -> None:
    assert vertex_of(Frame(Cascade=VERTEX), "Cascade").tolist() == [1.0, 2.0, 3.0, 9500.0]
    assert (
        np.isnan(vertex_of(Frame(), "Cascade")).all() and np.isnan(vertex_of(Frame(), None)).all()
    )
    with pytest.raises(DataError, match="'Cascade' is a dict, but a Particle is needed"):
        vertex_of(Frame(Cascade={}), "Cascade")


HYPOTHESIS = dict.fromkeys(("VertexX_unc", "VertexY_unc", "VertexZ_unc", "VertexTime_unc"), 5.0) | {
    "VertexX": 10.0,
    "VertexY": 20.0,
    "VertexZ": 30.0,
    "VertexTime": 9000.0,
}


def test_cascade_hypothesis() -> None:
    found = hypothesis_of(Frame(Cascade=HYPOTHESIS), "Cascade")
    assert found.tolist() == [10.0, 20.0, 30.0, 9000.0, 5.0, 5.0, 5.0, 5.0]
    lacking = {name: value for name, value in HYPOTHESIS.items() if name != "VertexY_unc"}
    with pytest.raises(
        DataError, match=r"'Cascade' is not a cascade hypothesis .* lacks VertexY_unc"
    ):
        hypothesis_of(Frame(Cascade=lacking), "Cascade")
    chosen = replace(
        NINE,
        data_format="cascade_classification_data",
        num_bins=5,
        cascade_key="Cascade",
        time_quantiles=((0.0, -1e5), (0.0, 1e5)),
    )
    pulses = om_map({(1, 1, 0): [(9050.0, 1.5, 8.0, 7)]})
    frames = [Frame(Pulses=pulses, Cascade=HYPOTHESIS), Frame(Pulses=pulses)]
    made = inputs_of(frames, chosen)
    assert made.exists.tolist() == [True, False]
    assert made.features.time_offset[0] == 9000.0 and made.features.hits.dom.tolist() == [0]
    charge, distance, uncertainty, *others = made.features.hits.features[0]
    assert charge == pytest.approx(1.5) and distance > 500 and others == [0.0, 0.0]
    assert uncertainty == pytest.approx(np.sqrt(75 / 0.299792458**2 + 25))


def make_tree() -> MCTree:
    particles = np.zeros(4, PARTICLE)
    particles["pdg"] = [14, 13, -2000001001, 2212]
    particles["energy"], particles["x"], particles["zenith"] = [9.0, 8.0, 7.0, 6.0], 5.0, np.pi
    return MCTree(particles, np.array([-1, 0, 1, 0]))


def test_losses_of_a_tree() -> None:
    found = losses_of(make_tree())
    assert found.energy.tolist() == [7.0] and found.position.tolist() == [[5.0, 0.0, 0.0]]
    np.testing.assert_allclose(found.direction, [[0.0, 0.0, 1.0]], atol=1e-12)
    chosen = replace(NINE, data_format="mc_tree_input_data", num_bins=10)
    pulses = om_map({})
    made = inputs_of([Frame(Pulses=pulses, I3MCTree=make_tree()), Frame(Pulses=pulses)], chosen)
    assert made.exists.tolist() == [True, False]
    assert made.features.hits.features[:, 9].sum() == 7.0
    assert set(made.features.hits.event.tolist()) == {0}


def test_the_frame_is_kept_only_if_asked_for() -> None:
    frame = Frame(Pulses=om_map({}))
    assert frame_input(frame, NINE).frame is None
    kept: FrameInput = frame_input(frame, NINE, keep_frame=True)
    assert kept.frame is frame
