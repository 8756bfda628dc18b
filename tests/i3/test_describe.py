"""Fields and texts of decoded objects."""

import dataclasses
import datetime
from typing import Any

import i3_frames as made
import numpy as np
import pytest

from dnn_reco.errors import DataError
from dnn_reco.i3.columns import fields_of, split_name
from dnn_reco.i3.describe import printable, reference_text, summary, table, text_of, time_text
from dnn_reco.i3.objects import (
    MMC_TRACK,
    OM_KEY,
    DomGeometry,
    FilterResult,
    MCTree,
    PulsesByModule,
    PulseUnion,
    Time,
    TimeWindow,
    Trigger,
    TriggerKey,
)
from dnn_reco.i3.particle_names import pdg_name

TRIGGERS = [
    Trigger(1.0, 2.0, True, TriggerKey(40, 70, 0, None), -1),
    Trigger(3.0, 4.0, False, TriggerKey(0, 0, 0, 1011), 0),
]
GEOMETRY = DomGeometry(
    np.array([(1, 2, 0)], OM_KEY), np.array([[1.0, 2.0, 3.0]]), np.array([20]), np.array([0.04])
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.5, {"": 1.5}),
        ("text", {"": "text"}),
        (("a", "b"), {"": ("a", "b")}),
        ({"a": 1.0, "b.c": 2}, {"a": 1.0, "b.c": 2}),
        (
            {"F": FilterResult(True, False)},
            {"F.condition_passed": True, "F.prescale_passed": False},
        ),
        (TimeWindow(1.0, 2.0), {"start": 1.0, "stop": 2.0}),
        (Time(2020, 864 * 10**12), {"year": 2020, "daq_time": 864 * 10**12, "mjd": 58850.0}),
        ({}, {}),
    ],
)
def test_fields_of_single_values(value: Any, expected: dict[str, Any]) -> None:
    assert fields_of(value) == expected


def test_fields_of_lists() -> None:
    pulses = fields_of(made.PULSES)
    assert list(pulses) == ["string", "om", "pmt", "time", "charge", "width", "flags"]
    assert pulses["string"].tolist() == [1, 1, 36, 86]
    assert pulses["time"].tolist() == [100, 150.5, 3000, 700]
    tree = fields_of(made.mc_tree())
    assert tree["parent"].tolist() == [-1, 0, 1, 0]
    assert tree["energy"].tolist() == [1000, 800, 5, 200]
    triggers = fields_of(TRIGGERS)
    assert triggers["config_id"] == (None, 1011)
    assert triggers["parent"] == (-1, 0)
    numbers = fields_of({5: 6, 7: 8})
    assert [numbers[name].tolist() for name in ("key", "value")] == [[5, 7], [6, 8]]
    geometry = fields_of(GEOMETRY)
    assert [geometry[name].tolist() for name in ("om", "z", "om_type")] == [[2], [3], [20]]


def test_fields_in_fields_have_both_names() -> None:
    tracks = np.zeros(2, MMC_TRACK)
    tracks["particle"]["pdg"] = [13, -13]
    assert fields_of(tracks)["particle.pdg"].tolist() == [13, -13]
    header = fields_of(made.header(3, "InIceSplit"))
    assert header["event"] == 3
    assert header["start.mjd"] == pytest.approx(58849 + 1 / 24)


def test_fields_of_a_particle_keep_their_types() -> None:
    fields = fields_of(made.PRIMARY)
    assert fields["major_id"] == 2**63 + 5
    assert fields["major_id"].dtype == np.uint64
    assert (fields["pdg"], fields["energy"]) == (14, 1000)


def test_classes_that_are_not_known_have_no_fields() -> None:
    with pytest.raises(DataError, match="class I3TrayInfo are not decoded"):
        fields_of(made.UNKNOWN)


def test_names_are_split_at_the_longest_key() -> None:
    keys = {"A", "A.b"}
    assert split_name("A", keys) == ("A", "")
    assert split_name("A.c.d", keys) == ("A", "c.d")
    assert split_name("A.b.c", keys) == ("A.b", "c")
    assert split_name("B.c", keys) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (made.PULSES, "4 pulses of 3 PMTs, 10.00 PE, 100.0 to 3,000.0 ns"),
        (made.mc_tree(), "4 particles: nu_mu 1000 GeV"),
        (MCTree(made.mc_tree().particles[:0], np.zeros(0, int)), "0 particles"),
        (
            made.PRIMARY,
            "nu_mu, primary, 1000 GeV, zenith 28.6°, azimuth 85.9°, at 1.0, 2.0, 3.0 m, "
            "fit not set",
        ),
        (made.header(3, "InIceSplit"), "7:3:0 InIceSplit, 2020-01-01 01:00:00.000 UTC"),
        (made.header(3), "7:3:0, 2020-01-01 01:00:00.000 UTC"),
        (made.UNKNOWN, "not decoded, 30 bytes"),
        ({"a": 1.0, "b": 2.5}, "2 entries: a 1, b 2.5"),
        ({"a": FilterResult(True, True), "b": FilterResult(True, False)}, "2 entries: a passed"),
        ({"b": FilterResult(True, False)}, "1 entry: none passed"),
        ({}, "0 entries"),
        (np.arange(5.0), "5 numbers: 0, 1, 2, 3, …"),
        (TRIGGERS, "2 entries"),
        (GEOMETRY, "1 PMT"),
        (TimeWindow(1.0, 2.0), "start 1, stop 2"),
        ("a\x1b[31m\nb\udcff", r"a\x1b[31m\nb\udcff"),
        ("x" * 100, "x" * 80 + "…"),
        (True, "True"),
    ],
)
def test_summaries(value: Any, expected: str) -> None:
    assert summary(value) == expected


