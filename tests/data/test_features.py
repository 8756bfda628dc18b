"""Input features of DOMs against a slow obvious version, and against files made elsewhere."""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_time_window import slow_window_start

from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.features import (
    DomFeatures,
    dom_features,
    features_depend_on,
    num_features,
)
from dnn_reco.data.hdf5 import InputTables, read_events, read_record, write_input_tables
from dnn_reco.data.pulses import Pulses
from dnn_reco.data.time_window import WindowSearch
from dnn_reco.detector.geometry import dom_index, dom_positions
from dnn_reco.errors import ConfigError

Pulse = tuple[int, float, float]  # DOM index, time, charge

BINS = [-math.inf, -50.0, 0.0, 0.1, 200.0, 6000.0]
QUANTILES = [0.0, 0.1, 0.5, 1.0]
FORMATS = (
    "pulse_summmary_clipped",
    "pulse_summary_and_first_pulses_3",
    "reduced_summary_statistics_data",
    "charge_bins",
    "charge_bins_and_dom_time_offset",
    "charge_bins_and_times",
    "charge_weighted_time_quantiles",
    "total_dom_charge",
)
METHODS = (
    None,
    "time_range",
    "cascade_vertex",
    "first_light_at_dom",
    "wf_quantile",
    "local_dom_time_range",
    "local_dom_time_range_300_2",
)
SURFACE = -1


def pulses_of(events: Sequence[Sequence[Pulse]]) -> Pulses:
    """Each event's pulses as flat arrays, sorted as they must be."""
    rows = [(i, *pulse) for i, event in enumerate(events) for pulse in sorted(event)]
    event, dom, time, charge = np.array(rows, dtype=np.float64).reshape(-1, 4).T
    flags = np.zeros(len(rows), dtype=np.uint8)
    return Pulses(len(events), event.astype(np.int64), dom.astype(np.int64), time, charge, flags)


def numbers(
    events: Sequence[Sequence[Pulse]], data_format: str, method: str | None = None
) -> DomFeatures:
    """Features with the bins and quantiles of this file, and the vertices below."""
    return dom_features(
        pulses_of(events),
        data_format,
        method,
        time_bins=BINS if data_format.startswith("charge_bins") else None,
        time_quantiles=QUANTILES if data_format.endswith("quantiles") else None,
        vertex=vertices(len(events)),
    )


def vertices(n: int) -> np.ndarray:
    """A different vertex and time for each event."""
    i = np.arange(n)
    return np.stack([10.0 * i, -20.0 * i, 100.0 + i, 9000.25 - 30.5 * i], axis=1)


@pytest.mark.parametrize(
    ("data_format", "num", "depends_on"),
    [
        ("pulse_summmary_clipped", 9, ["relative_time_method", "vertex"]),
        ("pulse_summary_and_first_pulses_1", 11, ["relative_time_method", "vertex"]),
        ("pulse_summary_and_first_pulses_100", 209, ["relative_time_method", "vertex"]),
        ("reduced_summary_statistics_data", 3, []),
        ("charge_bins_and_times", 5, ["relative_time_method", "time_bins", "vertex"]),
        ("charge_weighted_time_quantiles", 3, ["relative_time_method", "time_quantiles", "vertex"]),
        ("total_dom_charge", 1, []),
    ],
)
def test_what_features_depend_on(data_format: str, num: int, depends_on: list[str]) -> None:
    assert num_features(data_format, time_bins=[0, 1, 5, 9], time_quantiles=[0.1, 0.5]) == num
    assert sorted(features_depend_on(data_format, "first_light_at_dom")) == depends_on
    without_vertex = [setting for setting in depends_on if setting != "vertex"]
    assert sorted(features_depend_on(data_format, "time_range")) == without_vertex


# The slow obvious version: one DOM after the other, pulse by pulse.


def slow_mean_and_std(time: list[float], charge: list[float]) -> tuple[float, float]:
    n, total = len(time), math.fsum(charge)
    if total == 0:
        return math.nan, 0.0 if n == 1 else math.nan
    mean = math.fsum(q * t for q, t in zip(charge, time, strict=True)) / total
    squares = math.fsum(q * (t - mean) ** 2 for q, t in zip(charge, time, strict=True))
    return mean, math.sqrt(n * squares / ((n - 1) * total)) if n > 1 else 0.0


