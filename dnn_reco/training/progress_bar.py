"""The progress bar of a training."""

from __future__ import annotations

import time

from tqdm import tqdm


class ProgressBar:
    """Iterations done, events a second, and the share of time spent waiting for data.

    Parameters
    ----------
    first, last
        Iterations done at the start and wanted in the end.
    batch_size
        Events of an iteration.
    """

    def __init__(self, first: int, last: int, batch_size: int) -> None:
        self._first = first
        self._batch_size = batch_size
        self._start = time.perf_counter()
        self._bar = tqdm(
            total=last,
            initial=first,
            desc="Training",
            unit="step",
            dynamic_ncols=True,
            leave=False,
            disable=None,
        )

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    def update(self, iterations: int, seconds_waited: float, remark: str = "") -> None:
        """Show that so many iterations are done and so long was waited for data, and a remark."""
        self._bar.update(iterations - self._bar.n)
        if self._bar.disable:
            return
        done = iterations - self._first
        self._bar.set_postfix_str(
            f"{done * self._batch_size / self.seconds:,.0f} events/s, "
            f"{seconds_waited / self.seconds:.1%} waiting for data"
            f"{remark and f', {remark}'}",
            refresh=False,
        )

    def print(self, text: str) -> None:
        """Print text above the bar."""
        tqdm.write(text)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()
