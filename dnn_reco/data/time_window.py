"""The search for the time window that holds most of the charge of an event, or of a DOM.

A window of fixed width slides in steps over the pulses, and the search remembers one position:
every later window that holds more charge replaces it, and so does one that holds a little less,
as long as the loss stays below a fraction of the total charge and below what fluctuations of the
detector noise would explain. The remembered window therefore creeps late in time.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.segments import accumulate, offsets_after, segment_of
from dnn_reco.errors import ConfigError

START_WITHOUT_PULSES = 9000.0
"""Start of the window of an event without pulses, ns."""

_NOISE_RATE = 0.003  # of the whole detector, PE per ns
_ALIGNMENT = 1000.0  # the sweep starts and ends at multiples of this, ns


@dataclass(frozen=True)
class WindowSearch:
    """Settings of the search.

    Attributes
    ----------
    width
        Width W of the window in ns.
    step
        Whole number of ns by which the window moves.
    charge_threshold
        Largest loss of charge in one replacement, as a fraction of the total charge; not negative.
    noise_threshold
        Smallest change of charge in one replacement, divided by the square root of the noise that
        is expected between both windows; not positive.

    Raises
    ------
    ConfigError
        For values for which the search is not defined.
    """

    width: float = 6000.0
    step: float = 1.0
    charge_threshold: float = 0.02
    noise_threshold: float = -8.0

    def __post_init__(self) -> None:
        if not (self.step >= 1 and self.step % 1 == 0 and 0 < self.width < np.inf):
            raise ConfigError(
                f"time window of {self.width:g} ns in steps of {self.step:g} ns: "
                "the width must be positive and the step a whole number of ns, at least 1"
            )
        if not (self.charge_threshold >= 0 and self.noise_threshold <= 0):
            raise ConfigError(
                f"thresholds {self.charge_threshold:g} and {self.noise_threshold:g} of the time "
                "window search: the first must be 0 or positive, the second 0 or negative"
            )


@dataclass(frozen=True)
class _Sweep:
    """Windows that matter: g sweeps, and for each a list of windows, m in all.

    Attributes
    ----------
    offsets
        [g + 1] the windows of sweep i are `offsets[i]:offsets[i + 1]`.
    charge
        Charge in each window [m].
    position
        Position T of the sweep [m] at which it evaluates this window: the window starts at
        T - W + step.
    """

    offsets: NDArray[np.int64]
    charge: NDArray[np.float64]
    position: NDArray[np.float64]


def window_starts(
    offsets: NDArray[np.int64],
    time: NDArray[np.float64],
    charge: NDArray[np.float64],
    search: WindowSearch = WindowSearch(),
) -> NDArray[np.float64]:
    """Start [n] of the best window of each of n lists of pulses.

    Parameters
    ----------
    offsets
        [n + 1] the pulses of list i are `offsets[i]:offsets[i + 1]`.
    time
        Times [p] in ns, finite, ascending in each list.
    charge
        Charges [p] in PE; the sum of a list must not be negative.
    search
        Settings.

    Notes
    -----
    With total charge Q, T goes from t_first in steps up to (t_last + W) - step, both ends
    truncated (towards zero) to multiples of 1000 ns. The window at T starts at T - W + step and
    holds the charge c of the last int(W / step) steps. It is accepted if d = c - c_accepted is at
    least -`charge_threshold` Q and d / sqrt(noise) at least `noise_threshold`, where noise is
    0.003 PE per ns of the time since the accepted start, that time being at least 1 ns and at most
    W. Before the first acceptance c_accepted and start are 0, and an accepted start is never before
    t_first (truncated). Results agree to the last bit with a loop over all T.
    """
    sizes = np.diff(offsets)
    starts = np.full(len(sizes), START_WITHOUT_PULSES)
    filled = sizes > 0
    first, last = offsets[:-1][filled], offsets[1:][filled] - 1
    begin = np.trunc(time[first] / _ALIGNMENT) * _ALIGNMENT
    end = np.trunc((time[last] + search.width) / _ALIGNMENT) * _ALIGNMENT
    group = segment_of(offsets[np.append(filled, True)])
    total = np.bincount(group, charge, minlength=len(first))
    charge_threshold = np.asarray(-total * search.charge_threshold, dtype=np.float64)

    sweep = _final_windows(_sweep(group, time, charge, begin, end, search))
    starts[filled] = _last_accepted(sweep, begin, charge_threshold, search)
    return starts


def _sweep(
    group: NDArray[np.int64],
    time: NDArray[np.float64],
    charge: NDArray[np.float64],
    begin: NDArray[np.float64],
    end: NDArray[np.float64],
    search: WindowSearch,
) -> _Sweep:
    """For each value of the windowed charge of sweeps from `begin` to `end`, its last window.

    The windowed charge changes only at steps at which a pulse enters or leaves. It is enough to
    know the last of the windows between two changes: the noise allowance grows with time and the
    charge stays, so that this one is accepted if any of them is.
    """
    step = int(search.step)
    num_steps = np.maximum(np.ceil((end - begin) / step) - 1, 0).astype(np.int64)
    # A pulse enters at the first step that ends after it; those before the sweep at once.
    enters = np.maximum((np.floor(time) - begin[group]).astype(np.int64) // step, 0)
    is_first = np.ones(len(time), dtype=bool)
    is_first[1:] = (np.diff(group) != 0) | (np.diff(enters) != 0)
    group, enters = group[is_first], enters[is_first]
    step_charge = np.bincount(np.cumsum(is_first) - 1, charge)

    # The changes of the windowed charge; each sweep starts with one that changes nothing.
    sweeps = np.arange(len(begin))
    changed = np.concatenate([sweeps, group, group])
    leaves = enters + int(search.width / step)
    at = np.concatenate([np.zeros_like(sweeps), enters, leaves])
    change = np.concatenate([np.zeros(len(sweeps)), step_charge, -step_charge])
    in_time = at < num_steps[changed]
    changed, at, change = changed[in_time], at[in_time], change[in_time]
    key = changed * (num_steps.max(initial=0) + 1) + at
    order = np.argsort(key, kind="stable")  # at the same step, charge enters before it leaves
    changed, at, key = changed[order], at[order], key[order]
    offsets = np.searchsorted(changed, np.arange(len(begin) + 1))
    window_charge = accumulate(np.add, change[order], offsets)

    is_last = np.ones(len(key), dtype=bool)
    is_last[:-1] = np.diff(key) != 0
    until = num_steps[changed]
    until[:-1] = np.where(np.diff(changed) == 0, at[1:], until[:-1])
    position = begin[changed[is_last]] + (until[is_last] - 1) * step
    return _Sweep(offsets_after(is_last, offsets), window_charge[is_last], position)


def _final_windows(sweep: _Sweep) -> _Sweep:
    """Only those windows that hold more charge than every later one.

    No others can decide which window is accepted last: whenever one is accepted, then so is the
    next of those kept here, having at least its charge and a larger noise allowance.
    """
    reverse = len(sweep.charge) - sweep.offsets[::-1]
    highest = accumulate(np.maximum, sweep.charge[::-1], reverse)[::-1]
    is_final = np.ones(len(highest), dtype=bool)
    is_final[:-1] = sweep.charge[:-1] > highest[1:]
    has_windows = sweep.offsets[1:] > sweep.offsets[:-1]
    is_final[sweep.offsets[1:][has_windows] - 1] = True
    offsets = offsets_after(is_final, sweep.offsets)
    return _Sweep(offsets, sweep.charge[is_final], sweep.position[is_final])


def _last_accepted(
    sweep: _Sweep,
    begin: NDArray[np.float64],
    charge_threshold: NDArray[np.float64],
    search: WindowSearch,
) -> NDArray[np.float64]:
    """Start [g] of the last accepted window of each sweep, all sweeps side by side."""
    accepted_charge = np.zeros(len(begin))
    start = np.zeros(len(begin))
    most_noise = max(_NOISE_RATE, search.width * _NOISE_RATE)
    index, stop = sweep.offsets[:-1].copy(), sweep.offsets[1:]
    running = np.flatnonzero(index < stop)
    while len(running):
        at = index[running]
        difference = sweep.charge[at] - accepted_charge[running]
        window_start = sweep.position[at] - search.width + search.step
        since = np.minimum(window_start - start[running], search.width)
        noise = np.maximum(_NOISE_RATE, since * _NOISE_RATE)
        enough = difference >= charge_threshold[running]
        is_accepted = enough & (difference / np.sqrt(noise) >= search.noise_threshold)
        accepted = running[is_accepted]
        accepted_charge[accepted] = sweep.charge[at[is_accepted]]
        start[accepted] = np.maximum(window_start[is_accepted], begin[accepted])
        # The charge of later windows is lower still: a sweep is over once the most generous noise
        # allowance would not do.
        is_open = enough & (difference / np.sqrt(most_noise) >= search.noise_threshold)
        index[running] += 1
        running = running[is_open & (at + 1 < stop[running])]
    return start
