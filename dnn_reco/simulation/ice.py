"""The ice at the South Pole: how it scatters and absorbs light, layer by layer."""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEIGHBOURHOOD = 10.0
"""Height in m over which a path that stays at one depth samples the layers around it: scattered
light does not run on a line."""


@dataclass(frozen=True)
class Ice:
    """Horizontal layers of equal thickness, the lowest first; the outermost are unlimited.

    Attributes
    ----------
    bottom
        Depth z in m, detector coordinates, of the lower edge of the lowest layer.
    thickness
        Thickness of the layers in m.
    scattering
        Effective scattering coefficient 1/λ_e [l] in 1/m of each layer: the inverse of the distance
        over which light forgets its direction.
    absorption
        Absorption coefficient 1/λ_a [l] in 1/m of each layer.
    """

    bottom: float
    thickness: float
    scattering: NDArray[np.float64]
    absorption: NDArray[np.float64]

    def edges(self) -> NDArray[np.float64]:
        """Depths z [l + 1] in m of the edges of the layers."""
        return self.bottom + self.thickness * np.arange(len(self.scattering) + 1.0)

    def columns(self, z: NDArray[np.float64]) -> "Columns":
        """What light meets between the lowest layer and depths z [n] in m."""
        low, high = z - NEIGHBOURHOOD / 2, z + NEIGHBOURHOOD / 2
        return Columns(
            z,
            self._integral(self.scattering, low),
            self._integral(self.scattering, high),
            self._integral(self.absorption, low),
            self._integral(self.absorption, high),
        )

    def _integral(
        self, coefficient: NDArray[np.float64], z: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        edges = self.edges()
        sums = np.concatenate([[0.0], np.cumsum(coefficient * self.thickness)])
        outside = np.minimum(z - edges[0], 0) * coefficient[0]
        outside += np.maximum(z - edges[-1], 0) * coefficient[-1]
        return np.asarray(np.interp(z, edges, sums) + outside, dtype=np.float64)


@dataclass(frozen=True)
class Columns:
    """Coefficients summed up from the lowest layer to depths z [n], numpy or torch arrays.

    Attributes
    ----------
    z
        Depths [n] in m.
    scattering_low, scattering_high, absorption_low, absorption_high
        The sums [n] half of `NEIGHBOURHOOD` below and above each depth.
    """

    z: Any
    scattering_low: Any
    scattering_high: Any
    absorption_low: Any
    absorption_high: Any

    def __getitem__(self, index: Any) -> "Columns":
        return Columns(*(values[index] for values in vars(self).values()))


def mean_coefficients(xp: Any, a: Columns, b: Columns) -> tuple[Any, Any]:
    """Means of 1/λ_e and 1/λ_a [n] in 1/m over the depths between pairs of places.

    Parameters
    ----------
    xp
        The library of the arrays: numpy or torch.
    a, b
        The two ends [n] of each path.
    """
    height = abs(a.z - b.z) + NEIGHBOURHOOD
    scattering = xp.maximum(a.scattering_high, b.scattering_high)
    scattering = scattering - xp.minimum(a.scattering_low, b.scattering_low)
    absorption = xp.maximum(a.absorption_high, b.absorption_high)
    absorption = absorption - xp.minimum(a.absorption_low, b.absorption_low)
    return scattering / height, absorption / height


@cache
def south_pole_ice() -> Ice:
    """The ice of `ice.json`, fitted to a photon-tracking simulation (docs/simulation.md)."""
    file = resources.files("dnn_reco.simulation").joinpath("ice.json")
    table = json.loads(file.read_text(encoding="utf-8"))
    return Ice(
        table["bottom"],
        table["thickness"],
        1 / np.array(table["scattering_length"]),
        1 / np.array(table["absorption_length"]),
    )
