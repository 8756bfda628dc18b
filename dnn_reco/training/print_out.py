"""The table that a training prints."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from dnn_reco.amounts import time_in_words
from dnn_reco.training.run_state import RunState

_ROWS_BETWEEN_HEADERS = 25
_LEGEND = "Losses of a training batch, a validation batch, and the validation set."
# At most 79 characters, unless numbers are unusually long.
_ROW = "{:>9} {:>9} {:>10}  {:<17} {:>8} {:>8} {:>11}"
_TITLES = ("iteration", "training", "validation", "validation set", "rate", "events/s", "left")


class TrainingTable:
    """A row for each validation; the header comes again now and then, a star marks the best one.

    Parameters
    ----------
    first, last
        Iterations done at the start and wanted in the end.
    validation_frequency
        Iterations between two validations with batches.
    write
        Prints a line.
    """

    def __init__(
        self, first: int, last: int, validation_frequency: int, write: Callable[[str], None]
    ) -> None:
        self._first, self._last, self._frequency = first, last, validation_frequency
        self._write = write
        self._num_rows = 0
        self._held: tuple[int, str, RunState] | None = None

    def add(
        self, iteration: int, sections: Mapping[str, Any], is_best: bool, state: RunState
    ) -> None:
        """Add the validations of an iteration.

        That of the validation set waits for the batches of the next iteration, if they are due,
        and shares their row.

        Parameters
        ----------
        iteration
            Number of the iteration, from 0.
        sections
            Results of its validations, as in `metrics.jsonl`.
        is_best
            Whether the validation set was never predicted better.
        state
            State of the run.
        """
        if "train" in sections:
            cell = "" if self._held is None else self._held[1]
            self._held = None
            train, validation = (_number(_total(sections[name])) for name in ("train", "val"))
            self._add_row(iteration, train, validation, cell, state)
        if "validation_set" in sections:
            done = iteration + 1
            self._held = (done, _set_cell(sections["validation_set"], is_best), state)
            if done % self._frequency != 0 or done >= self._last:
                self.close()

    def _add_row(
        self, iteration: int, train: str, validation: str, cell: str, state: RunState
    ) -> None:
        if self._num_rows == 0:
            self._write(_LEGEND)
        if self._num_rows % _ROWS_BETWEEN_HEADERS == 0:
            self._write(_ROW.format(*_TITLES))
        self._num_rows += 1
        rate = next(iter(state.learning_rates.values()), math.nan)
        done = max(1, iteration - self._first)
        remaining = self._last - iteration
        left = time_in_words(remaining * state.seconds / done) if remaining else ""
        speed = f"{state.events_per_second:,.0f}"
        number = f"{iteration:,}"
        line = _ROW.format(number, train, validation, cell, f"{rate:.2e}", speed, left)
        self._write(line.rstrip())

    def close(self) -> None:
        """Write the row that waits for batches, if there is one."""
        if self._held is not None:
            done, cell, state = self._held
            self._add_row(done, "", "", cell, state)
            self._held = None


def _total(section: Mapping[str, Any]) -> float:
    """The losses of all optimizers together."""
    return float(sum(section["losses"].values()))


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"


def _set_cell(section: Mapping[str, Any], is_best: bool) -> str:
    star = " *" if is_best else ""
    return f"{_number(section['loss'])}±{_number(section['loss_error'])}{star}"
