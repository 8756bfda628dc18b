"""Objects of frames, byte by byte: worked examples, older classes, references, lies."""

from typing import Any

import numpy as np
import pytest
from made_up_frames import PARTICLE_ROW, Bytes, frame, head, particle

from dnn_reco.errors import DataError
from dnn_reco.i3.codecs import CODECS, class_name, decode, encode
from dnn_reco.i3.describe import time_text
from dnn_reco.i3.frame import Frame, StoredObject, frame_bytes
from dnn_reco.i3.objects import (
    OM_KEY,
    PARTICLE,
    PULSE,
    TIME_WINDOW,
    CorrectedPulses,
    EventHeader,
    OMKeyMap,
    Particle,
    PulseMask,
    PulsesByModule,
    PulseUnion,
    RawObject,
    Time,
    TriggerKey,
)


def hexadecimal(text: str) -> bytes:
    """Words of hexadecimal digits, and names in quotes."""
    parts = (
        word.strip('"').encode() if word.startswith('"') else bytes.fromhex(word)
        for word in text.replace("|", " ").split()
    )
    return b"".join(parts)


def pulse_map(
    *doms: tuple[tuple[int, int, int], list[tuple[float, float, float, int]]],
) -> OMKeyMap:
    return OMKeyMap(
        np.array([key for key, _ in doms], OM_KEY),
        np.array([len(pulses) for _, pulses in doms], dtype=np.int64),
        np.array([pulse for _, pulses in doms for pulse in pulses], PULSE),
    )


