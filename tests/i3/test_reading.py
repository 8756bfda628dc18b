"""Files: compression, damage, checksums, which frame sees what, memory."""

import builtins
import bz2
import gzip
import logging
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import zstandard
from made_up_frames import crc_of_version_5, crc_of_version_6, double, frame, head

from dnn_reco.errors import DataError
from dnn_reco.i3.frame import Frame, checksum, frame_bytes
from dnn_reco.i3.objects import OM_KEY, PULSE, OMKeyMap, PulseUnion
from dnn_reco.i3.reader import read_i3
from dnn_reco.i3.writer import open_i3, write_i3

ZSTD = zstandard.ZstdCompressor(write_checksum=True).compress
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "zst": ZSTD,
}


def small_frames() -> list[bytes]:
    return [
        frame("I", [double("Tray", 1.0)]),
        frame("Q", [double("Energy", 3.5), double("Time", -1.0)]),
        frame("P", [double("Zenith", 0.5)]),
        frame("P", [double("Energy", 4.5)]),
        frame("Q"),
    ]


def written(folder: Path, content: bytes, name: str = "events.i3") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def stops_until_error(path: Path, **options: Any) -> tuple[str, str]:
    """Stops of the frames that are given, and the error."""
    stops = ""
    try:
        for each in read_i3(path, **options):
            stops += each.stop
    except DataError as error:
        return stops, str(error)
    return stops, ""


# --------------------------------------------------------------------------------------------------
# Compression
# --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["events.i3", "events.i3.gz", "events.i3.zst", "events"])
@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_compression_is_told_by_the_content(tmp_path: Path, kind: str, name: str) -> None:
    path = written(tmp_path, COMPRESSIONS[kind](b"".join(small_frames())), name)
    frames = list(read_i3(path, verify=True))
    assert "".join(each.stop for each in frames) == "IQPPQ"
    assert frames[2]["Energy"] == 3.5


@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_concatenated_members_are_one_file(tmp_path: Path, kind: str) -> None:
    """Also where a member ends inside of a frame."""
    content = b"".join(small_frames())
    compress = COMPRESSIONS[kind]
    for cut in (len(small_frames()[0]), 70, len(content)):
        path = written(tmp_path, compress(content[:cut]) + compress(content[cut:]))
        assert stops_until_error(path, verify=True) == ("IQPPQ", "")


@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_a_truncated_file_gives_the_frames_before(tmp_path: Path, kind: str) -> None:
    """Cut at every byte: an error after the last whole frame, or the end at a boundary."""
    content = b"".join(small_frames())
    ends = np.cumsum([len(each) for each in small_frames()]).tolist()
    packed = COMPRESSIONS[kind](content)
    for cut in range(1, len(packed)):
        stops, error = stops_until_error(written(tmp_path, packed[:cut]))
        assert "IQPPQ".startswith(stops)
        if kind == "plain":
            assert len(stops) == sum(end <= cut for end in ends)
            assert (not error) == (cut in ends)
        else:
            assert error, f"cut at {cut} of {len(packed)}"
        if error:
            assert "events.i3" in error
            assert f"after {len(stops)} complete frames" in error or "frame" in error


