"""The reports of a comparison, word by word, of numbers that were chosen for it."""

from pathlib import Path

import numpy as np
import pytest

from dnn_reco.errors import DataError
from dnn_reco.evaluation.comparison import Comparison, EventSelection
from dnn_reco.evaluation.comparison_report import (
    TrainingCost,
    markdown_report,
    shortened,
    sum_of_costs,
    text_report,
)
from dnn_reco.evaluation.formats import format_energy, format_measured
from dnn_reco.evaluation.metrics import ValueWithError
from dnn_reco.evaluation.report import write_report

LONG = "a_network_that_does_not_end"


def measured(value: float, error: float) -> ValueWithError:
    return ValueWithError(np.float64(value), np.float64(error))


FOUND = {
    "angle_mean": measured(9.0, 0.9),
    "angle_20": measured(1.25, 0.5),
    "angle_50": measured(5.0, 0.25),
    "angle_80": measured(20.0, 2.0),
    "energy_rms": measured(0.5, 0.0625),
    "energy_width_68": measured(0.25, 0.03125),
    "energy_bias": measured(-0.125, 0.015625),
    "pull/E": measured(1.5, 0.1875),
    "pull_68/E": measured(1.25, 0.125),
    "pull/time": measured(0.75, 0.046875),
    "pull_68/time": measured(0.5, 0.25),
    "coverage_50": measured(0.5, 0.03),
    "coverage_68": measured(0.625, 0.03),
    "coverage_90": measured(0.875, 0.02),
}
ONLY_ENERGY = {"energy_rms": measured(2.0, np.nan)}
COMPARISON = Comparison(
    results=(),
    types={"cascade": np.ones(12345, dtype=bool)},
    energy=None,
    energy_label="E",
    groups=(
        EventSelection("all events", None, 12345, {"one": FOUND, LONG: ONLY_ENERGY}),
        EventSelection("cascade", None, 1000, {"one": FOUND, LONG: {}}),
        EventSelection("cascade", (1e2, 1e3), 20, {"one": {}, LONG: FOUND}),
    ),
    angle_differences={LONG: measured(-0.5, 0.25)},
)
COSTS = {
    "one": TrainingCost(1500, 48000, 3600.7, 1234567),
    LONG: TrainingCost(None, None, None, 100),
}

TEXT = """\
12,345 held-out events, each reconstructed by all networks

                      iterations      events  seconds     weights                mean opening angle
  one                      1,500      48,000    3,601   1,234,567      9.00±0.90° = 0.157±0.016 rad
  a_network…_not_end           –           –        –         100                                 –
  mean opening angle of a_network_that_does_not_end minus that of one: -0.50 ± 0.25 degrees
  cone coverage (50, 68, 90 %) of one: 0.500±0.030, 0.625±0.030, 0.875±0.020

ALL EVENTS                                 opening angle [°]                  log10(E)
                              20 %         50 %         80 %          rms   68 % width    68 % pull
all energies: 12,345 events
  one                    1.25±0.50    5.00±0.25     20.0±2.0  0.500±0.062  0.250±0.031    1.25±0.12
  a_network…_not_end             –            –            –            2            –            –

CASCADES                                   opening angle [°]                  log10(E)
                              20 %         50 %         80 %          rms   68 % width    68 % pull
all energies: 1,000 events
  one                    1.25±0.50    5.00±0.25     20.0±2.0  0.500±0.062  0.250±0.031    1.25±0.12
  a_network…_not_end             –            –            –            –            –            –
100 GeV to 1 TeV: 20 events
  one                            –            –            –            –            –            –
  a_network…_not_end     1.25±0.50    5.00±0.25     20.0±2.0  0.500±0.062  0.250±0.031    1.25±0.12
"""