def slow_time_at(fraction: float, time: list[float], charge: list[float], without: float) -> float:
    total = running = 0.0
    for q in charge:
        total += q
    for t, q in zip(time, charge, strict=True):
        running += q
        if total > 0 and running / total >= fraction:
            return t
    return without


def slow_time_offset(event: Sequence[Pulse], data_format: str, method: str | None) -> float:
    ordered = sorted((time, charge) for _, time, charge in event)
    if data_format == "reduced_summary_statistics_data":
        return slow_mean_and_std(*map(list, zip(*ordered, strict=True)))[0] if ordered else 0.0
    if method == "time_range":
        return slow_window_start(ordered, WindowSearch())
    return 0.0


def slow_dom_offset(
    method: str | None, dom: int, time: list[float], charge: list[float], vertex: np.ndarray
) -> float:
    if method == "first_light_at_dom":
        return math.dist(dom_positions()[dom], vertex[:3]) / (0.299792458 / 1.35634)
    if method == "wf_quantile":
        return slow_time_at(0.1 - 1e-6, time, charge, without=math.nan)
    if method is not None and method.startswith("local_dom_time_range"):
        width, step = (1500.0, 1.0) if method == "local_dom_time_range" else (300.0, 2.0)
        search = WindowSearch(width, step, 0.02, -1.0)
        return slow_window_start(list(zip(time, charge, strict=True)), search)
    return 0.0


def slow_bins(time: list[float], charge: list[float]) -> list[float]:
    content = [0.0] * (len(BINS) - 1)
    for t, q in zip(time, charge, strict=True):
        for i, (low, high) in enumerate(pairwise(BINS)):
            if low <= t < high or (t == high == BINS[-1]):
                content[i] += q
    return content


def slow_features(
    data_format: str, time: list[float], charge: list[float], offset: float
) -> list[float] | None:
    """Features of one DOM, whose pulses are relative to `offset`; None if it is not listed."""
    if data_format == "pulse_summary_and_first_pulses_3":
        summary = slow_features("pulse_summmary_clipped", time, charge, offset)
        pulses = [(t, q) for t, q in zip(time, charge, strict=True) if -5000 <= t <= 14000]
        if summary is None:
            return None
        while len(pulses) < 3:
            pulses.append((pulses[0][0], 0.0))
        return [*summary, *(t for t, _ in pulses[:3]), *(q for _, q in pulses[:3])]
    if data_format == "pulse_summmary_clipped":
        kept = [(t, q) for t, q in zip(time, charge, strict=True) if -5000 <= t <= 14000]
        if not kept:
            return None
        time, charge = [t for t, _ in kept], [q for _, q in kept]
        return [
            sum(charge),
            sum(q for t, q in kept if t - time[0] < 500),
            sum(q for t, q in kept if t - time[0] < 100),
            time[0],
            slow_time_at(0.2, time, charge, without=0.0),
            slow_time_at(0.5, time, charge, without=0.0),
            time[-1],
            *slow_mean_and_std(time, charge),
        ]
    if data_format == "reduced_summary_statistics_data":
        return [sum(charge), time[0], slow_mean_and_std(time, charge)[1]]
    if data_format == "charge_weighted_time_quantiles":
        times = [slow_time_at(q - 1e-6, time, charge, without=math.nan) for q in QUANTILES]
        return [sum(charge), *times]
    if data_format == "total_dom_charge":
        return [sum(charge)]
    head = {
        "charge_bins": [],
        "charge_bins_and_dom_time_offset": [offset],
        "charge_bins_and_times": [time[0] + offset, offset],
    }[data_format]
    values = head + slow_bins(time, charge)
    return values if head or any(value != 0 for value in values) else None


