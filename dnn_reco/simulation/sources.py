"""Containers passed between the steps of the simulation: flat arrays over many events."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LightSources:
    """s showers and stretches of bare muon track, sorted by event.

    Attributes
    ----------
    num_events
        Number of events n.
    event
        Event of each source [s], 0 … n - 1.
    position
        Where the light starts [s, 3] in m, detector coordinates.
    time
        When it starts [s] in ns.
    direction
        Unit vectors of flight [s, 3].
    energy
        Electromagnetic-equivalent energy [s] of showers in GeV.
    length
        Length [s] in m of a stretch of bare track that starts at `position`, with the showers
        spread evenly along it; 0 for a single shower, which is so short that all its light comes
        from `position` (long showers are several sources).
    """

    num_events: int
    event: NDArray[np.int64]
    position: NDArray[np.float64]
    time: NDArray[np.float64]
    direction: NDArray[np.float64]
    energy: NDArray[np.float64]
    length: NDArray[np.float64]

    def part(self, which: slice) -> "LightSources":
        """Some of the sources, of as many events."""
        return LightSources(
            self.num_events,
            self.event[which],
            self.position[which],
            self.time[which],
            self.direction[which],
            self.energy[which],
            self.length[which],
        )


@dataclass(frozen=True)
class PhotoElectrons:
    """p detected photons of n events, in no order.

    Attributes
    ----------
    num_events
        Number of events n.
    event, dom
        Event [p] and DOM index [p] of each.
    time
        Arrival time [p] in ns.
    weight
        Number of photo-electrons [p] that this entry stands for: 1, more in very bright DOMs.
    """

    num_events: int
    event: NDArray[np.int64]
    dom: NDArray[np.int64]
    time: NDArray[np.float64]
    weight: NDArray[np.float64]
