"""Pulses of a DOM that follow each other closely, merged into one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dnn_reco.data.hit_pulses import hit_pulses
from dnn_reco.data.pulses import Pulses


def merge_pulses(pulses: Pulses, within: float) -> Pulses:
    """Merge each pulse into the one before it, if it comes soon after that one's start.

    A merged pulse has the time and flags of its first pulse. The time is compared to the start of
    the merged pulse, not to the latest pulse in it, so that none becomes longer than `within`.
    Pulses of surface tanks, which have no DOM index, stay as they are.

    Parameters
    ----------
    pulses
        Pulses of n events.
    within
        Longest time in ns from the start of a merged pulse to a pulse in it.

    Notes
    -----
    Charges are added in float32, the type that frames store them in.
    """
    hits = hit_pulses(pulses)
    number = np.flatnonzero(pulses.dom >= 0)  # of each pulse of the hits, among all pulses
    charge = pulses.charge.copy()
    keep = np.ones(len(charge), dtype=bool)
    running = number[hits.offsets[:-1]]  # the merged pulse of each hit that may still grow
    for position in range(1, int(hits.num_pulses.max(initial=0))):
        has_more = hits.num_pulses > position
        now, before = number[hits.offsets[:-1][has_more] + position], running[has_more]
        joins = pulses.time[now] - pulses.time[before] <= within
        into, merged = before[joins], now[joins]
        charge[into] = charge[into].astype(np.float32) + charge[merged].astype(np.float32)
        keep[merged] = False
        running[has_more] = np.where(joins, before, now)
    return replace(pulses, charge=charge).select(keep)