def slow_event(
    event: Sequence[Pulse], data_format: str, method: str | None, vertex: np.ndarray
) -> tuple[float, dict[int, list[float]]]:
    """Time offset of an event, and its features by DOM."""
    if data_format in ("reduced_summary_statistics_data", "total_dom_charge"):
        method = None
    event_offset = slow_time_offset(event, data_format, method)
    if method in ("cascade_vertex", "first_light_at_dom"):
        event_offset = vertex[3]
    features = {}
    for dom in sorted({dom for dom, _, _ in event} - {SURFACE}):
        time = [t - event_offset for d, t, _ in sorted(event) if d == dom]
        charge = [q for d, _, q in sorted(event) if d == dom]
        dom_offset = slow_dom_offset(method, dom, time, charge, vertex)
        relative = [t - dom_offset for t in time]
        values = slow_features(data_format, relative, charge, event_offset + dom_offset)
        if values is not None:
            features[dom] = values
    return event_offset, features


TIMES = st.one_of(
    st.integers(-3000, 25_000).map(float),
    st.integers(0, 30).map(lambda i: 9000.0 + 25 * i),  # ties, and steps of 100 and 500 ns
    st.floats(-3000, 25_000),
)
CHARGES = st.sampled_from([0.0, 0.25, 0.5, 0.1, 1.3, 40.0, 2e3])
PULSE = st.tuples(st.sampled_from([SURFACE, 0, 1, 59, 60, 2300, 5159]), TIMES, CHARGES)
EVENTS = st.lists(st.lists(PULSE, max_size=20), max_size=3)


@pytest.mark.parametrize("data_format", FORMATS)
@settings(max_examples=40)
@given(events=EVENTS, method=st.sampled_from(METHODS))
def test_same_as_dom_by_dom(
    data_format: str, events: list[list[Pulse]], method: str | None
) -> None:
    got = numbers(events, data_format, method)
    assert len(got.hits.offsets) == len(events) + 1
    assert len(got.hits.dom) == len(got.hits.features) == got.hits.offsets[-1]
    for i, event in enumerate(events):
        offset, expected = slow_event(event, data_format, method, vertices(len(events))[i])
        assert got.time_offset[i] == pytest.approx(offset, rel=1e-12, abs=1e-9, nan_ok=True)
        hits = slice(got.hits.offsets[i], got.hits.offsets[i + 1])
        assert got.hits.dom[hits].tolist() == list(expected)
        if expected:
            # Widths of coinciding pulses come out of rounding alone: 1e-6 ns.
            np.testing.assert_allclose(
                got.hits.features[hits], list(expected.values()), rtol=1e-12, atol=1e-6
            )


# Numbers known otherwise


def test_summary_of_three_pulses() -> None:
    """100 and 500 ns are not within 100 and 500 ns, and 20 % of the charge come first."""
    event = [(7, 9000.0, 1.0), (7, 9100.0, 2.0), (7, 9500.0, 2.0)]
    got = numbers([event], "pulse_summmary_clipped")
    mean = (9000 + 2 * 9100 + 2 * 9500) / 5
    variance = 3 / 2 * ((9000 - mean) ** 2 + 2 * (9100 - mean) ** 2 + 2 * (9500 - mean) ** 2) / 5
    assert got.hits.dom.tolist() == [7]
    np.testing.assert_allclose(
        got.hits.features,
        [[5.0, 3.0, 1.0, 9000.0, 9000.0, 9100.0, 9500.0, mean, math.sqrt(variance)]],
        rtol=1e-14,
    )


def test_first_pulses(tmp_path: Path) -> None:
    """Of DOMs with more pulses, and with fewer; as a file gives them back."""
    four = [(7, 9000.0, 0.0), (7, 9010.0, 2.0), (7, 9500.0, 3.0), (7, 9600.0, 4.0)]
    one = [(8, 9300.0, 0.5)]
    got = numbers([[], four + one], "pulse_summary_and_first_pulses_3")
    assert got.hits.dom.tolist() == [7, 8]
    expected = [[9000, 9010, 9500, 0, 2, 3], [9300, 9300, 9300, 0.5, 0, 0]]
    assert got.hits.features[:, 9:].tolist() == expected
    summary = numbers([[], four + one], "pulse_summmary_clipped").hits.features
    np.testing.assert_array_equal(got.hits.features[:, :9], summary)

    ids = np.zeros(2, dtype=[(k, "u4") for k in ("Run", "Event", "SubEvent", "SubEventStream")])
    ids["Event"] = [1, 2]
    path = tmp_path / "events.hdf5"
    made_with = DataSettings(15, None, "pulse_summary_and_first_pulses_3")
    write_input_tables(path, ids, got.time_offset, got.hits, data_settings=made_with)
    back = read_events(path, InputTables(), 15, dtype=np.float64)
    assert back.hits.offsets.tolist() == [0, 0, 2]
    np.testing.assert_array_equal(back.hits.features, got.hits.features)
    assert read_record(path) == made_with


