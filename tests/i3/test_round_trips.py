"""Any value that can be written is read again; anything else is refused."""

import dataclasses
from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray

from dnn_reco.errors import DataError
from dnn_reco.i3.codecs import CODECS, class_of, decode, encode
from dnn_reco.i3.frame import Frame, frame_bytes
from dnn_reco.i3.objects import (
    MC_PHOTOELECTRON,
    MC_PULSE,
    MMC_TRACK,
    OM_KEY,
    PARTICLE,
    PULSE,
    TANK_KEY,
    TIME_WINDOW,
    CorrectedPulses,
    Direction,
    EventHeader,
    FilterResult,
    MCTree,
    OMKeyMap,
    Particle,
    Position,
    PulseMask,
    PulsesByModule,
    PulseUnion,
    Quaternion,
    Time,
    TimeWindow,
)

texts = st.one_of(
    st.text(max_size=8).filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text)),
    st.binary(max_size=8).map(lambda content: content.decode(errors="surrogateescape")),
)
doubles = st.floats(allow_nan=True, allow_infinity=True)
ints = st.integers(-(2**31), 2**31 - 1)
unsigned = st.integers(0, 2**32 - 1)
flags = st.booleans()


def rows(dtype: Any, most: int = 6) -> st.SearchStrategy[NDArray[Any]]:
    """Arrays of any bytes."""
    size = np.dtype(dtype).itemsize
    return st.binary(min_size=0, max_size=most * size).map(
        lambda content: np.frombuffer(content[: len(content) // size * size], dtype).copy()
    )


@st.composite
def om_key_maps(draw: st.DrawFn, dtype: Any, one_each: bool = False) -> OMKeyMap:
    key = st.tuples(st.integers(-3, 90), st.integers(0, 66), st.integers(0, 255))
    keys = sorted(set(draw(st.lists(key, max_size=5))))
    lists = [draw(rows(dtype, 4)) for _ in keys]
    if one_each:
        lists = [np.zeros(1, dtype) if len(each) == 0 else each[:1] for each in lists]
    counts = np.array([len(each) for each in lists], dtype=np.int64)
    items = np.concatenate([np.zeros(0, dtype), *lists])
    return OMKeyMap(np.array(keys, OM_KEY), counts, items)


@st.composite
def masks(draw: st.DrawFn) -> PulseMask:
    selected = draw(hnp.arrays(np.bool_, st.integers(0, 70)))
    counts = draw(hnp.arrays(np.int64, int(selected.sum()), elements=st.integers(0, 20)))
    pulses = draw(hnp.arrays(np.bool_, int(counts.sum())))
    return PulseMask(draw(texts), selected, counts, pulses)


@st.composite
def trees(draw: st.DrawFn) -> MCTree:
    particles = draw(rows(PARTICLE))
    parents: list[int] = []
    ancestors = [-1]
    for number in range(len(particles)):
        del ancestors[draw(st.integers(0, len(ancestors) - 1)) + 1 :]
        parents.append(ancestors[-1])
        ancestors.append(number)
    return MCTree(particles, np.array(parents, dtype=np.int64))


daq_times = st.builds(Time, ints, st.integers(-(2**63), 2**63 - 1))
particles = st.builds(
    Particle,
    *[doubles] * 9,
    pdg=ints,
    shape=ints,
    fit_status=ints,
    location=ints,
    major_id=st.integers(0, 2**64 - 1),
    minor_id=ints,
)
headers = st.builds(
    EventHeader, unsigned, unsigned, daq_times, daq_times, unsigned, unsigned, texts, ints
)
results = st.builds(FilterResult, flags, flags)
quaternions = st.builds(Quaternion, doubles, doubles, doubles, doubles)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "I3RecoPulseSeriesMap": om_key_maps(PULSE),
    "I3RecoPulseSeriesMapMask": masks(),
    "I3RecoPulseSeriesMapUnion": st.lists(texts).map(lambda keys: PulseUnion(tuple(keys))),
    "I3RecoPulseSeriesMapCombineByModule": st.builds(PulsesByModule, texts),
    "I3RecoPulseSeriesMapApplySPECorrection": st.builds(CorrectedPulses, texts, texts),
    "I3TimeWindowSeriesMap": om_key_maps(TIME_WINDOW),
    "I3TimeWindowSeries": rows(TIME_WINDOW),
    "I3MapKeyVectorDouble": om_key_maps("f8"),
    "I3MapKeyVectorInt": om_key_maps("i4"),
    "I3MapKeyDouble": om_key_maps("f8", one_each=True),
    "I3MapKeyUInt": om_key_maps("u4", one_each=True),
    "I3MCPESeriesMap": om_key_maps(MC_PHOTOELECTRON),
    "I3MCPulseSeriesMap": om_key_maps(MC_PULSE),
    "I3Double": doubles,
    "I3Int": ints,
    "I3Bool": flags,
    "I3String": texts,
    "I3MapStringDouble": st.dictionaries(texts, doubles),
    "I3MapStringInt": st.dictionaries(texts, ints),
    "I3MapStringBool": st.dictionaries(texts, flags),
    "I3MapStringVectorDouble": st.dictionaries(texts, rows("f8")),
    "I3MapUnsignedUnsigned": st.dictionaries(unsigned, unsigned),
    "I3FilterResultMap": st.dictionaries(texts, results),
    "I3FilterResult": results,
    "I3VectorDouble": rows("f8"),
    "I3VectorInt": rows("i4"),
    "I3VectorString": st.lists(texts).map(tuple),
    "I3VectorOMKey": rows(OM_KEY),
    "I3VectorTankKey": rows(TANK_KEY),
    "I3EventHeader": headers,
    "I3Time": daq_times,
    "I3TimeWindow": st.builds(TimeWindow, doubles, doubles),
    "I3Position": st.builds(Position, doubles, doubles, doubles),
    "I3Direction": st.builds(Direction, doubles, doubles),
    "I3Quaternion": quaternions,
    "I3Orientation": quaternions,
    "I3Particle": particles,
    "I3ParticleVect": rows(PARTICLE),
    "I3MCTree": trees(),
    "I3MMCTrackList": rows(MMC_TRACK),
}
ONLY_IF_NAMED = {"I3MapKeyDouble", "I3MapKeyUInt", "I3Orientation"}
"""Classes whose values are written as another class if none is named."""


def assert_same(one: Any, other: Any) -> None:
    """Equal, and of one type; NaN equals NaN."""
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()
    elif dataclasses.is_dataclass(one):
        for field in dataclasses.fields(one):
            assert_same(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    else:
        assert one == other or (one != one and other != other)


def test_all_classes_that_can_be_written_are_tested() -> None:
    assert set(VALUES) == {name for name, codec in CODECS.items() if codec.write is not None}


@pytest.mark.parametrize("name", VALUES)
def test_written_values_are_read_again(name: str) -> None:
    @given(VALUES[name])
    def check(value: Any) -> None:
        type_name, content = encode(value, name)
        found = decode(content, type_name)
        assert_same(found, value)
        assert encode(found, name) == (type_name, content)
        if name not in ONLY_IF_NAMED and not (isinstance(value, dict) and not value):
            assert class_of(value) == name

    check()


@given(st.dictionaries(texts, doubles))
def test_order_of_a_dictionary_does_not_matter(values: dict[str, float]) -> None:
    backwards = dict(reversed(values.items()))
    assert encode(backwards) == encode(values)
    found = decode(encode(values)[1])
    order = [key.encode(errors="surrogateescape") for key in found]
    assert order == sorted(order)


@given(st.dictionaries(texts, doubles, max_size=5))
def test_frames_are_written_and_read(values: dict[str, float]) -> None:
    import tempfile
    from pathlib import Path

    from dnn_reco.i3.reader import read_i3

    new = Frame("P")
    for key, value in values.items():
        if key and not any(each.isspace() or each == "\0" for each in key):
            new.put(key, value)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.i3"
        path.write_bytes(frame_bytes(new))
        (found,) = read_i3(path, verify=True)
    assert found.keys() == new.keys()
    for key in new:
        assert_same(found[key], new[key])


# --------------------------------------------------------------------------------------------------
# What is written as what
# --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (np.float64(1.5), "I3Double"),
        (np.float32(1.5), "I3Double"),
        (np.int64(3), "I3Int"),
        (np.bool_(True), "I3Bool"),
        (np.str_("text"), "I3String"),
        ({"a": np.float32(1.5), "b": 2}, "I3MapStringDouble"),
        ({"a": np.int8(1)}, "I3MapStringInt"),
        ({"a": np.True_}, "I3MapStringBool"),
        ({}, "I3MapStringDouble"),
    ],
)
def test_numbers_of_numpy(value: Any, name: str) -> None:
    of_class = decode(encode(value)[1])
    assert encode(value) == encode(of_class, name)


