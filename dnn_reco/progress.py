"""Progress of long work: a bar on a terminal, in logs and pipes a line now and then.

It is shown where messages of the level INFO are, that is, not with `--quiet`, nor in worker
processes, nor in programs that use the package without its command line.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TypeVar

from tqdm import tqdm

from dnn_reco.amounts import time_in_words

_log = logging.getLogger(__name__)

# Seconds between two lines: at least the first number, with a tenth of the work done in between,
# and about the second one where that takes longer.
_SECONDS, _MOST_SECONDS = 30.0, 600.0

# With a remark, the rate is left out, so that the bar fits on a terminal of 80 columns.
_BAR_WITH_REMARK = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"

Item = TypeVar("Item")


class Progress:
    """Progress of a piece of work.

    Parameters
    ----------
    total
        Units of work; None: not known.
    title
        What is done, such as "Counting".
    unit
        What is counted, in the plural, such as "files".
    initial
        Units that were done before.
    shown
        False: nothing is shown. It is not shown either where messages are not.
    """

    def __init__(
        self, total: int | None, title: str, unit: str, initial: int = 0, shown: bool = True
    ) -> None:
        self.done = initial
        self.remark = ""
        self._total, self._title, self._unit, self._initial = total, title, unit, initial
        self._start = self._time_of_line = time.perf_counter()
        self._done_at_line = initial
        self._writes_lines = shown and _log.isEnabledFor(logging.INFO) and not _is_terminal()
        self._bar = tqdm(
            total=total,
            initial=initial,
            desc=title,
            unit=f" {unit}",
            dynamic_ncols=True,
            leave=False,
            disable=not (shown and _log.isEnabledFor(logging.INFO) and _is_terminal()),
        )

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    @property
    def is_shown(self) -> bool:
        """Whether anything is ever shown: remarks need not be made otherwise."""
        return self._writes_lines or not self._bar.disable

    def update(self, count: int = 1) -> None:
        """So many further units are done."""
        self.done += count
        if not self._bar.disable:
            if self.remark:
                self._bar.bar_format = _BAR_WITH_REMARK
                self._bar.set_postfix_str(self.remark, refresh=False)
            self._bar.update(count)
        elif self._writes_lines and self._is_due():
            _log.info("%s", self._line())
            self.postpone_line()

    def postpone_line(self) -> None:
        """Let the next line of a log wait, as something else was printed about the work."""
        self._time_of_line, self._done_at_line = time.perf_counter(), self.done

    def _is_due(self) -> bool:
        passed = time.perf_counter() - self._time_of_line
        if passed < _SECONDS or self.done == self._total:
            return False
        step = self.done - self._done_at_line
        return passed >= _MOST_SECONDS or self._total is None or 10 * step >= self._total

    def _line(self) -> str:
        words = f"{self.done:,} {self._unit}"
        done_here = self.done - self._initial
        left = ""
        if self._total:
            words = f"{self.done:,} of {self._total:,} {self._unit} ({self.done / self._total:.0%})"
            seconds = (self._total - self.done) * self.seconds / max(1, done_here)
            left = f", {time_in_words(seconds)} left" if done_here else ""
        remark = f", {self.remark}" if self.remark else ""
        return f"{self._title}: {words}{remark}{left}"

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def with_progress(
    items: Iterable[Item], total: int | None, title: str, unit: str
) -> Iterator[Item]:
    """The items, with the progress of going through them; parameters as of `Progress`."""
    with Progress(total, title, unit) as progress:
        for item in items:
            yield item
            progress.update()


def _is_terminal() -> bool:
    return sys.stderr.isatty()
