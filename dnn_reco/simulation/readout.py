"""Readout of a DOM: launches, and the pulses found in their waveforms.

A DOM *launches* when a pulse exceeds the discriminator. With another launch close by on its string
(local coincidence) it digitises 422 ns finely (ATWD) and 6.4 μs coarsely (FADC); an isolated launch
keeps only the first few coarse samples. It then is blind until the readout is done (Aartsen et
al., JINST 12 (2017) P03012).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.pulses import ATWD, FADC, LOCAL_COINCIDENCE
from dnn_reco.detector.geometry import NUM_DOMS, NUM_DOMS_PER_STRING
from dnn_reco.simulation.photomultiplier import AnodePulses


@dataclass(frozen=True)
class ReadoutSettings:
    """Electronics of a DOM; times in ns.

    The values follow Aartsen et al., JINST 12 (2017) P03012 and, where that is silent, the pulses
    of the photon-tracking reference simulation.

    Attributes
    ----------
    discriminator
        Charge in PE that starts a launch.
    coincidence_reach, coincidence_window
        Two launches coincide when the DOMs are at most so many places apart on one string, and the
        times at most so many ns.
    atwd_length, fadc_length, isolated_length
        How long after the launch the fine and the coarse digitiser see pulses, and how long when
        the launch is isolated.
    coincident_dead_time, isolated_dead_time
        From one launch to the earliest next.
    atwd_width, fadc_width
        Pulses of less than this distance cannot be resolved by the fine and by the coarse
        digitiser: they are merged.
    fadc_jitter
        Standard deviation by which the coarse digitiser shifts a pulse.
    saturation
        Current in PE/ns at which a photomultiplier gives half of its charge.
    min_charge
        Pulses of less charge in PE are not found.
    """

    discriminator: float = 0.25
    coincidence_reach: int = 2
    coincidence_window: float = 1000.0
    atwd_length: float = 422.0
    fadc_length: float = 6400.0
    isolated_length: float = 62.5
    coincident_dead_time: float = 6450.0
    isolated_dead_time: float = 2450.0
    atwd_width: float = 3.3
    fadc_width: float = 13.0
    fadc_jitter: float = 2.2
    saturation: float = 30.0
    min_charge: float = 0.1


@dataclass(frozen=True)
class Launches:
    """l launches, sorted by event, DOM and time.

    Attributes
    ----------
    pulse
        Which pulse [l] started it.
    event, dom, time
        Event [l], DOM index [l] and time [l] in ns.
    coincident
        Whether there is local coincidence [l].
    """

    pulse: NDArray[np.int64]
    event: NDArray[np.int64]
    dom: NDArray[np.int64]
    time: NDArray[np.float64]
    coincident: NDArray[np.bool_]


def time_ordered(pulses: AnodePulses) -> AnodePulses:
    """The pulses sorted by event, DOM and time."""
    position, _ = _on_one_axis(pulses.event * NUM_DOMS + pulses.dom, pulses.time, 0.0)
    return pulses.select(np.argsort(position))


def find_launches(pulses: AnodePulses, settings: ReadoutSettings) -> Launches:
    """Launches [l] started by pulses [h], which must be sorted by event, DOM and time.

    Only single pulses above the discriminator start launches; piled up smaller ones do not.
    """
    above = np.flatnonzero(pulses.charge >= settings.discriminator)
    time = pulses.time[above]
    channel = pulses.event[above] * NUM_DOMS + pulses.dom[above]
    # Whether a launch coincides decides how long the DOM is blind, hence when it launches again.
    # The first guess is that every pulse launches; after the second round hardly any DOM changes.
    coincident = local_coincidence(channel, time, settings)
    launch = np.zeros(0, dtype=np.int64)
    for _ in range(2):
        dead = np.where(coincident, settings.coincident_dead_time, settings.isolated_dead_time)
        launch = first_of_each(channel, time, dead)
        coincident[launch] = local_coincidence(channel[launch], time[launch], settings)
    pulse = above[launch]
    return Launches(
        pulse, pulses.event[pulse], pulses.dom[pulse], pulses.time[pulse], coincident[launch]
    )


def local_coincidence(
    channel: NDArray[np.int64], time: NDArray[np.float64], settings: ReadoutSettings
) -> NDArray[np.bool_]:
    """Whether there is another launch near by on the string, for each launch [l].

    Parameters
    ----------
    channel
        Numbers 5160 event + DOM index [l] of the launches.
    time
        Times [l] in ns; the launches are sorted by channel and time.
    """
    window = settings.coincidence_window
    position, spacing = _on_one_axis(channel, time, window)
    coincident = np.zeros(len(channel), dtype=bool)
    for step in range(-settings.coincidence_reach, settings.coincidence_reach + 1):
        place = channel % NUM_DOMS_PER_STRING + step
        if step:
            there = position + step * spacing
            # The earliest launch that is not too early must not be too late either.
            earliest = np.searchsorted(position, there - window)
            on_string = (place >= 0) & (place < NUM_DOMS_PER_STRING)
            coincident |= on_string & (np.append(position, np.inf)[earliest] <= there + window)
    return coincident


def read_out(
    pulses: AnodePulses,
    launches: Launches,
    keep: NDArray[np.bool_],
    settings: ReadoutSettings,
    rng: np.random.Generator,
) -> tuple[AnodePulses, NDArray[np.uint8]]:
    """Pulses found [p] in the launches that are kept, and their flags [p].

    Pulses of one DOM are in order of time but for the jitter of the coarse digitiser.

    Parameters
    ----------
    pulses
        Pulses [h], sorted by event, DOM and time.
    launches
        Their launches [l].
    keep
        Mask [l].
    """
    channel = pulses.event * NUM_DOMS + pulses.dom
    position, _ = _on_one_axis(channel, pulses.time, settings.fadc_length)
    length = np.where(launches.coincident, settings.fadc_length, settings.isolated_length)[keep]
    begin = launches.pulse[keep]
    size = np.searchsorted(position, position[begin] + length) - begin
    launch = np.repeat(np.flatnonzero(keep), size)
    seen = np.repeat(begin - np.cumsum(size) + size, size) + np.arange(size.sum())

    coincident = launches.coincident[launch]
    fine = coincident & (pulses.time[seen] - launches.time[launch] < settings.atwd_length)
    flags = np.where(coincident, LOCAL_COINCIDENCE, 0).astype(np.uint8)
    flags += np.where(fine, ATWD, FADC).astype(np.uint8)
    merged, flags = merge(pulses.select(seen), flags, settings)
    charge = saturated(merged.charge, flags, settings)
    shift = rng.normal(0.0, settings.fadc_jitter, len(merged)) * ((flags & FADC) != 0)
    found = AnodePulses(merged.event, merged.dom, merged.time + shift, charge)
    enough = charge >= settings.min_charge
    return found.select(enough), flags[enough]


def merge(
    pulses: AnodePulses, flags: NDArray[np.uint8], settings: ReadoutSettings
) -> tuple[AnodePulses, NDArray[np.uint8]]:
    """Pulses and their flags, with those too close to be resolved merged.

    All pulses within the width of the digitiser after the first pulse of a DOM join it, the next
    one starts again. The sum keeps the time of its first pulse. Pulses of different flags stay
    apart. `pulses` [h] must be sorted by event, DOM and time.
    """
    changes = (np.diff(pulses.event) != 0) | (np.diff(pulses.dom) != 0) | (np.diff(flags) != 0)
    run = np.cumsum(np.append(False, changes)[: len(pulses)])
    first = first_of_each(run, pulses.time, _width(flags, settings))
    if not len(first):
        return pulses, flags
    charge = np.add.reduceat(pulses.charge, first)
    merged = AnodePulses(pulses.event[first], pulses.dom[first], pulses.time[first], charge)
    return merged, flags[first]


def saturated(
    charge: NDArray[np.float64], flags: NDArray[np.uint8], settings: ReadoutSettings
) -> NDArray[np.float64]:
    """Charge [p] in PE that is left of so much by saturation: q / (1 + I / I_s), I = q / width."""
    return charge / (1 + charge / _width(flags, settings) / settings.saturation)


def first_of_each(
    group: NDArray[np.int64], time: NDArray[np.float64], window: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Indices [k] of the values that start a window of time.

    The first value of each group starts one, all within its window are passed over, the next value
    starts another, and so on.

    Parameters
    ----------
    group
        Group [h] of each value, 0 or more.
    time
        Times [h]; the values are sorted by group and time.
    window
        Length [h] of the window that each value would start, more than 0.
    """
    position, _ = _on_one_axis(group, time, window.max(initial=0.0))
    following = np.searchsorted(position, position + window)
    first = np.diff(group, prepend=-1) != 0
    current = np.flatnonzero(first)
    while len(current):
        current = following[current]
        current = current[current < len(first)]
        current = current[~first[current]]
        first[current] = True
    return np.flatnonzero(first)


def _on_one_axis(
    group: NDArray[np.int64], time: NDArray[np.float64], gap: float
) -> tuple[NDArray[np.float64], float]:
    """Places [h] of all groups on one axis, and the distance of two groups on it.

    Differences within a group are those of the times; values of two groups are more than `gap`
    apart. Hence one binary search serves all groups.
    """
    start = time.min(initial=0.0)
    spacing = time.max(initial=start) - start + 2 * gap + 1.0
    return group * spacing + (time - start), spacing


def _width(flags: NDArray[np.uint8], settings: ReadoutSettings) -> NDArray[np.float64]:
    return np.where(flags & ATWD, settings.atwd_width, settings.fadc_width)