@pytest.mark.parametrize(
    "value",
    [
        None,
        1j,
        b"bytes",
        [1.0, 2.0],
        (1.0, 2.0),
        {1, 2},
        {"a": "text"},
        {"a": 1.0, "b": True},
        {1: 1.5},
        {(1, 2): 1.5},
        np.zeros(3, np.float32),
        np.zeros(3, np.int64),
        np.zeros((2, 2)),
        np.zeros(3, ">f8"),
        np.array(1.5),
        np.array(["a"]),
        2**31,
        {"a": 2**31},
        {-1: 1},
        "\ud800",
        {"\ud800": 1.0},
        PulseUnion(("a", "\ud800")),
        EventHeader(-1, 0, Time(0, 0), Time(0, 0)),
        EventHeader(0, 0, Time(0, 2**63), Time(0, 0)),
        Particle(minor_id=2**40),
        Particle(x="text"),  # type: ignore[arg-type]
        PulseMask("P", np.array([True]), np.array([2]), np.array([True])),
        PulseMask("P", np.array([True]), np.array([1, 1]), np.array([True, True])),
        PulseMask("P", np.array([True]), np.array([600_000]), np.ones(600_000, dtype=bool)),
        OMKeyMap(np.zeros(1, OM_KEY), np.array([2]), np.zeros(1, PULSE)),
        OMKeyMap(np.zeros(1, OM_KEY), np.array([1, 1]), np.zeros(2, PULSE)),
        OMKeyMap(np.zeros(2, OM_KEY), np.array([1, 1]), np.zeros(2, PULSE)),
        OMKeyMap(np.zeros(1, OM_KEY), np.array([1]), np.zeros((1, 2))),
        OMKeyMap(np.zeros(1), np.array([1]), np.zeros(1, PULSE)),
        OMKeyMap(np.zeros(2, OM_KEY), np.array([3, -1]), np.zeros(2, PULSE)),
    ],
    ids=repr,
)
def test_values_that_cannot_be_written(value: Any) -> None:
    with pytest.raises(DataError):
        encode(value)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (1.5, "I3Int"),
        ("text", "I3Double"),
        (7, "I3Bool"),
        (1.0, "I3String"),
        (3.5, "I3VectorDouble"),
        (np.array([1.5]), "I3VectorInt"),
        (np.array([2**31]), "I3VectorInt"),
        (np.zeros((2, 2)), "I3VectorDouble"),
        ({"a": 1.5}, "I3MapStringInt"),
        ({"a": 2}, "I3MapStringBool"),
        ({"a": 1.0}, "I3MapStringVectorDouble"),
        ({"a": 1.0}, "I3Particle"),
        (Particle(), "I3MCTree"),
        (Particle(), "I3MapStringDouble"),
        (OMKeyMap(np.zeros(1, OM_KEY), np.array([1]), np.array([0.5])), "I3MapKeyUInt"),
        (OMKeyMap(np.zeros(1, OM_KEY), np.array([2]), np.zeros(2)), "I3MapKeyDouble"),
        (OMKeyMap(np.zeros(1, OM_KEY), np.array([1]), np.zeros(1, PULSE)), "I3MCPESeriesMap"),
        (OMKeyMap(np.zeros(1, OM_KEY), np.array([1]), np.zeros(1)), "I3RecoPulseSeriesMap"),
        (np.zeros(1, PULSE), "I3ParticleVect"),
        (1.0, "I3SuperDST"),
        (1.0, "I3NoClass"),
    ],
)
def test_values_that_cannot_be_written_as_a_class(value: Any, name: str) -> None:
    with pytest.raises(DataError):
        encode(value, name)


@pytest.mark.parametrize("value", [[1.0, 2.0], np.array([1, 2]), np.array([1, 2], np.float32), ()])
def test_numbers_that_fit_a_named_class(value: Any) -> None:
    found = decode(encode(value, "I3VectorDouble")[1])
    assert found.tolist() == list(value)
    if np.asarray(value).dtype.kind == "i":
        assert decode(encode(value, "I3VectorInt")[1]).tolist() == list(value)