MARKDOWN = """\
12,345 held-out events, each reconstructed by all networks.

| network | iterations | events | seconds | weights | mean opening angle |
| --- | ---: | ---: | ---: | ---: | ---: |
| one | 1,500 | 48,000 | 3,601 | 1,234,567 | 9.00±0.90° = 0.157±0.016 rad |
| a_network_that_does_not_end | – | – | – | 100 | – |

Mean opening angle of a_network_that_does_not_end minus that of one: -0.50 ± 0.25°

Cone coverage: share of events whose true direction lies inside the cone, by nominal coverage:

| network | 50 % | 68 % | 90 % |
| --- | ---: | ---: | ---: |
| one | 0.500±0.030 | 0.625±0.030 | 0.875±0.020 |

## All events

| energy | events | network | angle 20 % [°] | angle 50 % [°] | angle 80 % [°] | log10 E rms | log10 E 68 % width | 68 % pull | log10 E bias | pull |
| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| all energies | 12,345 | one | 1.25 ± 0.50 | 5.00 ± 0.25 | 20.0 ± 2.0 | 0.500 ± 0.062 | 0.250 ± 0.031 | 1.25 ± 0.12 | -0.125 ± 0.016 | 1.50 ± 0.19 |
| all energies | 12,345 | a_network_that_does_not_end | – | – | – | 2 | – | – | – | – |

## Cascade

| energy | events | network | angle 20 % [°] | angle 50 % [°] | angle 80 % [°] | log10 E rms | log10 E 68 % width | 68 % pull | log10 E bias | pull |
| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| all energies | 1,000 | one | 1.25 ± 0.50 | 5.00 ± 0.25 | 20.0 ± 2.0 | 0.500 ± 0.062 | 0.250 ± 0.031 | 1.25 ± 0.12 | -0.125 ± 0.016 | 1.50 ± 0.19 |
| all energies | 1,000 | a_network_that_does_not_end | – | – | – | – | – | – | – | – |
| 100 GeV to 1 TeV | 20 | one | – | – | – | – | – | – | – | – |
| 100 GeV to 1 TeV | 20 | a_network_that_does_not_end | 1.25 ± 0.50 | 5.00 ± 0.25 | 20.0 ± 2.0 | 0.500 ± 0.062 | 0.250 ± 0.031 | 1.25 ± 0.12 | -0.125 ± 0.016 | 1.50 ± 0.19 |

## Pulls of all events

Standard deviation, and 68 % width.

| label | one | a_network_that_does_not_end |
| --- | ---: | ---: |
| E | 1.50 ± 0.19, 1.25 ± 0.12 | –, – |
| time | 0.750 ± 0.047, 0.50 ± 0.25 | –, – |
"""  # noqa: E501


def test_printed_report() -> None:
    assert text_report(COMPARISON, COSTS) + "\n" == TEXT


def test_markdown_report() -> None:
    assert markdown_report(COMPARISON, COSTS) == MARKDOWN


def test_costs_of_several_networks() -> None:
    one, other = TrainingCost(1, 10, 2.5, 100), TrainingCost(2, 20, 3.0, 50)
    assert sum_of_costs([one, other]) == TrainingCost(3, 30, 5.5, 150)
    unknown = TrainingCost(None, 20, None, 50)
    assert sum_of_costs([one, unknown]) == TrainingCost(None, 30, None, 150)
    assert sum_of_costs([one]) == one


@pytest.mark.parametrize(
    ("length", "expected"),
    [(18, "abcdefghijklmnopqr"), (19, "abcdefghi…lmnopqrs"), (26, "abcdefghi…stuvwxyz")],
)
def test_names_fit_into_their_column(length: int, expected: str) -> None:
    assert shortened("abcdefghijklmnopqrstuvwxyz"[:length]) == expected
    assert len(expected) == 18


@pytest.mark.parametrize(
    ("energy", "text"),
    [(999.0, "999 GeV"), (1e3, "1 TeV"), (2500.0, "2.5 TeV"), (1e6, "1 PeV"), (0.5, "0.5 GeV")],
)
def test_units_of_energies(energy: float, text: str) -> None:
    assert format_energy(energy) == text


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1234.5, 100.0, "1234 ± 100"),
        (12.5, 1.0, "12.5 ± 1.0"),
        (12.25, 0.1, "12.25 ± 0.10"),
        (1.2345, 0.01, "1.234 ± 0.010"),
        (1.2345, 0.0, "1.23"),
        (1.2345, np.inf, "1.23"),
        (np.inf, 1.0, "–"),
    ],
)
def test_digits_follow_the_error(value: float, error: float, text: str) -> None:
    assert format_measured(measured(value, error)) == text
    assert format_measured(None) == "–"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(DataError, match=r"cannot be written to '.*out' .*choose another --out"):
        write_report(COMPARISON, COSTS, tmp_path / "out")
