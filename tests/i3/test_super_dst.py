"""Compressed pulses against a slow and obvious encoder and decoder."""

import warnings
from collections import defaultdict
from collections.abc import Sequence

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from made_up_frames import Readout, add_compact, encode_readouts, head

from dnn_reco.errors import DataError
from dnn_reco.i3.codecs import decode

# --------------------------------------------------------------------------------------------------
# A slow decoder, from the readouts
# --------------------------------------------------------------------------------------------------
Pulse = list[float]  # time, charge, width, flags


def slow_pulses(readouts: Sequence[Readout]) -> dict[tuple[int, int, int], list[Pulse]]:
    found: dict[tuple[int, int, int], list[Pulse]] = defaultdict(list)
    reference = -512
    for readout in readouts:
        time = reference = reference + readout.pulses[0][0]
        for number, (after, charge, is_hlc, width) in enumerate(readout.pulses):
            time += after if number else 0
            if readout.om > 60:
                in_pe = np.float32(10 ** (charge * 9 / 16383 - 2))
            else:
                in_pe = np.float32(charge * 0.05 + 0.025)
            key = (readout.string, readout.om, 0)
            found[key].append([time, float(in_pe), 2.0**width, 7 if is_hlc else 4])
    for pulses in found.values():
        pulses.sort(key=lambda pulse: pulse[0])
        shorten(pulses)
    return dict(sorted(found.items()))


def shorten(pulses: list[Pulse]) -> None:
    """No pulse reaches into the next one; those that would have no width share another's."""
    time, width = 0, 2

    def share(this: int) -> None:
        before = this - 1
        if pulses[before][width] == 0 and pulses[this][width] > 0:
            pulses[before][width] = pulses[this][width]
        half = float(np.float32(pulses[before][width] / 2))
        pulses[before][width] = pulses[this][width] = half
        pulses[this][time] = pulses[before][time] + half

    postponed = False
    for this in range(len(pulses)):
        if this + 1 < len(pulses):
            gap = float(np.float32(pulses[this + 1][time] - pulses[this][time]))
            pulses[this][width] = min(pulses[this][width], gap)
        if this == 0:
            postponed = pulses[this][width] == 0
        elif postponed or pulses[this][width] == 0:
            share(this)
            postponed = False


# --------------------------------------------------------------------------------------------------
# Tests
# --------------------------------------------------------------------------------------------------
often_zero = st.sampled_from([0, 0, 0, 1, 3])
times = st.one_of(
    often_zero,
    st.integers(0, 40),
    st.sampled_from([253, 254, 255, 256, 2046, 2047, 2048]),
    st.integers(0, 200_000),
    st.sampled_from([255 + 0xFFFE, 255 + 0xFFFF, 255 + 0x10000, 2047 + 2 * 0xFFFF]),
)
charges = st.one_of(
    st.integers(0, 70),
    st.integers(0, 70_000),
    st.sampled_from([62, 63, 64, 63 + 0xFFFE, 63 + 0xFFFF, 63 + 0x10000, 63 + 3 * 0xFFFF]),
)
width_codes = st.integers(0, 15)


@st.composite
def readouts(draw: st.DrawFn, num_doms: int = 4) -> list[Readout]:
    doms = draw(
        st.lists(st.tuples(st.integers(0, 127), st.integers(1, 64)), min_size=1, max_size=num_doms)
    )
    found = []
    for _ in range(draw(st.integers(0, 8))):
        string, om = draw(st.sampled_from(doms))
        if om > 60:
            pulse = (draw(times), draw(st.integers(0, 16383)), draw(st.booleans()))
            pulses = [(*pulse, draw(width_codes))]
        else:
            pulse_strategy = st.tuples(times, charges, st.booleans(), width_codes)
            pulses = draw(st.lists(pulse_strategy, min_size=1, max_size=8))
        found.append(Readout(string, om, pulses))
    return found