def assert_same_map(one: OMKeyMap, other: OMKeyMap) -> None:
    for name in ("keys", "counts", "items"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
        assert getattr(one, name).dtype == getattr(other, name).dtype


# --------------------------------------------------------------------------------------------------
# Worked examples of the format
# --------------------------------------------------------------------------------------------------
def test_a_frame_of_two_objects() -> None:
    expected = hexadecimal("""
        5b69335d 06000000 0000 50 02000000
        01000000 6d
        15000000 49334d61703c737472696e672c20646f75626c653e
        47000000
          0001 0200 11000000 49334d6170537472696e67446f75626c65
          0100 00000000 0100 01000000
          0000 02000000
          0000 01000000 45 0000000000002440
               01000000 7a 000000000000f8bf
        01000000 78
        13000000 4933504f44486f6c6465723c646f75626c653e
        24000000
          0001 0200 08000000 4933446f75626c65
          0100 00000000 0100 01000000 0000000000000c40
        1df708cd
    """)
    new = Frame("P")
    new.put("x", 3.5)
    new.put("m", {"z": -1.5, "E": 10.0})  # any order
    assert frame_bytes(new) == expected
    assert len(expected) == 192


def test_a_map_of_pulses() -> None:
    expected = hexadecimal("""
        0001 0200 14000000 "I3RecoPulseSeriesMap" 0100 00000000 0100 01000000
        0000 02000000
        0000
        0102 02000000 01000000 02000000 00
        0000 01000000
        0103 03000000 0000000000005940 0000a03f 00000040 01
        04000000 01000000 03000000 00 02000000
        05000000 0000000000605940 0000003f 00000041 04
        06000000 0000000000c06240 0000403f 00000041 04
    """)
    value = pulse_map(
        ((1, 2, 0), [(100.0, 1.25, 2.0, 1)]),
        ((1, 3, 0), [(101.5, 0.5, 8.0, 4), (150.0, 0.75, 8.0, 4)]),
    )
    assert encode(value) == ("I3Map<OMKey, vector<I3RecoPulse> >", expected)
    assert_same_map(decode(expected), value)


def test_a_mask() -> None:
    expected = hexadecimal("""
        0001 0200 18000000 "I3RecoPulseSeriesMapMask" 0102 00000000 0100 01000000 |
        01000000 50 | 0000 0100 05 05 | 0000 02000000 | 0100 06 01 | 0100 07 01
    """)
    value = PulseMask(
        "P", np.array([True, False, True]), np.array([2, 1]), np.array([True, False, True])
    )
    assert encode(value)[1] == expected
    found = decode(expected)
    assert found.source == "P"
    assert found.selected.tolist() == [True, False, True]
    assert found.counts.tolist() == [2, 1]
    assert found.pulses.tolist() == [True, False, True]


def test_a_particle() -> None:
    expected = hexadecimal("""
        0001 0200 0a000000 "I3Particle" 0105 00000000 0100 01000000 |
        07000000 0100000000000000 0d000000 28000000 00000000 |
        0100 02000000 03000000 000000000000f03f 0000000000000040 0000000000000840 |
        0100 04000000 05000000 000000000000e03f 000000000000f83f |
        000000000094c140 0000000000408f40 000000000000f87f 14a3acb4cc2fd33f 14000000
    """)
    value = Particle(
        *(1.0, 2.0, 3.0, 0.5, 1.5, 9000.0, 1000.0),
        pdg=13,
        shape=40,
        fit_status=0,
        location=20,
        major_id=1,
        minor_id=7,
    )
    assert encode(value) == ("I3Particle", expected)
    assert encode(decode(expected)) == ("I3Particle", expected)


# --------------------------------------------------------------------------------------------------
# Older versions of classes
# --------------------------------------------------------------------------------------------------
def begin_map(name: str, number: int) -> Bytes:
    return head(name).untracked("map").raw("I", number)


def add_key(made: Bytes, version: int, string: int, om: int, pmt: int) -> None:
    made.untracked("pair").tracked("OMKey", version)
    if version < 2:
        made.base()
    made.raw("iI", string, om)
    if version > 0:
        made.raw("B", pmt)


@pytest.mark.parametrize("version", [0, 1, 2])
def test_older_keys(version: int) -> None:
    made = begin_map("I3RecoPulseSeriesMap", 3)
    for om in (5, 6, 7):
        add_key(made, version, -3, om, om)
        made.untracked("vector").raw("I", 1)
        made.tracked("I3RecoPulse", 3).raw("dffB", 10.0 * om, 1.5, 2.5, 5)
    pmt = (lambda om: om) if version else (lambda om: 0)
    expected = pulse_map(*(((-3, om, pmt(om)), [(10.0 * om, 1.5, 2.5, 5)]) for om in (5, 6, 7)))
    assert_same_map(decode(made.content), expected)


def test_older_keys_in_a_list() -> None:
    for version in (0, 1):
        made = head("I3VectorOMKey").untracked("vector").raw("I", 3)
        for om in (9, 8, 7):
            made.tracked("OMKey", version).base().raw("iI", 1, om)
            if version:
                made.raw("B", 2)
        assert decode(made.content).tolist() == [(1, om, 2 * version) for om in (9, 8, 7)]


SOURCES = {0: 3, 1: 5, 10: 5, 5: 4, 50: 4, 77: 0}


@pytest.mark.parametrize("version", [0, 1, 2])
def test_older_pulses(version: int) -> None:
    sources = list(SOURCES)
    made = begin_map("I3RecoPulseSeriesMap", 2)
    expected = []
    for om in (1, 2):
        add_key(made, 2, 4, om, 0)
        made.untracked("vector").raw("I", len(sources))
        for number, source in enumerate(sources):
            made.tracked("I3RecoPulse", version)
            if version == 2:
                made.raw("fffB", 0.5 + number, 1.5, 2.5, 6)
            else:
                made.raw("didd", 0.5 + number, 99, 1.5, 2.5)
                if version == 1:
                    made.raw("i", source)
        flags = [6 if version == 2 else SOURCES[each] if version else 0 for each in sources]
        pulses = [(0.5 + k, 1.5, 2.5, flag) for k, flag in enumerate(flags)]
        expected.append(((4, om, 0), pulses))
    assert_same_map(decode(made.content), pulse_map(*expected))


CODES = {
    4: {1: 22, 2: -11, 3: 11, 5: -13, 6: 13, 7: 111, 8: 211, 9: -211, 10: 130, 11: 321, 12: -321,
        13: 2112, 14: 2212, 15: -2212, 66: 12, 67: -12, 68: 14, 69: -14, 131: -15, 132: 15,
        133: 16, 134: -16, 5626: 1000260560, 402: 1000020040, 0: 0, 999999: 0,
        16: 310, 25: -2112, 40: -431, 44: 23, -4: -2000000004, -1001: -2000001001,
        -1006: -2000001006, -1111: -2000001111, -2201: -2000002201, -9501: -2000009501,
        9900: 2000009900, 1005: 1000050100, 1001: 0, 302: 1000020030, 4620: 1000200460,
        4521: 1000210450, 5926: 0, 202: 0, 4: 0},
    2: {1: 22, 3: 11, 15: -2212, 4: -2000000004, 33: -15, 34: 15, 201: 12, 202: 14, 203: 16,
        204: -12, 205: -14, 206: -16, 1001: -2000001001, 1006: -2000001006, 66: 0, 5626: 0,
        10: 0, 13: 0, 41: -2000000041, 2100: -2000002100, 3002: 1000020040, 3018: 1000180400,
        3026: 1000260560, 3027: 0, -100: 0, -1001: 0},
}  # fmt: skip


def older_particle(made: Bytes, version: int, number: int, code: int) -> None:
    made.raw("i", number)
    if version > 1:
        made.raw("Q", 7)
    if version == 0:
        made.raw("ii", 77, 78)  # parent and primary
    made.raw("iii", code, 40, 0)
    made.tracked("I3Position").base().raw("ddd", 1.0, 2.0, 3.0)
    made.tracked("I3Direction").base().raw("dd", 0.5, 1.5)
    made.raw("dddd", 9000.0, 1.0, 5.0, 0.25)
    if version == 0:  # what it consists of: two particles, if it is number 3
        made.untracked("vector of particles").raw("I", 2 if number == 3 else 0)
        for part in range(2 if number == 3 else 0):
            made.tracked("I3Particle", 0).base()
            older_particle(made, 0, 100 + part, code)
    else:
        made.raw("i", 20)
    if version == 4:
        made.raw("dd", -1.0, -2.0)


def expected_particle(version: int, number: int, pdg: int) -> tuple[Any, ...]:
    location = 20 if version else 0
    return (number, 7 if version > 1 else 0, pdg, *PARTICLE_ROW[2:-1], location)


@pytest.mark.parametrize("version", [0, 1, 2, 3, 4])
def test_older_particles(version: int) -> None:
    codes = CODES[4 if version > 2 else 2]
    made = head("I3ParticleVect").untracked("vector of particles").raw("I", len(codes))
    for number, code in enumerate(codes):
        made.tracked("I3Particle", version).base()
        older_particle(made, version, number, code)
    expected = [expected_particle(version, k, pdg) for k, pdg in enumerate(codes.values())]
    assert decode(made.content).tolist() == expected
    for code, pdg in codes.items():
        alone = head("I3Particle", version)
        older_particle(alone, version, 3, code)
        row = decode(alone.content).to_numpy()
        assert row.tolist() == [expected_particle(version, 3, pdg)]


def test_particles_in_particles_without_end() -> None:
    made = head("I3ParticleVect").untracked("vector").raw("I", 1)
    for number in range(3000):
        made.tracked("I3Particle", 0).base().raw("iiiiii", number, 0, 0, 5, 40, 0)
        made.tracked("I3Position").base().raw("ddd", 1.0, 2.0, 3.0)
        made.tracked("I3Direction").base().raw("dd", 0.5, 1.5)
        made.raw("dddd", 9000.0, 1.0, 5.0, 0.25).raw("I", 1)
    with pytest.raises(DataError, match="nested too deeply"):
        decode(made.content)


@pytest.mark.parametrize("version", [0, 1, 2, 3, 4, 5])
def test_tracks_of_older_particles(version: int) -> None:
    """A class is in its current version, what it contains is not."""
    made = head("I3MMCTrackList").untracked("vector").raw("I", 3)
    for number in range(3):
        made.tracked("I3MMCTrack", 1).tracked("I3Particle", version).base()
        if version == 5:
            particle(made, number)
        else:
            older_particle(made, version, number, 6)
        made.raw("16d", *range(16))
    tracks = decode(made.content)
    expected = [expected_particle(version, number, 13) for number in range(3)]
    assert tracks["particle"].tolist() == expected
    assert tracks["energy_lost"].tolist() == [15.0] * 3
    assert tracks["xf"].tolist() == [5.0] * 3


def test_tracks_of_version_0_have_times_in_seconds() -> None:
    made = head("I3MMCTrackList").untracked("vector").raw("I", 2)
    for number in range(2):
        made.tracked("I3MMCTrack", 0).tracked("I3Particle", 5).base()
        particle(made, number)
        made.raw("16d", *range(16))
    tracks = decode(made.content)
    assert tracks["tf"].tolist() == [8e9] * 2
    assert (tracks["ti"][1], tracks["tc"][1], tracks["xf"][1]) == (3e9, 13e9, 5.0)


@pytest.mark.parametrize("version", [0, 1])
def test_older_photoelectrons_and_simulated_pulses(version: int) -> None:
    time = "f" if version == 0 else "d"
    for name, kinds, values in (
        ("I3MCPE", "IQi", (3, 2**40, -7)),
        ("I3MCPulse", "fi", (1.5, 30)),
    ):
        made = begin_map(f"{name}SeriesMap", 2)
        for om in (1, 2):
            add_key(made, 2, 1, om, 0)
            made.untracked("vector").raw("I", om)
            for k in range(om):
                made.untracked(name, version).raw(time + kinds, 100.25 + k, *values)
        found = decode(made.content)
        assert found.counts.tolist() == [1, 2]
        assert found.items.tolist() == [(100.25 + k, *values) for k in (0, 0, 1)]


@pytest.mark.parametrize(("window", "series"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_older_windows(window: int, series: int) -> None:
    made = begin_map("I3TimeWindowSeriesMap", 2)
    for om in (1, 2):
        add_key(made, 2, 1, om, 0)
        made.tracked("I3TimeWindowSeries", series)
        if series:
            made.base()
        made.untracked("list").raw("I", om)
        for k in range(om):
            made.tracked("I3TimeWindow", window)
            if window:
                made.base()
            made.raw("dd", k, k + 0.5)
    found = decode(made.content)
    assert found.counts.tolist() == [1, 2]
    assert found.items.dtype == TIME_WINDOW
    assert found.items.tolist() == [(0.0, 0.5), (0.0, 0.5), (1.0, 1.5)]


def test_older_masks() -> None:
    def mask(version: int, all_bits: bytes, parts: list[bytes]) -> PulseMask:
        made = head("I3RecoPulseSeriesMapMask", version).text(b"P")
        if version == 1:
            made.raw("f", 1.5)
        made.untracked("bitmask")
        made.content += all_bits
        made.untracked("vector").raw("I", len(parts))
        for part in parts:
            made.content += part
        value = decode(made.content)
        assert isinstance(value, PulseMask)
        return value

    for version in (0, 1, 2):
        found = mask(version, b"\x01\0\x05\x06", [b"\x01\0\x07\x01", b"\x01\0\x00\xff"])
        assert found.selected.tolist() == [False, True, True]
        assert found.counts.tolist() == [1, 8]
        assert found.pulses.all()
    assert len(mask(0, b"\x08\0\0" + b"\xff" * 8, []).selected) == 0
    with pytest.raises(DataError, match="64 photomultipliers are selected"):
        mask(2, b"\x08\0\0" + b"\xff" * 8, [])
    for empty in (b"\0\0\0", b"\x01\0\x08\0"):
        assert len(mask(2, empty, []).selected) == 0
    with pytest.raises(DataError, match="9 unexpected bits"):
        mask(2, b"\x01\0\x09\0", [])


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_older_headers(version: int) -> None:
    made = head("I3EventHeader", version).raw("I", 11)
    if version >= 1:
        made.raw("I", 12)
    made.raw("I", 13)
    if version >= 2:
        made.raw("i", 40)
    if version >= 3:
        made.raw("I", 14).text(b"InIceSplit")
    for time in (5, 6):
        made.tracked("I3Time").base().raw("iq", 2011, time * 10**16)
    assert decode(made.content) == EventHeader(
        run=11,
        sub_run=12 if version >= 1 else 0,
        event=13,
        state=40 if version >= 2 else 20,
        sub_event=14 if version >= 3 else 0,
        stream="InIceSplit" if version >= 3 else "",
        start=Time(2011, 5 * 10**16),
        end=Time(2011, 6 * 10**16),
    )


@pytest.mark.parametrize(
    ("year", "seconds", "mjd", "text"),
    [
        # 30 June 2012 is the 182nd day, 56108; 30 June 2015 the 181st, 57203
        (2012, 182 * 86400 - 0.5, 56109 - 0.5 / 86400, "2012-06-30 23:59:59.500 UTC"),
        (2012, 182 * 86400 + 0.5, 56109 - 0.5 / 86400, "2012-06-30 23:59:59.500 UTC"),
        (2012, 182 * 86400 + 1.5, 56109 + 0.5 / 86400, "2012-07-01 00:00:00.500 UTC"),
        (2015, 181 * 86400 + 1 + 43200, 57204.5, "2015-07-01 12:00:00.000 UTC"),
        (2014, 181 * 86400 + 43200, 56839.5, "2014-07-01 12:00:00.000 UTC"),
        (2016, 366 * 86400 + 0.25, 57754 - 0.75 / 86400, "2016-12-31 23:59:59.250 UTC"),
    ],
)
def test_leap_seconds(year: int, seconds: float, mjd: float, text: str) -> None:
    time = Time(year, round(seconds * 10**10))
    assert time.mjd == pytest.approx(mjd, abs=1e-10, rel=0)
    assert time_text(time) == text


@pytest.mark.parametrize("version", [0, 1])
def test_triggers(version: int) -> None:
    made = head("I3TriggerHierarchy").raw("I", 2)

    def trigger(time: float, config: int | None, children: int) -> None:
        made.tracked("I3Trigger", version).raw("ddB", time, 500.0, 1)
        made.tracked("TriggerKey", version).raw("ii", 30, 40)
        if version:
            made.raw("i", 50)
        made.raw("B", config is not None)
        if config is not None:
            made.raw("i", config)
        made.raw("I", children)

    trigger(1000.0, 7, 2)
    trigger(2000.0, None, 0)
    trigger(3000.0, 8, 1)
    trigger(4000.0, 9, 0)
    trigger(5000.0, 10, 0)
    triggers = decode(made.content)
    unit = 1.0 if version else 0.1
    assert [each.time for each in triggers] == [t * unit for t in (1e3, 2e3, 3e3, 4e3, 5e3)]
    assert [each.parent for each in triggers] == [-1, 0, 0, 2, -1]
    assert triggers[0].key == TriggerKey(30, 40, 50 if version else 0, 7)
    assert triggers[1].key.config_id is None
    assert {each.length for each in triggers} == {500.0 * unit}


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("I3Particle", 6), ("I3MCTree", 2), ("I3RecoPulseSeriesMapMask", 3),
        ("I3EventHeader", 4), ("I3Double", 1), ("I3SuperDST", 2), ("I3Calibration", 5),
        ("I3LinearizedMCTree", 2),
        ("I3Particle", 300), ("I3MapStringDouble", 2**40), ("I3Geometry", 4),
    ],
)  # fmt: skip
def test_unknown_versions_are_refused(name: str, version: int) -> None:
    made = head(name, version)
    made.content += bytes(300)
    with pytest.raises(DataError, match=f"version {version} cannot be read"):
        decode(made.content)


def test_unknown_versions_inside_are_refused() -> None:
    made = begin_map("I3RecoPulseSeriesMap", 1)
    made.untracked("pair").tracked("OMKey", 3).raw("iIB", 1, 2, 0)
    with pytest.raises(DataError, match="OMKey in version 3"):
        decode(made.content + bytes(100))
    made = begin_map("I3RecoPulseSeriesMap", 1)
    add_key(made, 2, 1, 2, 0)
    made.untracked("vector").raw("I", 1).tracked("I3RecoPulse", 4).raw("dffB", 1.0, 1.0, 1.0, 1)
    with pytest.raises(DataError, match="I3RecoPulse in version 4"):
        decode(made.content)


def test_long_versions_and_lengths() -> None:
    """Versions of 255 and more, and lengths with eight bytes."""
    made = head("I3MapStringDouble").untracked("map", 255).raw("IQ", 2**32 - 1, 2)
    made.untracked("pair", 1000).raw("IQ", 2**32 - 1, 1)
    made.content += b"a"
    made.raw("d", 1.5).text(b"b").raw("d", 2.5)
    assert decode(made.content) == {"a": 1.5, "b": 2.5}
    many = head("I3VectorDouble").raw("IQ", 2**32 - 1, 3).raw("3d", 1, 2, 3)
    assert decode(many.content).tolist() == [1.0, 2.0, 3.0]


# --------------------------------------------------------------------------------------------------
# References to earlier objects
# --------------------------------------------------------------------------------------------------
def test_a_pulse_that_occurs_twice() -> None:
    made = begin_map("I3RecoPulseSeriesMap", 2)
    add_key(made, 2, 1, 1, 0)  # object 2
    made.untracked("vector").raw("I", 2)
    made.tracked("I3RecoPulse", 3).raw("dffB", 1.0, 1.5, 2.5, 1)  # object 3
    made.tracked("I3RecoPulse", 3).raw("dffB", 2.0, 1.5, 2.5, 2)  # object 4
    add_key(made, 2, 1, 2, 0)  # object 5
    made.untracked("vector").raw("I", 3).again(4)
    made.tracked("I3RecoPulse", 3).raw("dffB", 3.0, 1.5, 2.5, 3)  # object 6
    made.again(3)
    expected = pulse_map(
        ((1, 1, 0), [(1.0, 1.5, 2.5, 1), (2.0, 1.5, 2.5, 2)]),
        ((1, 2, 0), [(2.0, 1.5, 2.5, 2), (3.0, 1.5, 2.5, 3), (1.0, 1.5, 2.5, 1)]),
    )
    assert_same_map(decode(made.content), expected)


def test_particles_that_occur_twice() -> None:
    made = head("I3ParticleVect").untracked("vector").raw("I", 4)
    for number in (1, 2):  # objects 2 … 7 and 8 … 13
        made.tracked("I3Particle", 5).base()
        particle(made, number)
    made.again(2).again(8)
    assert decode(made.content)["minor_id"].tolist() == [1, 2, 1, 2]
    assert decode(made.content)["energy"].tolist() == [1.0] * 4


def test_a_position_that_occurs_twice() -> None:
    """Objects inside of objects may be references as well."""
    made = head("I3ParticleVect").untracked("vector").raw("I", 2)
    made.tracked("I3Particle", 5).base()  # objects 2, 3
    particle(made, 1)  # position: objects 4, 5, direction: 6, 7
    made.tracked("I3Particle", 5).base().raw("iQiii", 2, 7, 13, 40, 0).again(4)
    made.tracked("I3Direction").base().raw("dd", 0.25, 0.75).raw("ddddi", 1.0, 2.0, 3.0, 4.0, 5)
    rows = decode(made.content)
    assert rows.dtype == PARTICLE
    assert [rows[name].tolist() for name in ("x", "zenith", "location")] == [
        [1.0, 1.0],
        [0.5, 0.25],
        [20, 5],
    ]


def test_trees_with_references() -> None:
    made = head("I3MCTree").raw("I", 2)
    made.tracked("I3Particle", 5).base()
    particle(made, 1).raw("I", 1)
    made.again(2).raw("I", 0).again(2).raw("I", 0)
    tree = decode(made.content)
    assert tree.particles["minor_id"].tolist() == [1, 1, 1]
    assert tree.parents.tolist() == [-1, 0, -1]


@pytest.mark.parametrize("number", [0, 1, 2, 5, 100, 2**32 - 1])
def test_references_to_nothing(number: int) -> None:
    """To the object itself, its base, a key, or what comes later."""
    made = begin_map("I3RecoPulseSeriesMap", 1)
    add_key(made, 2, 1, 1, 0)
    made.untracked("vector").raw("I", 2)
    made.tracked("I3RecoPulse", 3).raw("dffB", 1.0, 1.5, 2.5, 1)
    made.again(number)
    with pytest.raises(DataError, match="does not exist"):
        decode(made.content + bytes(17))


# --------------------------------------------------------------------------------------------------
# Objects that lie
# --------------------------------------------------------------------------------------------------
def test_too_many_items_are_announced() -> None:
    for number in (2**32 - 2, 2**31, 10_000):
        for name in CODECS:
            made = head(name)
            for _ in range(3):
                made.raw("HI", 0, number)
            with pytest.raises(DataError):
                decode(made.content)
    long = head("I3VectorDouble").raw("IQ", 2**32 - 1, 2**64 - 1)
    with pytest.raises(DataError, match="more than fit into the data"):
        decode(long.content)


def test_bytes_that_are_left_over() -> None:
    with pytest.raises(DataError, match="3 bytes remain"):
        decode(head("I3Double").raw("d", 1.0).content + b"abc")


def test_every_truncation_of_an_object_is_refused() -> None:
    values: list[Any] = [
        {"a": 1.0, "b": 2.0},
        pulse_map(((1, 1, 0), [(1.0, 1.0, 1.0, 1)]), ((1, 2, 0), []), ((1, 3, 0), [(1, 1, 1, 1)])),
        EventHeader(1, 2, Time(2020, 5), Time(2020, 6), stream="InIceSplit"),
        PulseMask("P", np.array([True]), np.array([3]), np.array([True, False, True])),
        Particle(),
        PulseUnion(("a", "b")),
    ]
    for value in values:
        _, content = encode(value)
        for cut in range(len(content)):
            with pytest.raises(DataError):
                decode(content[:cut])


def test_a_truth_value_of_2() -> None:
    with pytest.raises(DataError, match="truth value is 2"):
        decode(head("I3Bool").raw("B", 2).content)


def test_photomultipliers_out_of_order_are_refused() -> None:
    """Masks refer to them by their place."""
    for second in (4, 5):
        made = begin_map("I3RecoPulseSeriesMap", 2)
        for om in (5, second):
            add_key(made, 2, 1, om, 0)
            made.untracked("vector").raw("I", 1)
            made.tracked("I3RecoPulse", 3).raw("dffB", 1.0, 1.5, 2.5, 1)
        with pytest.raises(DataError, match="ascending"):
            decode(made.content)


def test_classes_that_should_be_numbered_and_are_not() -> None:
    made = head("I3VectorOMKey").untracked("vector").raw("I", 1)
    made.untracked("OMKey", 2).raw("iIB", 1, 2, 0)
    with pytest.raises(DataError, match="is not as expected"):
        decode(made.content + bytes(10))


def test_unknown_classes_are_kept() -> None:
    content = head("I3New", 77).raw("d", 1.0).content
    value = decode(content, "I3New<int>")
    assert value == RawObject("I3New", "I3New<int>", content)
    assert encode(value) == ("I3New<int>", content)
    for bad in (b"", b"\x00\x01\xff\xff", b"\x01" * 30, content[:20]):
        with pytest.raises(DataError):
            class_name(bad)


# --------------------------------------------------------------------------------------------------
# References to pulses
# --------------------------------------------------------------------------------------------------
def frame_of(**values: Any) -> Frame:
    made = Frame("P")
    for key, value in values.items():
        made.put(key, value)
    return made


PULSES = pulse_map(
    ((1, 1, 0), [(5.0, 1.0, 1.0, 1), (7.0, 2.0, 1.0, 1)]),
    ((1, 2, 0), []),
    ((1, 2, 3), [(6.0, 3.0, 1.0, 1)]),
)
MORE = pulse_map(((1, 1, 0), [(6.0, 4.0, 1.0, 1)]), ((2, 1, 0), [(1.0, 5.0, 1.0, 1)]))


def test_masks_count_photomultipliers_without_pulses() -> None:
    mask = PulseMask(
        "P",
        np.array([True, False, True]),
        np.array([2, 1]),
        np.array([False, True, True]),
    )
    again = PulseMask("M", np.array([False, True]), np.array([1]), np.array([True]))
    none = PulseMask("M", np.array([True, False]), np.array([1]), np.array([False]))
    made = frame_of(P=PULSES, M=mask, N=again, O=none)
    assert made["M"].to_numpy().tolist() == [
        (1, 1, 0, 7.0, 2.0, 1.0, 1),
        (1, 2, 3, 6.0, 3.0, 1.0, 1),
    ]
    assert made["N"].to_numpy().tolist() == [(1, 2, 3, 6.0, 3.0, 1.0, 1)]
    assert len(made["O"]) == len(made["O"].items) == 0
    assert isinstance(made.stored("M"), PulseMask)


def test_masks_that_do_not_fit() -> None:
    for selected, counts in (([True, True], [2, 0]), ([True, False, False], [3])):
        mask = PulseMask(
            "P", np.array(selected), np.array(counts), np.ones(sum(counts), dtype=bool)
        )
        with pytest.raises(DataError, match="mask"):
            frame_of(P=PULSES, M=mask)["M"]


def test_unions() -> None:
    made = frame_of(P=PULSES, R=MORE, U=PulseUnion(("R", "P")), E=PulseUnion(()))
    assert made["U"].to_numpy()[["om", "pmt", "time"]].tolist() == [
        (1, 0, 5.0), (1, 0, 6.0), (1, 0, 7.0), (2, 3, 6.0), (1, 0, 1.0),
    ]  # fmt: skip
    assert made["U"].counts.tolist() == [3, 0, 1, 1]
    assert len(made["E"]) == 0


def test_pulses_by_module() -> None:
    made = frame_of(P=PULSES, M=PulsesByModule("P"))
    assert made["M"].keys.tolist() == [(1, 1, 0), (1, 2, 0)]
    assert made["M"].items["charge"].tolist() == [1.0, 2.0, 3.0]


def test_references_that_go_nowhere() -> None:
    made = frame_of(
        A=PulseUnion(("B",)),
        B=PulsesByModule("A"),
        C=PulseUnion(("absent",)),
        D=PulseUnion(("W",)),
        W={"weight": 1.0},
        X=PulseUnion(("V",)),
        V=OMKeyMap(np.zeros(1, OM_KEY), np.array([1]), np.array([1.5])),
        Y=CorrectedPulses("A", "I3Calibration"),
    )
    for key, message in {
        "A": "refer to themselves",
        "B": "refer to themselves",
        "C": "refer to 'absent', which the frame does not have",
        "D": "is not a map of pulses",
        "X": "is not a map of pulses",
        "Y": "I3Calibration",
    }.items():
        with pytest.raises(DataError, match=message):
            made[key]
    with pytest.raises(KeyError):
        made["absent"]


def test_hostile_chains_of_references() -> None:
    chain = {f"k{number}": PulsesByModule(f"k{number + 1}") for number in range(2000)}
    with pytest.raises(DataError, match="nested too deeply"):
        frame_of(**chain)["k0"]
    many = {f"k{number}": PulseUnion((f"k{number - 1}",) * 16) for number in range(1, 60)}
    with pytest.raises(DataError, match="pulses together"):
        frame_of(k0=PULSES, **many)["k59"]


def test_messages_name_file_frame_and_key() -> None:
    made = Frame("P", {"Bad": StoredObject("X", head("I3Double").content)}, source="frame 3 of 'f'")
    with pytest.raises(
        DataError, match=r"frame 3 of 'f': object 'Bad' cannot be read: .* too early"
    ):
        made["Bad"]
    assert frame("P", [("Bad", "X", head("I3Double").content)]) == frame_bytes(made)


# --------------------------------------------------------------------------------------------------
# Geometry
# --------------------------------------------------------------------------------------------------
def add_module(made: Bytes, version: int, om: int) -> None:
    add_key(made, 2, 3, om, 0)
    made.tracked("I3OMGeo", version)
    made.tracked("I3Position").base().raw("ddd", 1.0, 2.0, -10.0 * om)
    if version == 0:
        made.raw("i", 1)
    else:
        made.tracked("I3Orientation").base()
        made.tracked("I3Quaternion").base().raw("dddd", 0.0, 0.0, 0.0, 1.0)
    made.raw("id", 20, 0.0444)
    if version == 0:
        made.raw("d", 0.5)
    if version >= 2:
        made.raw("i", 5)


@pytest.mark.parametrize(("version", "of_module"), [(0, 0), (1, 0), (1, 1), (2, 1), (3, 2)])
def test_geometry(version: int, of_module: int) -> None:
    """No file with a geometry was at hand: as the format is described."""
    made = head("I3Geometry", version)
    if version:
        made.tracked("I3OMGeoMap").base()
    made.untracked("map").raw("I", 3)
    for om in (1, 2, 3):
        add_module(made, of_module, om)
    geometry = decode(made.content + b"stations and times")
    assert geometry.keys.tolist() == [(3, om, 0) for om in (1, 2, 3)]
    assert geometry.position.tolist() == [[1.0, 2.0, -10.0 * om] for om in (1, 2, 3)]
    assert geometry.om_type.tolist() == [20] * 3
    assert geometry.area.tolist() == [0.0444] * 3
