"""From photo-electrons to the pulses of the events that trigger."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.pulses import Pulses
from dnn_reco.simulation.detector import Detector
from dnn_reco.simulation.noise import NoiseSettings, noise_pulses
from dnn_reco.simulation.photomultiplier import (
    PhotomultiplierSettings,
    anode_pulses,
    combined,
)
from dnn_reco.simulation.readout import ReadoutSettings, find_launches, read_out, time_ordered
from dnn_reco.simulation.sources import PhotoElectrons
from dnn_reco.simulation.trigger import TriggerSettings, multiplicity_trigger


@dataclass(frozen=True)
class ResponseSettings:
    """Settings of each part of the detector."""

    photomultiplier: PhotomultiplierSettings = field(default_factory=PhotomultiplierSettings)
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    readout: ReadoutSettings = field(default_factory=ReadoutSettings)
    trigger: TriggerSettings = field(default_factory=TriggerSettings)


@dataclass(frozen=True)
class Detected:
    """Recorded pulses of n events, k of which trigger.

    Attributes
    ----------
    pulses
        Pulses of the k triggered events, numbered 0 … k - 1; the trigger begins at 10,000 ns.
    triggered
        Which events [k] triggered, ascending.
    time_shift
        Time [k] in ns to be added to the true times of these events, so that they fit the pulses.
    """

    pulses: Pulses
    triggered: NDArray[np.int64]
    time_shift: NDArray[np.float64]


def detect(
    photoelectrons: PhotoElectrons,
    detector: Detector,
    settings: ResponseSettings,
    rng: np.random.Generator,
) -> Detected:
    """Response of the detector to the light of n events, dark noise included.

    Parameters
    ----------
    photoelectrons
        Photo-electrons of working DOMs; what dead DOMs have is dropped. The efficiency of the DOMs
        is in their number already.
    detector
        Which DOMs work; the noise is proportional to their efficiency.
    """
    light = _of_working_doms(photoelectrons, detector)
    origin = _earliest(light)
    light = PhotoElectrons(
        light.num_events, light.event, light.dom, light.time - origin[light.event], light.weight
    )
    anode = anode_pulses(light, settings.photomultiplier, rng)

    trigger = settings.trigger
    end = np.zeros(light.num_events)
    np.maximum.at(end, anode.event, anode.time)
    # Noise may begin the trigger a window before the light.
    start = np.full(light.num_events, -(trigger.window + trigger.readout_before))
    stop = end + trigger.readout_after + settings.readout.fadc_length
    noise = noise_pulses(
        start, stop, detector.efficiency, settings.noise, settings.photomultiplier, rng
    )
    anode = time_ordered(combined(anode, noise))
    launches = find_launches(anode, settings.readout)
    lc = launches.coincident
    triggers = multiplicity_trigger(launches.event[lc], launches.time[lc], trigger)

    number = np.full(light.num_events, -1)
    number[triggers.event] = np.arange(len(triggers.event))
    first = np.full(light.num_events, np.inf)
    first[triggers.event] = triggers.start - trigger.readout_before
    last = np.full(light.num_events, -np.inf)
    last[triggers.event] = triggers.stop + trigger.readout_after
    keep = (launches.time >= first[launches.event]) & (launches.time <= last[launches.event])
    found, flags = read_out(anode, launches, keep, settings.readout, rng)

    shift = trigger.time - triggers.start
    event = number[found.event]
    # The jitter of the coarse digitiser may reach before the start of the readout.
    time = np.maximum(found.time + shift[event], 0.0)
    order = np.lexsort((time, found.dom, event))
    pulses = Pulses(
        num_events=len(triggers.event),
        event=event[order],
        dom=found.dom[order],
        time=time[order],
        # in single precision, as the detector's files hold charges
        charge=found.charge[order].astype(np.float32).astype(np.float64),
        flags=flags[order],
    )
    return Detected(pulses, triggers.event, shift - origin[triggers.event])


def _of_working_doms(photoelectrons: PhotoElectrons, detector: Detector) -> PhotoElectrons:
    works = detector.efficiency[photoelectrons.dom] > 0
    return PhotoElectrons(
        photoelectrons.num_events,
        photoelectrons.event[works],
        photoelectrons.dom[works],
        photoelectrons.time[works],
        photoelectrons.weight[works],
    )


def _earliest(light: PhotoElectrons) -> NDArray[np.float64]:
    """Time [n] in ns of the first photo-electron of each event; 0 where there is none."""
    first = np.full(light.num_events, np.inf)
    np.minimum.at(first, light.event, light.time)
    return np.where(np.isfinite(first), first, 0.0)
