"""The progress bar of a training."""

from __future__ import annotations

import sys

from tqdm import tqdm

from dnn_reco.progress import Progress


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
        self._progress = Progress(last, "Training", "iterations", initial=first)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return self._progress.seconds

    def update(self, iterations: int, seconds_waited: float, remark: str = "") -> None:
        """Show that so many iterations are done and so long was waited for data, and a remark."""
        if self._progress.is_shown:
            done = iterations - self._first
            self._progress.remark = (
                f"{done * self._batch_size / self.seconds:,.0f} events/s, "
                f"{seconds_waited / self.seconds:.1%} waiting"
                f"{remark and f', {remark}'}"
            )
        self._progress.update(iterations - self._progress.done)

    def print(self, text: str) -> None:
        """Print text above the bar."""
        tqdm.write(text)
        sys.stdout.flush()  # rows of a log must not wait for the next ones
        self._progress.postpone_line()

    def close(self) -> None:
        """Remove the bar."""
        self._progress.close()
