"""Corrections of charges, from the calibration of a detector.

Source of the order of the content: IceTray, I3Calibration, I3DOMCalibration and
SPEChargeDistribution.
"""

from __future__ import annotations

import struct

import numpy as np

from dnn_reco.errors import DataError
from dnn_reco.i3.archive import F8, U1, U4, InputArchive
from dnn_reco.i3.objects import OM_KEY, DomCalibration
from dnn_reco.i3.records import OM_KEY_RECORD, TIME_RECORD

_VERSIONS = (11, 12, 13)  # of a DOM's calibration: older ones have no corrections
_ATWDS, _CHANNELS, _BINS = 2, 3, 128
_LATEST_CALIBRATION, _LATEST_DISTRIBUTION = 4, 4
_PARAMETERS_BY_NAME = {1: 5, 2: 9}  # of a charge distribution's versions without a list of terms
_CLASS_NUMBER = struct.Struct("<h")
_PARAMETERS = {"Gaussian": 3, "Exponential": 2, "PDF": 0}


def read_calibration(archive: InputArchive, version: int) -> DomCalibration:
    """Corrections of charges of an I3Calibration; what follows the DOMs is not read.

    Experimental: no file with a calibration was at hand.

    Raises
    ------
    DataError
        If a version is not known or has no corrections.
    """
    if version > _LATEST_CALIBRATION:
        raise DataError(f"a calibration in version {version} cannot be read")
    number = archive.container("map<OMKey, I3DOMCalibration>", 8)
    keys = np.zeros(number, OM_KEY)
    charges = np.zeros((number, 2))
    reader = _DomReader(archive)
    for i in range(number):
        archive.class_version("pair<OMKey, I3DOMCalibration>")
        keys[i] = archive.records(OM_KEY_RECORD, 1)[0]
        charges[i] = archive.either("I3DOMCalibration", reader.mean_charges)
    charges[~(np.isfinite(charges) & (charges > 0))] = np.nan
    order = np.argsort(keys, kind="stable")  # they are in order in any file that is not damaged
    return DomCalibration(keys[order], *charges[order].T)


class _DomReader:
    """Reads the calibrations of DOMs one after the other."""

    def __init__(self, archive: InputArchive) -> None:
        self._archive = archive
        self._pointed_to: dict[int, tuple[str, bool]] = {}  # number of a class: name, is tracked

    def mean_charges(self, version: int) -> tuple[float, float]:
        """Mean charges for ATWD and FADC; NaN: not valid."""
        if version not in _VERSIONS:
            raise DataError(
                f"the calibration of a DOM in version {version} cannot be read, only in versions "
                f"{_VERSIONS[0]} to {_VERSIONS[-1]}"
            )
        archive = self._archive
        self._numbers(2)  # temperature, gain of the FADC
        self._fit("LinearFit", 2)  # baseline of the FADC
        self._numbers(1)
        self._array(_CHANNELS)  # gains of the amplifiers
        self._expect(_ATWDS)
        for _ in range(_ATWDS):
            self._fit("QuadraticFit", 3)  # frequency
        self._expect(_ATWDS)
        for _ in range(_ATWDS):
            self._expect(_CHANNELS)
            for _ in range(_CHANNELS):
                self._array(_BINS)
        self._fit("LinearFit", 2)  # transit time
        self._fit("LinearFit", 2)  # gain
        self._numbers(1)  # impedance
        archive.string()  # version of the program that calibrated
        self._fit("TauParam", 7)  # droop
        self._array(_ATWDS)  # offsets of time
        for _ in range(3):
            self._fit("LinearFit", 2)  # discriminators
        self._numbers(2)  # efficiency, noise rate
        self._expect(_ATWDS)
        for _ in range(_ATWDS):
            self._array(_CHANNELS)  # baselines
        self._numbers(1 + 5)  # baseline of the FADC, noise
        archive.either("SPEChargeDistribution", self._distribution)
        atwd, fadc = archive.number(F8), archive.number(F8)
        if version == _VERSIONS[0]:
            atwd, fadc = (charge if archive.flag() else float("nan") for charge in (atwd, fadc))
        if version == _VERSIONS[-1]:
            archive.records(TIME_RECORD, 1)
        return atwd, fadc

    def _numbers(self, number: int) -> None:
        self._archive.take(number * F8.size)

    def _array(self, number: int) -> None:
        self._expect(number)
        self._numbers(number)

    def _expect(self, number: int) -> None:
        """The number of items of an array that always has as many."""
        found = self._archive.number(U4)
        if found != number:
            raise DataError(f"the calibration of a DOM has {found} values in place of {number}")

    def _fit(self, name: str, number: int) -> None:
        self._archive.either(name, lambda _: self._numbers(number))

    def _distribution(self, version: int) -> None:
        """The distribution of charges of single photoelectrons."""
        if version in _PARAMETERS_BY_NAME:
            self._numbers(_PARAMETERS_BY_NAME[version])
            return
        if not max(_PARAMETERS_BY_NAME) < version <= _LATEST_DISTRIBUTION:
            raise DataError(f"a distribution of charges in version {version} cannot be read")
        for _ in range(self._archive.container("vector<pointer to PDF>", 2)):
            self._pointer("PDF")
        self._numbers(2)  # factors
        self._pointer("Residuals")
        if version == _LATEST_DISTRIBUTION:
            self._numbers(1)  # limit of integrals

    def _pointer(self, to: str) -> None:
        """A pointer to an object, which follows unless it has occurred."""
        archive = self._archive
        archive.class_version(f"pointer to {to}")
        number = archive.number(_CLASS_NUMBER)
        if number < 0:  # to nothing
            return
        if number not in self._pointed_to:
            # Only classes that others are derived from have their name in the file.
            name = archive.string().rpartition("::")[2] if to == "PDF" else to
            self._pointed_to[number] = name, archive.flag()
            archive.number(U1)  # version
        name, is_tracked = self._pointed_to[number]
        if is_tracked:
            if archive.number(U4) != archive.num_objects:
                return
            archive.num_objects += 1
        self._content(name)

    def _content(self, name: str) -> None:
        if name == "Residuals":
            for _ in "xy":
                self._archive.numbers("f8")
        elif name in _PARAMETERS:
            self._numbers(_PARAMETERS[name])
        else:
            raise DataError(f"a distribution of charges has a term of class {name}")