def test_particle_tree_as_text() -> None:
    lines = list(text_of(made.mc_tree(), 40))
    assert [line.split("  0.00")[0] for line in lines[1:]] == [
        "0  nu_mu      1000",
        "1    mu-       800",
        "2      brems     5",
        "3    hadrons   200",
    ]
    assert list(text_of(made.mc_tree(), 3))[-1] == "… 1 more"


def test_tables_are_cut() -> None:
    lines = list(text_of(made.PULSES, 2))
    assert lines == [
        "string  om  pmt   time  charge  width  flags",
        "     1   5    0    100       1      8      4",
        "     1   5    0  150.5       2      8      4",
        "… 2 more",
    ]
    assert list(text_of(np.zeros(0, OM_KEY), 2))[-1] == "(empty)"
    assert list(text_of(np.array([1.5, 2.5, 3.5]), 2)) == ["1.5", "2.5", "… 1 more"]


def test_texts_of_single_objects() -> None:
    assert "pdg         14 (nu_mu)" in list(text_of(made.PRIMARY, 9))
    assert "zenith      0.5 rad (28.65°)" in list(text_of(made.PRIMARY, 9))
    header = dataclasses.replace(made.header(3), sub_run=4)
    assert list(text_of(header, 9))[:3] == ["run        7", "event      3", "sub_run    4"]
    assert "sub_run    not set" in list(text_of(made.header(3), 9))
    assert list(text_of({"long": 1.0, "b": 0.25}, 9)) == ["long  1", "b     0.25"]
    assert list(text_of("two\nlines\x07", 9)) == ["two", r"lines\x07"]
    assert list(text_of({"a": np.arange(2.0), "b": np.arange(1.0)}, 9)) == ["a  0, 1", "b  0"]
    filters = list(text_of({"Muon_13": FilterResult(True, False)}, 9))
    assert filters[1].split() == ["Muon_13", "True", "False"]
    assert list(text_of(made.UNKNOWN, 9))[1].startswith("0000  00 01 02 00 0a 00")
    assert list(text_of(made.UNKNOWN, 9))[1].endswith("........I3TrayIn")


def test_references_say_what_they_refer_to() -> None:
    assert reference_text(made.MASK) == "mask of 'I3SuperDST': 3 of 4 pulses of 3 of its PMTs"
    assert reference_text(PulseUnion(("A", "B"))) == "union of A, B"
    assert reference_text(PulsesByModule("A")) == "'A' with the PMTs of a module as one"
    assert reference_text(made.PULSES) == ""


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (14, "nu_mu"),
        (-14, "nu_mu_bar"),
        (13, "mu-"),
        (-13, "mu+"),
        (-211, "pi-"),
        (-2212, "p_bar"),
        (-3112, "Sigma-_bar"),
        (1000260560, "Z26 A56"),
        (-2000001001, "brems"),
        (2000001001, "2000001001"),
        (99, "99"),
        (0, "unknown"),
    ],
)
def test_names_of_particles(code: int, name: str) -> None:
    assert pdg_name(code) == name


@pytest.mark.parametrize("year", [1, 1900, 2000, 2001, 2020, 2024, 2101])
def test_dates_of_years(year: int) -> None:
    expected = datetime.date(year, 1, 1).toordinal() - datetime.date(1858, 11, 17).toordinal()
    assert Time(year, 0).mjd == expected


def test_small_helpers() -> None:
    assert printable("Größe\t\udc80") == r"Größe\t\udc80"
    assert time_text(Time(2020, 10**10 * 60 + 5 * 10**7)) == "2020-01-01 00:01:00.005 UTC"
    assert time_text(Time(0, 5)) == "5 × 0.1 ns of the year 0"
    assert time_text(Time(9999, 2**62)) == f"{2**62} × 0.1 ns of the year 9999"
    assert list(table(["a", "b"], [("x", "1"), ("yy", "22")], frozenset((0,)))) == [
        "a    b",
        "x    1",
        "yy  22",
    ]