def assert_decoded(made: Sequence[Readout]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = decode(encode_readouts(made))
    expected = slow_pulses(made)
    assert [tuple(key) for key in found.keys.tolist()] == list(expected)
    assert found.counts.tolist() == [len(pulses) for pulses in expected.values()]
    rows = [list(row) for row in found.items.tolist()]
    assert rows == [pulse for pulses in expected.values() for pulse in pulses]


@given(readouts())
def test_any_readouts(made: list[Readout]) -> None:
    assert_decoded(made)


@given(st.lists(st.tuples(often_zero, charges, st.booleans(), width_codes), min_size=1))
def test_many_pulses_of_one_dom_at_the_same_time(pulses: list[tuple[int, int, bool, int]]) -> None:
    assert_decoded([Readout(30, 5, pulses)])
    assert_decoded([Readout(30, 5, [pulse]) for pulse in pulses])


def test_pulses_without_width() -> None:
    """Worked out by hand: two at the start, two in the middle, three at the end."""

    def at(*pulses: tuple[int, int]) -> list[tuple[float, float]]:
        made = [(after, 10, True, width) for after, width in pulses]
        found = decode(encode_readouts([Readout(1, 1, made)])).items
        return [(time + 512, width) for time, _, width, _ in found.tolist()]

    # the first takes the second's width (8, cut to 4), and both get half
    assert at((100, 3), (0, 3), (4, 1)) == [(100, 2), (102, 2), (104, 2)]
    # the middle one shares the width of the one before (8, cut to 6)
    assert at((100, 3), (6, 3), (0, 2)) == [(100, 3), (103, 3), (106, 4)]
    # so do two, one after the other
    assert at((100, 3), (8, 3), (0, 3), (0, 1)) == [(100, 4), (104, 2), (106, 2), (108, 2)]
    # only two, at the end of the series
    assert at((100, 3), (0, 3)) == [(100, 4), (104, 4)]
    # without another's width there is none to share
    assert at((100, 3), (0, 3), (0, 3)) == [(100, 0), (100, 0), (100, 8)]


def test_large_readouts() -> None:
    """Sizes that take one, two and three bytes; long runs of equal widths."""
    rng = np.random.default_rng(1)
    for number in (0xF6, 0xF7, 300, 70_000):
        pulses = [(int(t), int(q), True, 3) for t, q in rng.integers(1, 60, (number, 2))]
        assert_decoded([Readout(1, 1, pulses)])


def test_empty() -> None:
    found = decode(encode_readouts([]))
    assert len(found) == len(found.items) == 0


def test_largest_charge_of_a_tank() -> None:
    found = decode(encode_readouts([Readout(1, 61, [(0, 16383, True, 0)])]))
    assert found.items["charge"].tolist() == [np.float32(1e7)]


def parts(stamps: bytes, headers: bytes, widths: Sequence[bytes], extra: bytes = b"") -> bytes:
    made = head("I3SuperDST", 1)
    add_compact(made, "stamps", stamps, len(stamps) // 2)
    add_compact(made, "headers", headers, len(headers) // 2)
    for each in (*widths, extra):
        add_compact(made, "bytes", each, len(each))
    return made.content


NO_WIDTHS = (b"", b"", b"", b"")


def test_parts_that_do_not_fit() -> None:
    one = np.array([0x8000 | 5 << 8 | 1], "<u2").tobytes()
    header = np.array([64], "<u2").tobytes()
    slc = (b"\x13", b"", b"", b"")
    assert len(decode(parts(one, header, slc)).items) == 1
    for stamps, headers, widths, extra in (
        (b"", header, slc, b""),  # no stamp
        (one, b"", NO_WIDTHS, b""),  # no header
        (one * 2, header, slc, b""),  # a stamp too many
        (b"\x01\x05", header, slc, b""),  # without its end
        (b"\x01\xbf", header, slc, b""),  # more charge is announced
        (one, header, NO_WIDTHS, b""),
        (one, header, (b"", b"\x13", b"", b""), b""),
        (one, header, (b"\x23", b"", b"", b""), b""),
        (one, header, slc, b"\0"),
        (one, b"\x7f\0", (b"", b"", b"\x13", b""), b""),  # a tank without its extra byte
    ):
        with pytest.raises(DataError):
            decode(parts(stamps, headers, widths, extra))


def test_hostile_runs() -> None:
    """A length of a million digits must not be computed; one of 2^60 must not be made."""
    one = np.array([0x8000], "<u2").tobytes()
    for stream in (b"\xf3" * 1_000_000, b"\x03" * 1_000_000, b"\xf3" * 9, b"\x13\x03\x03"):
        content = parts(one, b"\x40\0", (stream, b"", b"", b""))
        if stream == b"\x13\x03\x03":
            assert len(decode(content).items) == 1
        else:
            with pytest.raises(DataError):
                decode(content)


@pytest.mark.parametrize("tag", range(0xF7, 0x100))
def test_hostile_sizes(tag: int) -> None:
    made = head("I3SuperDST", 1).untracked("CompactVector<stamps>").untracked("SizeCodec")
    made.raw("B", tag).raw("QQ", 2**64 - 1, 2**64 - 1)
    with pytest.raises(DataError):
        decode(made.content)


# --------------------------------------------------------------------------------------------------
# First version
# --------------------------------------------------------------------------------------------------
def first_version(words: Sequence[int], headers: Sequence[int]) -> bytes:
    return (
        head("I3SuperDST", 0)
        .raw(f"H{len(words)}H", len(words), *words)
        .raw(f"{len(headers)}H", *headers)
        .content
    )


def test_first_version() -> None:
    """Times in steps of 4 ns from -512 ns, charges of 0.15 PE, also of tanks; width 1 ns."""
    hlc, stop = 0x4000, 0x8000
    words = [
        *(hlc | 10 << 8 | 5, hlc | stop | 20 << 8 | 255),  # 255 is no sign of more to come
        *(63 << 8 | 0xFF, 3, stop | 100),  # time and charge in further words
        *(7 << 8 | 1, stop | 63 << 8 | 2),  # ends with the word of charge, not with the stamp
    ]
    words[-1:] = [63 << 8 | 2, stop | 9]
    headers = [1 << 6 | 60, 2 << 6 | 7 | 7 << 13, 1 << 6 | 60 | 1 << 13]
    found = decode(first_version(words, headers))
    assert found.keys.tolist() == [(1, 61, 0), (2, 8, 0)]
    assert found.counts.tolist() == [4, 1]
    first = -512 + 4 * 5
    second = first + 4 * (2047 + 3)
    third = second + 4 * (256 + 1)
    assert found.items["time"].tolist() == [first, first + 4 * 255, third, third + 8, second]
    charges = np.array([10, 20, 7, 63 + 9, 63 + 100]) * 0.15
    assert found.items["charge"].tolist() == charges.astype(np.float32).tolist()
    assert found.items["flags"].tolist() == [7, 7, 4, 4, 4]
    assert found.items["width"].tolist() == [1.0] * 5


def test_first_version_that_does_not_fit() -> None:
    for words, headers in (
        ([0x8001, 1], [0]),  # a word too many
        ([0x80FF], [7 << 13]),  # more time is announced
        ([0xBF00], [0]),  # more charge is announced
        ([0x8001], []),  # a header is missing
        ([0x8001], [0, 0]),  # a header too many
    ):
        with pytest.raises(DataError):
            decode(first_version(words, headers))
    assert len(decode(first_version([], []))) == 0