def test_width_of_nanoseconds_late_in_the_readout() -> None:
    """Two equal charges 1 ns apart: width sqrt(2) / 2, to the last digits also at 1e6 ns."""
    event = [(7, 1e6, 0.3), (7, 1e6 + 1, 0.3)]
    width = numbers([event], "reduced_summary_statistics_data").hits.features[0, 2]
    assert width == pytest.approx(math.sqrt(0.5), rel=1e-14)


def test_clipping_includes_its_limits() -> None:
    times = [-5000.5, -5000.0, 14_000.0, 14_000.5]
    got = numbers([[(i, time, 1.0) for i, time in enumerate(times)]], "pulse_summmary_clipped")
    assert got.hits.dom.tolist() == [1, 2]


def test_the_last_bin_includes_its_upper_edge_and_the_others_do_not() -> None:
    """A pulse at 6000 ns is in the last bin, a later one in none."""
    first, *_, last = BINS
    event = [(7, first, 1.0), (7, BINS[-2], 2.0), (7, last, 4.0), (7, last + 0.5, 8.0)]
    (charges,) = numbers([event], "charge_bins").hits.features
    assert charges[0] == 1.0
    assert charges[-1] == 6.0
    assert charges.sum() == 7.0


def test_surface_tanks_count_in_the_time_offset_only() -> None:
    event = [(7, 10_000.0, 1.0), (SURFACE, 20_000.0, 100.0)]
    got = numbers([event, []], "reduced_summary_statistics_data")
    assert got.hits.dom.tolist() == [7]
    assert got.hits.offsets.tolist() == [0, 1, 1]
    assert got.time_offset.tolist() == pytest.approx([2_010_000 / 101, 0.0])
    late = numbers([event, []], "pulse_summmary_clipped", "time_range")
    assert late.time_offset.tolist() == [19_999.0, 9000.0]  # 9000: no pulses


def test_dom_without_charge() -> None:
    """There is no mean time, width or quantile: not a number, where the formats do not say 0."""
    event = [(7, 10_000.0, 0.0), (7, 10_010.0, 0.0), (8, 10_000.0, 0.0)]
    nan = math.nan
    np.testing.assert_array_equal(
        numbers([event], "pulse_summmary_clipped").hits.features,
        [[0, 0, 0, 10_000, 0, 0, 10_010, nan, nan], [0, 0, 0, 10_000, 0, 0, 10_000, nan, 0]],
    )
    got = numbers([event], "charge_weighted_time_quantiles").hits.features
    np.testing.assert_array_equal(got, [[0, nan, nan, nan, nan]] * 2)
    assert len(numbers([event], "charge_bins").hits.dom) == 0


def test_first_light_counts_from_its_arrival() -> None:
    """0.221 m/ns: light from 100 m below a DOM arrives 452.4 ns after the vertex time."""
    x, y, z = dom_positions()[2300]
    vertex = np.array([[x, y, z - 100.0, 9500.0]])
    pulses = pulses_of([[(2300, 10_000.0, 1.0)]])
    got = dom_features(
        pulses, "charge_bins_and_times", "first_light_at_dom", time_bins=BINS, vertex=vertex
    )
    assert got.hits.features[0, :2].tolist() == pytest.approx([10_000.0, 9952.426], abs=1e-3)
    assert got.hits.features[0, 2:].tolist() == [0, 0, 0, 1, 0]
    assert got.time_offset.tolist() == [9500.0]


