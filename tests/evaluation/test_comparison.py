"""Models side by side: numbers against analytic results and slow versions, text, figures."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex

from dnn_reco.evaluation import comparison_plots as plots
from dnn_reco.evaluation.comparison import ModelResult, compare, measure
from dnn_reco.evaluation.comparison_report import (
    TrainingCost,
    as_plain,
    markdown_report,
    text_report,
)
from dnn_reco.evaluation.coverage import credible_level
from dnn_reco.evaluation.event_types import (
    ALL_EVENTS,
    CASCADE,
    OTHER_ENTERING,
    STARTING_TRACK,
    THROUGH_GOING_TRACK,
    event_types,
)
from dnn_reco.evaluation.formats import format_energy, format_measured
from dnn_reco.evaluation.metrics import ValueWithError, energy_residual
from dnn_reco.evaluation.pull_figure import pull_figure
from dnn_reco.evaluation.variables import LEAST_EVENTS, decade_edges, quantiles_in_bins

N = 40000


def fisher_angles(kappa: float, rng: np.random.Generator, size: int = N) -> np.ndarray:
    """Angles in degrees of a von Mises-Fisher distribution, by inverting its distribution."""
    return fisher_quantile(kappa, rng.random(size))


def fisher_quantile(kappa: float, p: np.ndarray | float) -> np.ndarray:
    """P(angle < psi) = (1 - exp(-k (1 - cos psi))) / (1 - exp(-2k)), solved for psi in degrees."""
    one_minus_cosine = -np.log1p(-np.asarray(p) * -np.expm1(-2 * kappa)) / kappa
    return np.degrees(np.arccos(1 - one_minus_cosine))


def fisher_density(kappa: float, degrees: float) -> float:
    """Density of the angle, per degree."""
    psi = math.radians(degrees)
    density = kappa * math.sin(psi) * math.exp(-kappa * (1 - math.cos(psi)))
    return density / -math.expm1(-2 * kappa) * math.pi / 180


def result(
    name: str, seed: int, kappa: float = 50.0, spread: float = 0.2, size: int = N
) -> ModelResult:
    rng = np.random.default_rng(seed)
    angle = fisher_angles(kappa, rng, size)
    return ModelResult(
        name,
        angle,
        rng.normal(0.05, spread, size),
        {"E": rng.normal(0.0, 1.1, size), "time": rng.normal(0.0, 0.9, size)},
        credible_level(angle, np.full(size, kappa)),
    )


@pytest.mark.parametrize("kappa", [0.01, 2.0, 50.0, 1e6])
@pytest.mark.parametrize("percent", [50, 68, 90])
def test_coverage_of_right_uncertainties(kappa: float, percent: int) -> None:
    found = measure(result("a", 3, kappa), np.ones(N, dtype=bool))[f"coverage_{percent}"]
    p = percent / 100
    error = math.sqrt(p * (1 - p) / N)
    assert found.value == pytest.approx(p, abs=4 * error)
    assert found.error == pytest.approx(error, rel=0.05)


def test_coverage_of_uncertainties_that_are_too_small() -> None:
    angle = fisher_angles(50.0, np.random.default_rng(4))
    level = credible_level(angle, np.full(N, 200.0))
    # P(angle < psi) of 50, where psi holds 68 % of 200
    psi = fisher_quantile(200.0, 0.68)
    expected = np.expm1(-50 * (1 - np.cos(np.radians(psi)))) / math.expm1(-100)
    assert np.mean(level < 0.68) == pytest.approx(float(expected), abs=0.01)


@pytest.mark.parametrize("kappa", [2.0, 50.0, 5000.0])
@pytest.mark.parametrize("percent", [20, 50, 80])
def test_quantiles_of_the_opening_angle_of_a_fisher_distribution(
    kappa: float, percent: int
) -> None:
    found = measure(result("a", 1, kappa), np.ones(N, dtype=bool))[f"angle_{percent}"]
    p = percent / 100
    expected = float(fisher_quantile(kappa, p))
    error = math.sqrt(p * (1 - p) / N) / fisher_density(kappa, expected)
    assert found.value == pytest.approx(expected, abs=4 * error)
    assert found.error == pytest.approx(error, rel=0.2)


def test_energy_and_pulls_of_normal_residuals() -> None:
    found = measure(result("a", 2), np.ones(N, dtype=bool))
    rms = math.hypot(0.05, 0.2)
    expected = {
        "energy_bias": (0.05, 0.2 / math.sqrt(N)),
        "energy_width_68": (0.2, None),
        # Var(x²) = 2 s⁴ + 4 b² s² of a normal distribution of mean b and deviation s
        "energy_rms": (
            rms,
            math.sqrt((2 * 0.2**4 + 4 * 0.05**2 * 0.2**2) / N) / (2 * rms),
        ),
        "pull/E": (1.1, 1.1 / math.sqrt(2 * N)),
        "pull_68/time": (0.9, None),
    }
    for key, (value, error) in expected.items():
        assert found[key].value == pytest.approx(value, abs=4 * found[key].error), key
        if error is not None:
            assert found[key].error == pytest.approx(error, rel=0.05), key


def test_groups_against_a_loop_over_events() -> None:
    rng = np.random.default_rng(3)
    size = 3000
    energy = 10 ** rng.uniform(0.3, 4.7, size)
    labels = {
        name: (rng.random(size) < 0.5).astype(float)
        for name in ("p_entering", "p_starting", "p_is_track")
    }
    types = event_types(labels, size)
    a, b = result("a", 4, size=size), result("b", 5, size=size)
    comparison = compare([a, b], types, energy, "E")
    assert comparison.groups[0].num_events == size
    assert comparison.groups[0].energy_range is None
    seen = set()
    for group in comparison.groups:
        angles = []
        for i in range(size):
            if labels["p_entering"][i]:
                kind = THROUGH_GOING_TRACK if labels["p_is_track"][i] else OTHER_ENTERING
            elif labels["p_starting"][i] and labels["p_is_track"][i]:
                kind = STARTING_TRACK
            else:
                kind = CASCADE
            low, high = group.energy_range or (0, np.inf)
            if group.event_type in (kind, ALL_EVENTS) and low <= energy[i] < high:
                angles.append(b.angle[i])
        assert group.num_events == len(angles)
        assert group.found["b"]["angle_50"].value == pytest.approx(np.median(angles))
        assert group.found["b"]["angle_mean"].value == pytest.approx(np.mean(angles))
        seen.add((group.event_type, group.energy_range))
    decades = [(1.0, 10.0), (10.0, 100.0), (100.0, 1000.0), (1e3, 1e4), (1e4, 1e5)]
    assert seen == {(name, r) for name in types for r in [None, *decades]}


def test_decades_of_few_events_are_left_out_but_no_type_is() -> None:
    size = 5 * LEAST_EVENTS
    energy = np.full(size, 50.0)
    energy[: LEAST_EVENTS - 1] = 500.0
    types = {ALL_EVENTS: np.ones(size, dtype=bool), "rare": np.arange(size) < 2}
    groups = compare([result("a", 6, size=size)], types, energy, "E").groups
    found = [(g.event_type, g.energy_range, g.num_events) for g in groups]
    assert found == [
        (ALL_EVENTS, None, size),
        (ALL_EVENTS, (10.0, 100.0), size - LEAST_EVENTS + 1),
        ("rare", None, 2),
    ]


def test_the_difference_of_means_knows_that_the_events_are_the_same() -> None:
    rng = np.random.default_rng(7)
    hard = rng.exponential(20.0, N)  # what both have in common
    a = ModelResult("a", hard + rng.normal(0, 1, N), None, {})
    b = ModelResult("b", hard + rng.normal(0.1, 1, N), None, {})
    types = {ALL_EVENTS: np.ones(N, dtype=bool)}
    difference = compare([a, b], types, None, None).angle_differences["b"]
    assert difference.error == pytest.approx(math.sqrt(2 / N), rel=0.05)
    assert difference.value == pytest.approx(0.1, abs=4 * difference.error)


def test_event_types_without_the_labels_are_one_group() -> None:
    flags = np.array([1.0, 0.0])
    assert list(event_types({"p_starting": flags}, 2)) == [ALL_EVENTS]
    assert list(event_types({"p_starting": flags, "p_entering": flags}, 2)) == [ALL_EVENTS]
    tracks = {"p_starting": flags, "p_entering": 1 - flags, "p_starting_cc_mu": 0.95 * flags}
    types = event_types(tracks, 2)
    assert list(types) == [ALL_EVENTS, STARTING_TRACK, THROUGH_GOING_TRACK]
    assert types[STARTING_TRACK].tolist() == [True, False]


@pytest.mark.parametrize(
    ("energy", "edges"),
    [
        ([3.0, 50.0], [1, 10, 100]),
        ([10.0, 99.0], [10, 100]),
        ([100.0], [100, 1000]),
        ([0.0, 0.3, 20.0, np.nan, np.inf], [10, 100]),
        ([0.5], []),
    ],
)
def test_decades(energy: list[float], edges: list[float]) -> None:
    assert decade_edges(np.array(energy)).tolist() == edges


def test_energies_below_1_gev_count_as_1_gev() -> None:
    residual = energy_residual(np.array([-3.0, 0.0, 100.0, 1e4]), np.array([0.5, 10.0, 10.0, 0.0]))
    assert residual.tolist() == [0.0, -1.0, 1.0, 4.0]
    assert np.isnan(energy_residual(np.array([np.nan]), np.array([3.0]))).all()


def test_quantiles_by_energy() -> None:
    rng = np.random.default_rng(8)
    energy, values = 10 ** rng.uniform(0, 3, 500), rng.random(500)
    edges = np.array([1.0, 10.0, 100.0, 1000.0, 1e4])
    found = quantiles_in_bins(values, energy, edges, (20, 80))
    for row, (low, high) in enumerate([(1, 10), (10, 100), (100, 1000)]):
        chosen = [v for v, e in zip(values, energy, strict=True) if low <= e < high]
        assert found[row] == pytest.approx(np.percentile(chosen, (20, 80)))
    assert np.isnan(found[3]).all()


def test_quantiles_by_energy_need_twenty_events() -> None:
    energy = np.repeat([5.0, 50.0], [19, 20])
    found = quantiles_in_bins(np.arange(39.0), energy, np.array([1.0, 10.0, 100.0]), (50,))
    assert np.isnan(found[0, 0])
    assert found[1, 0] == 28.5


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (12.345, 0.567, "12.35 ± 0.57"),
        (123.4, 12.0, "123 ± 12"),
        (0.12345, 0.0034, "0.123 ± 0.003"),
        (0.12345, 0.00012, "0.1235 ± 0.0001"),
        (0.12345, 1e-9, "0.123450 ± <0.000001"),
        (1.0, 0.096, "1.000 ± 0.096"),
        (3.14159, math.nan, "3.14"),
        (math.nan, 1.0, "–"),
    ],
)
def test_numbers_with_errors(value: float, error: float, text: str) -> None:
    assert format_measured(ValueWithError(np.array(value), np.array(error))) == text


@pytest.mark.parametrize(
    ("energy", "text"), [(1.0, "1 GeV"), (1e3, "1 TeV"), (1e5, "100 TeV"), (1e7, "10 PeV")]
)
def test_energies(energy: float, text: str) -> None:
    assert format_energy(energy) == text


def example() -> tuple[list[ModelResult], dict[str, np.ndarray], np.ndarray]:
    size = 5000
    rng = np.random.default_rng(9)
    energy = 10 ** rng.uniform(1, 7, size)
    track = rng.random(size) < 0.4
    labels = {"p_starting": ~track, "p_entering": track, "p_is_track": track}
    without = ModelResult("a_network_with_a_name_that_does_not_end", None, None, {})
    results = [result("cnn", 10, size=size), result("b", 11, size=size), without]
    return results, event_types(labels, size), energy


COSTS = {
    "cnn": TrainingCost(123456, 126418944, 36000.4, 1234567),
    "b": TrainingCost(10, 320, 0.5, 100),
    "a_network_with_a_name_that_does_not_end": TrainingCost(10, 320, 0.5, 100),
}


def test_the_printed_table() -> None:
    results, types, energy = example()
    comparison = compare(results, types, energy, "EnergyVisible")
    text = text_report(comparison, COSTS)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert "123,456 126,418,944   36,000   1,234,567" in text
    assert any(line.startswith("CASCADES") and "log10(EnergyVisible)" in line for line in lines)
    number = next(i for i, line in enumerate(lines) if line.startswith("100 TeV to 1 PeV"))
    group = next(g for g in comparison.groups if g.energy_range == (1e5, 1e6))
    assert lines[number] == f"100 TeV to 1 PeV: {group.num_events:,} events"
    cells = lines[number + 1].split()
    found = group.found["cnn"]
    assert cells[0] == "cnn"
    keys = ("angle_20", "angle_50", "angle_80", "energy_rms", "energy_width_68")
    for cell, key in zip(cells[1:], keys, strict=False):
        value, error = map(float, cell.split("±"))
        assert value == pytest.approx(float(found[key].value), abs=0.051), key
        assert error == pytest.approx(float(found[key].error), abs=0.051), key
    assert lines[number + 3].split()[1:] == ["–"] * 6
    shares = comparison.groups[0].found["b"]
    line = next(line for line in lines if "of b: " in line)
    assert line.startswith("  cone coverage (50, 68, 90 %) of b: ")
    for cell, percent in zip(line.partition(": ")[2].split(", "), (50, 68, 90), strict=True):
        value = float(shares[f"coverage_{percent}"].value)
        assert float(cell.partition("±")[0]) == pytest.approx(value, abs=0.0006)


def test_markdown_has_rows_of_equal_length() -> None:
    results, types, energy = example()
    text = markdown_report(compare(results, types, energy, "EnergyVisible"), COSTS)
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 3 + len(types)
    for block in blocks:
        assert len({line.count("|") for line in block}) == 1
    assert "| time | 0." in text


def test_json_holds_all_numbers() -> None:
    results, types, energy = example()
    comparison = compare(results, types, energy, "EnergyVisible")
    read = json.loads(json.dumps(as_plain(comparison, COSTS), allow_nan=False))
    assert len(read["groups"]) == len(comparison.groups)
    first = comparison.groups[0].found["b"]
    for key, measured in read["groups"][0]["found"]["b"].items():
        assert measured == {"value": float(first[key].value), "error": float(first[key].error)}
    assert read["networks"]["cnn"]["seconds"] == 36000.4
    assert read["num_events"] == len(energy)
    assert read["energy_label"] == "EnergyVisible"
    difference = comparison.angle_differences["b"]
    assert read["mean_angle_differences"] == {
        "b": {"value": float(difference.value), "error": float(difference.error)}
    }
    assert read["groups"][0]["event_type"] == ALL_EVENTS
    assert read["groups"][0]["energy_range"] is None
    assert read["groups"][1]["energy_range"] == list(comparison.groups[1].energy_range)


def test_figures_show_the_quantiles_in_a_colour_for_each_network() -> None:
    results, types, energy = example()
    figure = plots.opening_angles(results, types, energy, "EnergyVisible")
    panels = figure.axes
    assert [panel.get_title().split(",")[0] for panel in panels] == [CASCADE, THROUGH_GOING_TRACK]
    medians = [line for line in panels[0].lines if not str(line.get_label()).startswith("_")]
    assert [line.get_label() for line in medians] == ["cnn", "b"]
    assert len({to_hex(line.get_color()) for line in medians}) == 2
    mask = types[CASCADE]
    centre, shown = float(medians[0].get_xdata()[6]), float(medians[0].get_ydata()[6])
    near = mask & (np.abs(np.log10(energy / centre)) < 1 / 6)
    assert shown == pytest.approx(np.median(results[0].angle[near]), rel=0.01)


def test_no_figures_against_energy_without_enough_events_in_any_bin() -> None:
    """Matplotlib fails with "Data cannot be log-scaled" where all medians are missing."""
    results, types, energy = example()
    size = len(energy)
    few = {name: np.arange(size) < 3 for name in types}
    for of_type, values in ((few, energy), (types, np.zeros(size))):
        found = plots.comparison_figures(compare(results, of_type, values, "E"))
        assert set(found) == {"pulls"}
    on_target = [replace(each, angle=np.zeros(size)) for each in results[:2]]
    assert set(plots.comparison_figures(compare(on_target, types, energy, "E"))) == {
        "energy",
        "pulls",
    }


def test_figures_where_there_is_little_to_show() -> None:
    results, types, energy = example()
    few = {name: mask & (np.arange(len(mask)) < 30) for name, mask in types.items()}
    assert len(plots.energy_residuals(results, few, energy, "E").axes) == 2
    assert len(plots.energy_residuals(results, {ALL_EVENTS: energy > 0}, energy, "E").axes) == 1
    pulls = {each.name: each.pulls for each in results}
    assert len(pull_figure(pulls, ["E", "time"]).axes) == 2
    assert len(pull_figure(pulls, list("abcde")).axes) == 8


def test_decades_of_few_events_are_left_out_and_later_ones_are_not() -> None:
    energy = np.repeat([5.0, 50.0, 500.0, 5000.0], [LEAST_EVENTS, LEAST_EVENTS - 1, 40, 1])
    size = len(energy)
    types = {ALL_EVENTS: np.ones(size, dtype=bool)}
    comparison = compare([result("a", 4, size=size)], types, energy, "E")
    found = [(group.energy_range, group.num_events) for group in comparison.groups]
    assert found == [(None, size), ((1.0, 10.0), LEAST_EVENTS), ((100.0, 1000.0), 40)]
    # a type of few events is compared as a whole
    few = np.arange(size) < 3
    comparison = compare([result("a", 4, size=size)], {CASCADE: few}, energy, "E")
    assert [(group.energy_range, group.num_events) for group in comparison.groups] == [(None, 3)]


def uniform(low: float, high: float) -> np.ndarray:
    return np.linspace(low, high, 10_001)


def test_lines_and_bands_against_energy() -> None:
    """Values that are spread evenly, of 30 to 100 GeV and 1 to 2 TeV; nothing between is drawn."""
    energy = np.concatenate([10 ** uniform(1.7, 1.9), 10 ** uniform(3.05, 3.25), [5.0]])
    values = np.concatenate([uniform(0, 1), uniform(2, 4), [100.0]])
    types = {ALL_EVENTS: energy > 0}
    one = ModelResult("one", 10 * values, values, {})
    for draw, factor, outer, label in (
        (plots.energy_residuals, 1, (0.1587, 0.8413), "log10(reconstructed / true)"),
        (plots.opening_angles, 10, (0.2, 0.8), "opening angle [°]"),
    ):
        figure = draw([one, one], types, energy, "E")
        (panel,) = figure.axes
        assert panel.get_title() == f"all events, {len(energy):,} events"
        assert (panel.get_xlabel(), panel.get_ylabel()) == ("true E [GeV]", label)
        assert panel.get_xscale() == "log"
        lines = [line for line in panel.lines if len(line.get_xdata()) > 2]
        assert len(lines) == 6
        low, high, median = lines[:3]
        # three bins in each decade: their centres are 10^(1.83), 10^(2.17) …
        for line in (low, high, median):
            centres = np.log10(np.asarray(line.get_xdata(), dtype=float))
            np.testing.assert_allclose(centres, np.arange(11, 20, 2) / 6, atol=1e-9)
            assert np.isfinite(line.get_ydata()).tolist() == [True, False, False, False, True]
        for line, share in ((low, outer[0]), (high, outer[1]), (median, 0.5)):
            drawn = np.asarray(line.get_ydata(), dtype=float)[[0, -1]]
            expected = factor * np.array([share, 2 + 2 * share])
            np.testing.assert_allclose(drawn, expected, atol=2e-4 * factor)
        assert low.get_linestyle() == high.get_linestyle() == ":"
        assert {to_hex(line.get_color()) for line in lines[:3]} == {"#0072b2"}
        assert {to_hex(line.get_color()) for line in lines[3:]} == {"#d55e00"}
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == ["one"]


def test_pulls_are_densities_beside_the_normal_one() -> None:
    """Half of the pulls between 1 and 1.2, the others far out."""
    pulls = {"E": np.repeat([1.1, 50.0], 500)}
    figure = pull_figure({"one": pulls}, ["E", "x"])
    first, second = figure.axes
    (normal,) = first.lines
    x, y = (np.asarray(values, dtype=float) for values in normal.get_data())
    assert (x.min(), x.max()) == (-5, 5)
    np.testing.assert_allclose(
        y, [math.exp(-each * each / 2) / math.sqrt(2 * math.pi) for each in x]
    )
    (stairs,) = first.patches
    values, edges, _ = stairs.get_data()
    assert edges[1] - edges[0] == pytest.approx(0.2)
    filled = np.flatnonzero(values)
    assert edges[filled].tolist() == pytest.approx([1.0])
    assert values[filled].tolist() == pytest.approx([0.5 / 0.2])
    assert not second.patches
    assert (first.get_title(), second.get_title()) == ("E", "x")
    assert first.get_xlabel() == second.get_xlabel() == "pull (residual / uncertainty)"
    assert (first.get_ylabel(), second.get_ylabel()) == ("density", "")
