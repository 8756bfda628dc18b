"""Times and charges of the first pulses of a DOM, as features beside those that summarise all.

The format `pulse_summary_and_first_pulses_N` has the nine features of `pulse_summmary_clipped`,
then the times of the first N pulses, then their charges.
"""

import re

import numpy as np

from dnn_reco.data.hit_pulses import HitPulses, Numbers

FIRST_PULSES_FORMAT = "pulse_summary_and_first_pulses_N"
"""Name of the format; N stands for the number of pulses."""
NUM_SUMMARY_FEATURES = 9
"""Number of features before those of the pulses."""
MAX_PULSES = 100
_NAME = re.compile(re.escape(FIRST_PULSES_FORMAT.removesuffix("N")) + "([1-9][0-9]{0,2})")


def num_first_pulses(data_format: str) -> int | None:
    """The number of pulses N, at most `MAX_PULSES`, in the name of a format; None: another one."""
    found = _NAME.fullmatch(data_format)
    number = int(found.group(1)) if found else None
    return number if number is not None and number <= MAX_PULSES else None


def first_pulses(hits: HitPulses, num_pulses: int) -> Numbers:
    """Times, then charges, of the first N pulses of each hit [k, 2N].

    Pulses that a DOM does not have, have the time of its first and no charge.
    """
    first, stop = hits.offsets[:-1, None], hits.offsets[1:, None]
    place = first + np.arange(num_pulses)
    exists = place < stop
    place = np.where(exists, place, first)
    return np.hstack([hits.time[place], np.where(exists, hits.charge[place], 0.0)])