def test_histograms_are_written_sparse(tmp_path: Path) -> None:
    """What a file gives back: each DOM with content, its bins at their places."""
    event = [(7, 10.0, 2.0), (7, 300.0, 1.0), (8, 7000.0, 1.0), (9, -60.0, 5.0)]
    got = numbers([[], event], "charge_bins")
    assert got.sparse
    ids = np.zeros(2, dtype=[(k, "u4") for k in ("Run", "Event", "SubEvent", "SubEventStream")])
    ids["Event"] = [1, 2]
    path = tmp_path / "events.hdf5"
    write_input_tables(path, ids, got.time_offset, got.hits, sparse=got.sparse)
    back = read_events(path, InputTables(), len(BINS) - 1)
    assert back.hits.offsets.tolist() == [0, 0, 2]
    assert back.hits.dom.tolist() == [7, 9]
    assert back.hits.features.tolist() == [[0, 0, 0, 2, 1], [5, 0, 0, 0, 0]]


# Event 2 of run 140000 of a public simulation of neutrinos of a few GeV: (string, om, time, charge)
REAL_EVENT = (
    (5, 29, 14978, 1.375),
    (7, 50, 3988, 0.625),
    (7, 50, 6551, 1.275),
    (7, 50, 10819, 0.275),
    (7, 50, 14957, 1.125),
    (8, 1, 6284, 0.625),
    (12, 49, 14909, 1.525),
    (14, 13, 12253, 1.575),
    (14, 13, 15434, 0.975),
    (16, 53, 11966, 0.525),
    (20, 25, 12855, 1.375),
    (20, 52, 15858, 1.425),
    (26, 50, 14036, 0.425),
    (29, 36, 12465, 1.375),
    (32, 3, 12791, 1.325),
    (36, 57, 10574, 1.475),
    (48, 44, 15930, 0.875),
    (58, 17, 4417, 0.875),
    (58, 19, 13952, 0.725),
    (62, 31, 8476, 1.675),
    (67, 43, 5776, 1.175),
    (70, 22, 13500, 0.625),
    (76, 40, 13122, 0.325),
    (78, 25, 9875, 1.325),
    (84, 52, 10116, 0.575),
    (85, 47, 10388, 0.925),
    (85, 52, 9932, 0.825),
    (85, 53, 9892, 0.625),
    (85, 53, 9932, 0.675),
    (85, 54, 9867, 0.625),
    (85, 54, 9879, 1.675),
    (85, 54, 9888, 0.325),
    (86, 47, 11759, 1.175),
)


@pytest.fixture
def real_event() -> Pulses:
    string, om, time, charge = np.array(REAL_EVENT).T
    dom = dom_index(string.astype(np.int64), om.astype(np.int64))
    rounded = charge.astype(np.float32).astype(np.float64)  # files hold float32
    n = len(dom)
    return Pulses(1, np.zeros(n, dtype=np.int64), dom, time, rounded, np.zeros(n, dtype=np.uint8))


def test_real_event_clipped_summary(real_event: Pulses) -> None:
    """Sums over all DOMs, and a DOM, as an independent program gives them."""
    got = dom_features(real_event)
    assert got.time_offset.tolist() == [9875.0]
    assert len(got.hits.dom) == 25
    np.testing.assert_allclose(
        got.hits.features.sum(axis=0),
        [
            30.824999898672104,
            28.44999986886978,
            28.44999986886978,
            41230.0,
            41230.0,
            45550.0,
            52878.0,
            46451.2911113056,
            7090.113494797452,
        ],
        rtol=1e-13,
    )
    np.testing.assert_allclose(
        got.hits.features[got.hits.dom.tolist().index(60 * 13 + 12)],
        [
            2.5500000715255737,
            1.5750000476837158,
            1.5750000476837158,
            2378.0,
            2378.0,
            2378.0,
            5559.0,
            3594.264701508596,
            2186.155617225384,
        ],
        rtol=1e-13,
    )


def test_real_event_reduced_summary(real_event: Pulses) -> None:
    got = dom_features(real_event, "reduced_summary_statistics_data")
    assert got.time_offset.tolist() == pytest.approx([11303.850748939187], rel=1e-14)
    assert len(got.hits.dom) == 26
    expected = [32.324999898672104, -3941.119472418857, 7303.718706525124]
    np.testing.assert_allclose(got.hits.features.sum(axis=0), expected, rtol=1e-12)