@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_frames_before_a_cut_in_a_compressed_file_are_given(tmp_path: Path, kind: str) -> None:
    """What can be decompressed is used, although the last piece cannot be read."""
    rng = np.random.default_rng(1)
    noise = [("Noise", "X", head("X").content + rng.bytes(5_000)) for _ in range(60)]
    frames = [frame("Q", [each]) for each in noise]
    packed = COMPRESSIONS[kind](b"".join(frames))
    stops, error = stops_until_error(written(tmp_path, packed[: len(packed) * 9 // 10 - 7]))
    lost_at_most = {"plain": 1, "gz": 3, "zst": 128 * 1024 // 5_000 + 2, "bz2": 60}[kind]
    assert 54 - lost_at_most <= len(stops) <= 54
    assert error


def test_a_zstd_file_cut_between_blocks_is_truncated(tmp_path: Path) -> None:
    """Although what comes out of it ends with a whole frame."""
    compressor = zstandard.ZstdCompressor().compressobj()
    content = b"".join(small_frames())
    packed = compressor.compress(content) + compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    stops, error = stops_until_error(written(tmp_path, packed))
    assert stops == "IQPPQ"
    assert "cannot be decompressed" in error


@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_damaged_compression(tmp_path: Path, kind: str) -> None:
    packed = COMPRESSIONS[kind](b"".join(small_frames()))
    for tail in (b"garbage", b"\x28\xb5", b"[i3]"):
        stops, error = stops_until_error(written(tmp_path, packed + tail))
        assert stops == "IQPPQ"
        # bz2 ignores what follows, like the program bunzip2
        assert error or kind == "bz2"


def test_what_is_no_i3_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty"):
        next(read_i3(written(tmp_path, b"")))
    with pytest.raises(DataError, match=r"is not an \.i3 file"):
        next(read_i3(written(tmp_path, b"\x89HDF\r\n\x1a\n" + bytes(100))))
    with pytest.raises(DataError, match="cannot be opened"):
        next(read_i3(tmp_path / "absent.i3"))
    with pytest.raises(DataError, match="is a folder"):
        next(read_i3(tmp_path))


def test_older_versions_of_frames_are_refused(tmp_path: Path) -> None:
    for version in range(4):
        with pytest.raises(DataError, match="unsupported old version"):
            next(read_i3(written(tmp_path, struct.pack("<I", version) + bytes(100))))
    for version in (4, 7, 2**32 - 1):
        path = written(tmp_path, b"[i3]" + struct.pack("<I", version) + bytes(100))
        with pytest.raises(DataError, match=f"version {version} cannot be read"):
            next(read_i3(path))


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dnn_reco.i3.frame as frame_module

    real_import = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.split(".")[0] in ("zstandard", "google_crc32c"):
            raise ImportError(name)
        return real_import(name, *arguments, **options)

    content = b"".join(small_frames())
    packed = written(tmp_path, ZSTD(content), "packed.i3.zst")
    plain = written(tmp_path, content)
    frame_module._crc32c.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r"packed.*zstandard.*pip install 'dnn_reco\[i3\]'"):
        next(read_i3(packed))
    assert len(list(read_i3(plain))) == 5
    for recover in (False, True):
        with pytest.raises(DataError, match=r"google-crc32c.*pip install"):
            next(read_i3(plain, verify=True, recover=recover))
    with pytest.raises(DataError, match="google-crc32c"):
        write_i3(tmp_path / "new.i3", [Frame("P")])
    with pytest.raises(DataError, match="zstandard"):
        write_i3(tmp_path / "new.i3.zst", [Frame("P")])
    assert not list(tmp_path.glob("new*")), "nothing half-written is left"


# --------------------------------------------------------------------------------------------------
# Checksums and damage
# --------------------------------------------------------------------------------------------------
def test_checksum_vectors() -> None:
    assert checksum(b"123456789", 6) == 0x58E3FA20 == crc_of_version_6(b"123456789")
    assert checksum(b"123456789", 5) == 0x29B1 == crc_of_version_5(b"123456789")
    assert google_crc32c.value(b"123456789") == 0xE3069283  # the common one, which it is not
    data = np.random.default_rng(1).bytes(1000)
    assert checksum(data, 6) == crc_of_version_6(data)
    assert checksum(data, 5) == crc_of_version_5(data)


def test_frames_of_version_5(tmp_path: Path) -> None:
    content = frame("Q", [double("Energy", 3.5)], version=5)
    (read,) = read_i3(written(tmp_path, content), verify=True)
    assert (read.version, read["Energy"]) == (5, 3.5)
    assert frame_bytes(read) == content
    wrong = frame("Q", [double("Energy", 3.5)], version=5, wrong_crc=1)
    with pytest.raises(DataError, match="checksum"):
        next(read_i3(written(tmp_path, wrong), verify=True))
    next(read_i3(written(tmp_path, wrong)))


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    content = b"".join(small_frames()[1:3])
    first = len(small_frames()[1])
    for place in range(len(content)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[place] ^= 1 << bit
            stops, error = stops_until_error(written(tmp_path, bytes(flipped)), verify=True)
            assert error, (place, bit)
            assert stops == ("Q" if place >= first else "")


def test_recovery_gives_all_other_frames(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames = small_frames()
    content = b"".join(frames)
    starts = np.cumsum([0, *map(len, frames)])
    caplog.set_level(logging.CRITICAL)
    for place in range(len(content)):
        for bit in (0, 4, 7):
            flipped = bytearray(content)
            flipped[place] ^= 1 << bit
            damaged = int(np.searchsorted(starts, place, side="right")) - 1
            path = written(tmp_path, bytes(flipped))
            stops = "".join(each.stop for each in read_i3(path, verify=True, recover=True))
            expected = "IQPPQ"[:damaged] + "IQPPQ"[damaged + 1 :]
            assert stops == expected, (place, bit)


def test_recovery_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames = small_frames()
    path = written(tmp_path, frames[0] + b"garbage" * 3 + b"".join(frames[1:]) + frames[0][:30])
    assert [each.stop for each in read_i3(path, recover=True)] == list("IQPPQ")
    assert "damaged after 1 complete frames" in caplog.text
    assert "damaged after 5 complete frames: it ends within a frame" in caplog.text


def test_recovery_after_long_garbage(tmp_path: Path) -> None:
    """Longer than what is held in memory, and with what looks like a frame."""
    garbage = (bytes(2**20) + b"[i3]" + bytes(100)) * 20
    path = written(tmp_path, frame("Q") + garbage + frame("P"))
    assert [each.stop for each in read_i3(path, recover=True)] == ["Q", "P"]


def test_after_a_gap_an_event_is_not_mistaken_for_another(tmp_path: Path) -> None:
    """A P frame whose Q frame is damaged must not see the pulses of the event before."""
    frames = [
        frame("G", [double("Geometry", 9.0)]),
        frame("Q", [double("Energy", 1.0)]),
        frame("P", [double("Zenith", 1.0)]),
        frame("Q", [double("Energy", 2.0)], wrong_crc=1),
        frame("P", [double("Zenith", 2.0)]),
        frame("Q", [double("Energy", 3.0)]),
        frame("P", [double("Zenith", 3.0)]),
    ]
    path = written(tmp_path, b"".join(frames))
    physics = [each for each in read_i3(path, verify=True, recover=True) if each.stop == "P"]
    assert [each.get("Energy") for each in physics] == [1.0, None, 3.0]
    assert all(each["Geometry"] == 9.0 for each in physics)


def test_hostile_counts(tmp_path: Path) -> None:
    begin = b"[i3]" + struct.pack("<I", 6) + b"\0\0P"
    for rest in (
        struct.pack("<I", 2**32 - 1) + bytes(100),  # objects
        struct.pack("<II", 1, 2**32 - 1) + bytes(100),  # bytes of a key
        struct.pack("<II", 1, 1) + b"k" + struct.pack("<I", 2**31) + bytes(100),  # of a type
        struct.pack("<II", 1, 1) + b"kAAAA" + bytes(100),
        struct.pack("<II", 1, 0) + bytes(100),  # no name
        struct.pack("<IIcIcI", 1, 1, b"k", 1, b"t", 2**30) + bytes(100),
    ):
        stops, error = stops_until_error(written(tmp_path, begin + rest))
        assert stops == ""
        assert error


def test_an_object_twice_is_refused(tmp_path: Path) -> None:
    content = frame("P", [double("a", 1.0), double("a", 2.0)])
    with pytest.raises(DataError, match="twice"):
        next(read_i3(written(tmp_path, content)))


# --------------------------------------------------------------------------------------------------
# Which frame sees what
# --------------------------------------------------------------------------------------------------
def test_mixing(tmp_path: Path) -> None:
    detector = written(
        tmp_path,
        frame("G", [double("Common", 1.0), double("Geometry", 1.0)])
        + frame("C", [double("Calibration", 2.0)])
        + frame("D", [double("Status", 3.0)]),
        "detector.i3",
    )
    data = written(
        tmp_path,
        frame("I", [double("Tray", 0.0)])
        + frame("Q", [double("Common", 2.0), double("Energy", 1.0)])
        + frame("P", [double("Common", 3.0), double("Zenith", 1.0)])
        + frame("P", [double("Azimuth", 1.0)])
        + frame("Q", [double("Time", 2.0)])
        + frame("G", [double("Geometry", 5.0)])
        + frame("P", [double("Zenith", 7.0)]),
    )
    frames = list(read_i3(detector, data))
    assert "".join(each.stop for each in frames) == "GCDIQPPQGP"
    first, second, last = (each for each in frames if each.stop == "P")
    assert {key: first[key] for key in first} == {
        "Zenith": 1.0,
        "Common": 3.0,  # its own
        "Energy": 1.0,
        "Geometry": 1.0,
        "Calibration": 2.0,
        "Status": 3.0,
    }
    assert "Zenith" not in second  # never from another P frame
    assert second["Common"] == 2.0  # that of Q, which came after G
    assert "Energy" not in last  # of another event
    assert {key: last[key] for key in ("Time", "Geometry", "Zenith")} == {
        "Time": 2.0,
        "Geometry": 5.0,
        "Zenith": 7.0,
    }
    assert "Tray" not in first
    assert len(last) == len(list(last)) == len(set(last))
    for each in frames:
        assert len(each) == len(set(each))
    again = tmp_path / "again.i3"
    assert write_i3(again, frames[3:]) == 7
    assert again.read_bytes() == data.read_bytes()  # without what is inherited


def test_frames_can_be_read_without_mixing(tmp_path: Path) -> None:
    frames = list(read_i3(written(tmp_path, b"".join(small_frames())), mix=False))
    assert [sorted(each) for each in frames] == [
        ["Tray"],
        ["Energy", "Time"],
        ["Zenith"],
        ["Energy"],
        [],
    ]


def test_q_frames_of_one_file_are_not_those_of_the_next(tmp_path: Path) -> None:
    one = written(tmp_path, frame("S", [double("Set", 1.0)]) + frame("Q", [double("Energy", 1.0)]))
    two = written(tmp_path, frame("P", [double("Zenith", 1.0)]), "two.i3")
    frames = list(read_i3(one, two))
    assert sorted(frames[-1]) == ["Set", "Zenith"]


def test_p_frames_see_what_is_added_to_their_q_frame(tmp_path: Path) -> None:
    path = written(tmp_path, b"".join(small_frames()))
    for each in read_i3(path):
        if each.stop == "Q":
            each.put("New", 1.0)
            each.put("Newer", 2.0)
            if "Time" in each:
                each.delete("Time")
        if each.stop == "P":
            assert (each["New"], each["Newer"]) == (1.0, 2.0)
            assert "Time" not in each
            assert "New" not in each.own


# --------------------------------------------------------------------------------------------------
# Writing
# --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("suffix", "magic"),
    [("", b"[i3]"), (".gz", b"\x1f\x8b"), (".bz2", b"BZh"), (".zst", b"\x28\xb5\x2f\xfd")],
)
def test_written_files_can_be_read(tmp_path: Path, suffix: str, magic: bytes) -> None:
    path = tmp_path / "new" / f"events.i3{suffix}"
    new = Frame("P")
    new.put("Zenith", 0.25)
    new.put("Azimuth", np.float64(0.5))
    assert write_i3(path, [new, Frame("Q")]) == 2
    content = path.read_bytes()
    assert content.startswith(magic)
    first, second = read_i3(path, verify=True)
    assert (first["Zenith"], first["Azimuth"], second.stop) == (0.25, 0.5, "Q")
    write_i3(path, [new, Frame("Q")])
    assert path.read_bytes() == content  # the same bytes each time
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_references_follow_the_pulses_that_are_put_and_deleted() -> None:
    new, keys = Frame("P"), np.zeros(1, OM_KEY)
    new.put("both", PulseUnion(("a",)))
    for charge in (1.5, 2.5):  # read in between
        items = np.array([(10.0, charge, 2.0, 7)], PULSE)
        new.put("a", OMKeyMap(keys, np.ones(1, dtype=np.int64), items))
        assert new["both"].items["charge"].tolist() == [charge]
    new.delete("a")
    with pytest.raises(DataError, match="refer to 'a', which the frame does not have"):
        new["both"]


def test_the_bytes_of_a_new_frame() -> None:
    new = Frame("P")
    new.put("b", 2.5)
    new.put("a", 1.5)
    assert frame_bytes(new) == frame("P", [double("a", 1.5), double("b", 2.5)])


def test_objects_are_written_in_order_of_their_names() -> None:
    new = Frame("P")
    for key in ("b", "a", "Z", "é", "\udcff"):
        new.put(key, 1.0)
    content = frame_bytes(new)
    places = [
        content.index(b"\x13\0\0\0I3PODHolder<double>", content.index(key) - 1)
        for key in (b"\x01\0\0\0Z", b"\x01\0\0\0a", b"\x01\0\0\0b", b"\xc3\xa9", b"\xff\x13")
    ]
    assert places == sorted(places)


def test_what_cannot_be_written() -> None:
    new = Frame("P")
    for key in ("", "a b", "a\tb", "a\n", "a\0"):
        with pytest.raises(DataError, match="is not a valid object name"):
            new.put(key, 1.0)
    assert not new.own
    for stop in ("", "PQ", "é", "\n"):
        with pytest.raises(DataError, match="stop"):
            frame_bytes(Frame(stop))
    with pytest.raises(DataError, match="version 4"):
        frame_bytes(Frame("P", version=4))
    new.put("k" * 70_000, 1.0)
    with pytest.raises(DataError, match="too long"):
        frame_bytes(new)


def test_a_file_that_is_not_finished_does_not_appear(tmp_path: Path) -> None:
    path = tmp_path / "events.i3.gz"
    with pytest.raises(ZeroDivisionError), open_i3(path) as writer:
        writer.write(Frame("P"))
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "events.i3", tmp_path / "folder"):
        with pytest.raises(DataError, match="cannot be written"):
            write_i3(path, [Frame("P")])


def test_a_file_can_be_written_over_itself(tmp_path: Path) -> None:
    content = b"".join(small_frames())
    path = written(tmp_path, content)
    assert write_i3(path, read_i3(path)) == 5
    assert path.read_bytes() == content


# --------------------------------------------------------------------------------------------------
# Memory
# --------------------------------------------------------------------------------------------------
MEMORY = """
import resource, sys, tracemalloc
from dnn_reco.i3.reader import read_i3
tracemalloc.start()
number = sum(len(frame["Noise"].content) for frame in read_i3(sys.argv[1]))
print(number, tracemalloc.get_traced_memory()[1])
"""


@pytest.mark.parametrize("kind", ["plain", "zst"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, kind: str) -> None:
    noise = head("Unknown").content + np.random.default_rng(1).bytes(500_000)
    part = frame_bytes_of(noise)
    repeats = 200_000_000 // len(part)
    content = COMPRESSIONS[kind](part)
    path = tmp_path / "events.i3"
    with path.open("wb") as file:
        for _ in range(repeats):
            file.write(content)
    command = [sys.executable, "-c", textwrap.dedent(MEMORY), str(path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    number, peak = map(int, output.split())
    assert number == repeats * len(noise)
    assert peak < 60e6


def frame_bytes_of(content: bytes) -> bytes:
    from dnn_reco.i3.frame import StoredObject

    return frame_bytes(Frame("Q", {"Noise": StoredObject("Unknown", content)}))


def test_a_bomb_is_unpacked_in_pieces(tmp_path: Path) -> None:
    """256 MB of zeros in a few kB: the first bytes show that it is no frame."""
    for kind, packed in {
        "zst": zstandard.ZstdCompressor(19).compress(bytes(2**28)),
        "gz": gzip.compress(bytes(2**24)) * 16,
    }.items():
        path = written(tmp_path, packed, f"bomb.{kind}")
        command = [sys.executable, "-c", textwrap.dedent(BOMB), str(path)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert int(output) < 150e6


BOMB = """
import sys, tracemalloc
from dnn_reco.errors import DataError
from dnn_reco.i3.reader import read_i3
tracemalloc.start()
try:
    list(read_i3(sys.argv[1], recover=True))
except DataError:
    pass
print(tracemalloc.get_traced_memory()[1])
"""
