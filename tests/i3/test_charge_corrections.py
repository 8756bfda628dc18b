"""Calibrations and charges that they correct, as the format is described: no file was at hand."""

from typing import Any

import numpy as np
import pytest
from made_up_frames import Bytes, head

from dnn_reco.errors import DataError
from dnn_reco.i3.codecs import decode
from dnn_reco.i3.frame import Frame, StoredObject
from dnn_reco.i3.objects import OM_KEY, PULSE, CorrectedPulses, DomCalibration, OMKeyMap


def numbers(made: Bytes, number: int) -> None:
    made.raw(f"{number}d", *range(number))


def fit(made: Bytes, name: str, number: int) -> None:
    made.tracked(name)
    numbers(made, number)


def pointer(made: Bytes, to: str, of_class: int, name: str, number: int) -> None:
    made.untracked(f"pointer to {to}", 1).raw("h", of_class)
    if to == "PDF" and name not in made.seen:
        made.text(b"SPEChargeDistribution::" + name.encode())
    made.tracked(name)
    numbers(made, number)


def distribution(made: Bytes, version: int, om: int) -> None:
    made.tracked("SPEChargeDistribution", version)
    if version < 3:
        numbers(made, 5 if version == 1 else 9)
        return
    made.untracked("vector of pointers").raw("I", 3)
    pointer(made, "PDF", 21, "Exponential", 2)
    pointer(made, "PDF", 21, "Exponential", 2)
    pointer(made, "PDF", 22, "Gaussian", 3)
    numbers(made, 2)
    if om == 1:
        pointer(made, "Residuals", 30, "Residuals", 0)
        made.raw("Idd", 2, 0.5, 1.5).raw("Idd", 2, 1.0, 1.1)
        made.residuals = made.next_id - 1  # type: ignore[attr-defined]
    else:  # those of the first DOM
        made.raw("h", 30).again(made.residuals)  # type: ignore[attr-defined]
    if version == 4:
        numbers(made, 1)


def dom(made: Bytes, om: int, versions: tuple[int, int], charges: tuple[float, ...]) -> None:
    version, of_distribution = versions
    made.untracked("pair").tracked("OMKey", 2).raw("iIB", 3, om, 0)
    made.tracked("I3DOMCalibration", version)
    numbers(made, 2)
    fit(made, "LinearFit", 2)
    numbers(made, 1)
    made.raw("I3d", 3, 1.0, 2.0, 3.0)
    made.raw("I", 2)
    for _ in range(2):
        fit(made, "QuadraticFit", 3)
    made.raw("I", 2)
    for _ in range(2):
        made.raw("I", 3)
        for _ in range(3):
            made.raw("I", 128)
            numbers(made, 128)
    fit(made, "LinearFit", 2)
    fit(made, "LinearFit", 2)
    numbers(made, 1)
    made.text(b"7.5.3")
    fit(made, "TauParam", 7)
    made.raw("Idd", 2, 1.0, 2.0)
    for _ in range(3):
        fit(made, "LinearFit", 2)
    numbers(made, 2)
    made.raw("I", 2)
    for _ in range(2):
        made.raw("Iddd", 3, 1.0, 2.0, 3.0)
    numbers(made, 6)
    distribution(made, of_distribution, om)
    made.raw("dd", *charges[:2])
    if version == 11:
        made.raw("BB", *(int(valid) for valid in charges[2:]))
    if version == 13:
        made.tracked("I3Time").base().raw("iq", 2020, 5)


def calibration(
    versions: tuple[int, int], charges: list[tuple[float, ...]], version: int = 4
) -> bytes:
    made = head("I3Calibration", version).untracked("map").raw("I", len(charges))
    for om, of_dom in enumerate(charges, start=1):
        dom(made, om, versions, of_dom)
    return made.content + b"tanks and times"