def test_real_event_charge_bins(real_event: Pulses) -> None:
    edges = [-math.inf, *range(0, 4000, 500), math.inf]
    got = dom_features(real_event, "charge_bins", time_bins=edges)
    expected = [
        6.8749998807907104,
        6.024999976158142,
        2.6750000417232513,
        0.0,
        1.1749999523162842,
        2.100000023841858,
        4.075000047683716,
        0.32499998807907104,
        9.074999988079071,
    ]
    np.testing.assert_allclose(got.hits.features.sum(axis=0), expected, rtol=1e-14)
    dom = got.hits.features[got.hits.dom.tolist().index(60 * 13 + 12)]
    assert dom[[5, 8]].tolist() == [1.5750000476837158, 0.9750000238418579]
    assert np.count_nonzero(dom) == 2


def test_events_of_the_photon_tracking_simulation(shared_data: Path) -> None:
    """Pulses, the features made of them elsewhere, and the time offsets of 50 events."""
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = shared_data / "ppc"
    if not folder.is_dir():
        pytest.skip(f"'{folder}' not found")
    table = parquet.ParquetFile(folder / "pulses_run11.parquet").read_row_group(0)
    columns = {name: table[name].to_numpy() for name in table.column_names}
    columns = {name: column[columns["event"] < 50] for name, column in columns.items()}
    pulses = Pulses(
        num_events=50,
        event=columns["event"].astype(np.int64),
        dom=dom_index(columns["string"], columns["om"]),
        time=columns["time"].astype(np.float64),
        charge=columns["charge"].astype(np.float64),
        flags=columns["flag"],
    )
    got = dom_features(pulses)
    truth = parquet.read_table(folder / "truth_run11.parquet", columns=["time_offset"])
    assert got.time_offset.tolist() == truth["time_offset"].to_numpy()[:50].tolist()

    file = folder / "hdf5" / "PPC_run11_0000.hdf5"
    expected = read_events(file, InputTables(), 9, dtype=np.float64)
    k = expected.hits.offsets[50]
    np.testing.assert_array_equal(got.time_offset, expected.time_offset[:50])
    np.testing.assert_array_equal(got.hits.offsets, expected.hits.offsets[:51])
    np.testing.assert_array_equal(got.hits.dom, expected.hits.dom[:k])
    np.testing.assert_array_equal(got.hits.features[:, :7], expected.hits.features[:k, :7])
    np.testing.assert_allclose(
        got.hits.features[:, 7:], expected.hits.features[:k, 7:], rtol=1e-12, atol=1e-9
    )


# What cannot be asked for


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pulse_summary",), "unknown data format 'pulse_summary': choose from pulse_summmary"),
        (("pulse_summary_and_first_pulses",), "unknown .* pulse_summary_and_first_pulses_N"),
        (("pulse_summary_and_first_pulses_0",), "unknown data format 'pulse_summary_and_first_"),
        (("pulse_summary_and_first_pulses_08",), "unknown data format"),
        (("pulse_summary_and_first_pulses_101",), "unknown data format"),
        (("pulse_summary_and_first_pulses_N",), "unknown data format"),
        (("pulse_summmary_clipped", "wavedeform"), "unknown relative time method 'wavedeform'"),
        (("pulse_summmary_clipped", "cascade_vertex"), r"shape \(1, 4\), but none are given"),
        (("pulse_summmary_clipped", "local_dom_time_range_a"), "up to four numbers may follow"),
        (
            ("pulse_summmary_clipped", "local_dom_time_range_1_1_1_-1_1"),
            "up to four numbers may follow",
        ),
        (("pulse_summmary_clipped", "local_dom_time_range_1500_0.5"), "whole number of ns"),
        (("charge_bins",), "'charge_bins' needs 'time_bins'"),
        (("charge_weighted_time_quantiles",), "needs 'time_quantiles'"),
    ],
)
def test_unusable_request(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dom_features(pulses_of([[(7, 10_000.0, 1.0)]]), *arguments)


def test_unusable_bins_and_quantiles() -> None:
    pulses = pulses_of([[]])
    with pytest.raises(
        ConfigError, match=r"'time_bins' must be ascending edges, at least two, not \[0.0, 0.0\]"
    ):
        dom_features(pulses, "charge_bins", time_bins=[0.0, 0.0])
    with pytest.raises(ConfigError, match="'time_quantiles' must be fractions from 0 to 1"):
        dom_features(pulses, "charge_weighted_time_quantiles", time_quantiles=[20.0])