@pytest.mark.parametrize("versions", [(12, 1), (12, 2), (13, 2), (13, 3), (13, 4)])
def test_mean_charges(versions: tuple[int, int]) -> None:
    charges: list[tuple[float, ...]] = [(1.25, 0.8), (np.nan, 2.0), (0.0, np.inf), (-1.0, 1.0)]
    for version in (1, 4):  # what differs follows the DOMs
        found = decode(calibration(versions, charges, version))
        assert isinstance(found, DomCalibration)
        assert found.keys.tolist() == [(3, om, 0) for om in (1, 2, 3, 4)]
        np.testing.assert_equal(found.atwd_charge, [1.25, np.nan, np.nan, np.nan])
        np.testing.assert_equal(found.fadc_charge, [0.8, 2.0, np.nan, 1.0])


def test_mean_charges_that_are_marked_as_not_valid() -> None:
    found = decode(calibration((11, 1), [(1.25, 0.8, True, False), (1.5, 0.5, False, True)]))
    np.testing.assert_equal(found.atwd_charge, [1.25, np.nan])
    np.testing.assert_equal(found.fadc_charge, [np.nan, 0.5])


@pytest.mark.parametrize("versions", [(10, 1), (14, 1), (12, 0), (12, 5)])
def test_unknown_versions(versions: tuple[int, int]) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        decode(calibration(versions, [(1.0, 1.0)]))


def test_every_truncation_is_refused() -> None:
    content = calibration((13, 4), [(1.0, 1.0), (1.0, 1.0)]).removesuffix(b"tanks and times")
    decode(content)
    for end in range(0, len(content), 7):
        with pytest.raises(DataError):
            decode(content[:end])


def frame_with(charges: Any, *pulses: tuple[int, float, int]) -> Frame:
    """A frame with pulses: module, charge and flags."""
    keys = np.array([(3, om, 0) for om, _, _ in pulses], OM_KEY)
    items = np.array([(10.0 * om, charge, 2.0, flags) for om, charge, flags in pulses], PULSE)
    new = Frame("Q")
    new.put("P", OMKeyMap(keys, np.ones(len(keys), dtype=np.int64), items))
    new.put("corrected", CorrectedPulses("P", "I3Calibration"))
    new.inherited = {"I3Calibration": StoredObject("", calibration((12, 2), charges))}
    return new


def test_corrected_charges() -> None:
    """Divided by the mean of ATWD where that has the flag 2, or else of FADC."""
    charges = [(1.25, 0.8), (np.nan, 2.0), (4.0, np.nan)]
    pulses = (1, 1.0, 7), (2, 1.0, 7), (3, 1.0, 4)
    frame = frame_with(charges, *pulses)
    assert frame["corrected"].items["charge"].tolist() == [np.float32(0.8), 1.0, 1.0]
    assert frame["P"].items["charge"].tolist() == [1.0] * 3
    frame = frame_with(charges, *((om, 3.0, 6 - flags) for om, _, flags in pulses if flags != 7))
    assert frame["corrected"].items["charge"].tolist() == [0.75]
    frame = frame_with(charges, (1, 2.0, 5), (2, 3.0, 4))
    corrected = frame["corrected"]
    assert corrected.items["charge"].tolist() == [2.5, 1.5]
    assert corrected.items["time"].tolist() == [10.0, 20.0]
    assert corrected.keys.tolist() == [(3, 1, 0), (3, 2, 0)]


def test_a_dom_without_calibration() -> None:
    for om in (1, 5):
        with pytest.raises(DataError, match=rf"no photomultiplier \(3, {om}, 0\)"):
            frame_with([], (om, 1.0, 7))["corrected"]
    with pytest.raises(DataError, match="no photomultiplier"):
        frame_with([(1.0, 1.0)], (2, 1.0, 7))["corrected"]


def test_without_calibration() -> None:
    frame = frame_with([(1.0, 1.0)], (1, 1.0, 7))
    frame.inherited = {}
    with pytest.raises(DataError, match="read the GCD file"):
        frame["corrected"]
    frame.put("I3Calibration", 1.0)
    with pytest.raises(DataError, match="read the GCD file"):
        frame["corrected"]
