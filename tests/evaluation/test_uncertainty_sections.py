"""Sections of the report on uncertainties, classes and robustness, of synthetic predictions."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from dnn_reco.evaluation.event_groups import energy_and_type_cells, event_groups
from dnn_reco.evaluation.formats import plain
from dnn_reco.evaluation.metrics import ValueWithError
from dnn_reco.evaluation.reconstruction import Evaluation, Reconstruction, TrueEvents
from dnn_reco.evaluation.report_sections.classification import classification_section
from dnn_reco.evaluation.report_sections.robustness import relative_changes, robustness_section
from dnn_reco.evaluation.report_sections.section import Section
from dnn_reco.evaluation.report_sections.uncertainty import uncertainty_sections
from dnn_reco.evaluation.robustness import UNCHANGED
from dnn_reco.figure_style import figure_bytes
from dnn_reco.inference.prediction_table import PredictionTable
from dnn_reco.nn.interface import LabelKeys

KEYS = LabelKeys(
    zenith="zenith", dir_x="x", dir_y="y", dir_z="z", pid=("p_is_track",),
    particle={"energy": "energy"},
)  # fmt: skip
NAMES = ("energy", "x", "y", "z", "p_is_track")


def evaluation(size: int, weights: NDArray[np.float64] | None = None) -> Evaluation:
    """A model with right uncertainties, and the same with those of cascades twice too small."""
    rng = np.random.default_rng(1)
    mean = np.array([0.6, 0.0, -0.8])
    true = stats.vonmises_fisher(mean, 50.0).rvs(size, random_state=rng).reshape(size, 3)
    energy = 10 ** rng.uniform(2, 5, size)
    probability = rng.random(size)
    is_track = rng.random(size) < probability
    labels = {
        "energy": energy,
        **dict(zip(("x", "y", "z"), true.T, strict=True)),
        "zenith": np.arccos(-true[:, 2]),
        "p_is_track": is_track.astype(np.float64),
        "p_starting": np.ones(size),
        "p_entering": np.zeros(size),
    }
    predicted = np.expm1(np.log1p(energy) + 0.3 * rng.normal(size=size))
    sigma = np.tile([0.3, *[math.sqrt(2 / (3 * 50.0))] * 3, 0.5], (size, 1))
    table = PredictionTable(
        NAMES,
        (True, False, False, False, False),
        np.column_stack([predicted, np.tile(mean, (size, 1)), probability]),
        sigma,
    )
    raw = replace(table, uncertainty=np.where(is_track[:, None], sigma, sigma / 2))
    ids = np.zeros(size, dtype=[("Run", "u4")])
    hits = rng.integers(5, 800, size)
    return Evaluation(
        TrueEvents(ids, labels, {}, hits, weights),
        (Reconstruction("raw", raw, KEYS), Reconstruction("model", table, KEYS)),
    )


EVENTS = evaluation(6000)


@pytest.fixture(scope="module")
def sections() -> list[Section]:
    return uncertainty_sections(EVENTS)


def check(sections: list[Section]) -> None:
    """Numbers are plain, tables are rectangular, figures can be drawn."""
    for section in sections:
        json.dumps(plain(section.numbers), allow_nan=False)
        for table in section.tables:
            assert {len(row) for row in table.rows} <= {len(table.columns)}
        for figure in section.figures:
            assert "events" in figure.caption
            assert figure_bytes(figure.figure, "svg").startswith(b"<?xml")


def test_sections_of_uncertainties(sections: list[Section]) -> None:
    check(sections)
    figures = [figure.name for section in sections for figure in section.figures]
    assert figures == ["pulls", "pulls_energy", "coverage", "pit", "conditional_coverage"]
    pulls, coverage, conditional = (section.numbers for section in sections)
    found = pulls["pulls"]["model/energy"]["width_68"]
    assert found.value == pytest.approx(1, abs=4 * found.error)
    for quantity in ("direction", "energy"):
        shares = coverage["coverage"][f"model/{quantity}"]
        assert shares["68"].value == pytest.approx(0.68, abs=0.025)
        assert shares["curve"][67] == shares["68"].value
    of_type = conditional["conditional_coverage"]["event type"]
    half = 2 * stats.norm.cdf(stats.norm.ppf(0.84) / 2) - 1
    for model, of_cascades in (("raw", half), ("model", 0.68)):
        shares = of_type[f"{model}/energy"]
        assert shares["cascade"]["68"].value == pytest.approx(of_cascades, abs=0.04)
        assert shares["starting track"]["68"].value == pytest.approx(0.68, abs=0.04)
    # half the width is a κ four times as large: 1 - 0.32^(1/4) of the events inside of 68 %
    found = of_type["raw/direction"]["cascade"]["68"].value
    assert found == pytest.approx(1 - 0.32**0.25, abs=0.04)


def test_calibration_is_tested_in_cells_of_energy_and_type(sections: list[Section]) -> None:
    numbers = sections[-1].numbers["conditional_coverage"]
    tests = numbers["tests"]
    for quantity in ("direction", "energy"):
        assert tests[f"model/{quantity}"]["coverage 68 %"]["cells"] == 6
        assert tests[f"model/{quantity}"]["coverage 68 %"]["p_value"] > 1e-3
        assert tests[f"raw/{quantity}"]["coverage 68 %"]["p_value"] < 1e-10
    assert tests["model/energy"]["68 % pull width"]["p_value"] > 1e-3
    cells = numbers["energy and type"]
    energy = EVENTS.reconstructions[0].table.labels[:, 0]
    for name in ("raw", "model"):
        num_events = sum(cell["events"] for cell in cells[f"{name}/energy"].values())
        assert num_events == np.sum((energy > 100) & (energy < 1e5))
        for place, cell in cells[f"{name}/energy"].items():
            width = 2 if name == "raw" and "cascade" in place else 1
            assert cell["pull_68"].value == pytest.approx(width, rel=0.1)
        # of directions there are no pulls
        assert all("pull_68" not in cell for cell in cells[f"{name}/direction"].values())


def test_weights_choose_events() -> None:
    """With the weight of tracks alone, uncertainties are right with and without calibration."""
    is_track = EVENTS.events.labels["p_is_track"]
    weighted = Evaluation(replace(EVENTS.events, weights=is_track), EVENTS.reconstructions)
    sections = uncertainty_sections(weighted)
    numbers = sections[1].numbers["coverage"]
    assert numbers["raw/energy"] == numbers["model/energy"]
    assert "weighted" in sections[0].tables[0].caption


def test_labels_that_are_too_many_are_mentioned() -> None:
    table = EVENTS.reconstructions[1].table
    names = tuple(f"label {i}" for i in range(15))
    many = replace(
        table,
        label_names=names,
        has_log=(False,) * 15,
        labels=np.tile(table.labels[:, :1], 15),
        uncertainty=np.tile(table.uncertainty[:, :1], 15),
    )
    truth = replace(EVENTS.events, labels=dict.fromkeys(names, EVENTS.events.labels["energy"]))
    sections = uncertainty_sections(Evaluation(truth, (Reconstruction("m", many, LabelKeys()),)))
    assert "3 further labels" in sections[0].figures[0].caption
    assert len(sections[0].tables[0].rows) == 15


@pytest.mark.parametrize("size", [0, 1])
def test_few_events(size: int) -> None:
    few = evaluation(size)
    sections = uncertainty_sections(few)
    of_classes = classification_section(few)
    assert of_classes is not None
    check([*sections, of_classes])
    found = of_classes.numbers["classification"]["model/p_is_track"]
    assert np.isnan(found["auc"].value)  # of one class alone there is none
    shares = [
        s.numbers["coverage"]["model/energy"]["curve"] for s in sections if "coverage" in s.numbers
    ]
    assert all(share in (0.0, 1.0, None) for curve in shares for share in curve)
    assert len(shares) == size


def test_parts_of_few_events_are_left_out() -> None:
    """Of 30 events, one of the two types has 20; no decade of the energy has."""
    few = evaluation(30)
    is_track = few.events.labels["p_is_track"] = (np.arange(30) < 22).astype(np.float64)
    sections = uncertainty_sections(few)
    check(sections)
    figures = [figure.name for section in sections for figure in section.figures]
    assert figures == ["pulls", "coverage", "pit", "conditional_coverage"]
    of_types = next(each for each in sections[-1].tables if "event type" in each.caption)
    assert {(row[0], row[3]) for row in of_types.rows} == {("starting track", "22")}
    assert {len(table.rows) > 0 for table in sections[-1].tables} == {True}
    is_track[:7] = 0  # now neither has
    by_hits = replace(few.events, num_hit_doms=np.repeat([5, 50, 500], 10))
    sections = uncertainty_sections(replace(few, events=by_hits))
    assert all("event type" not in table.caption for table in sections[-1].tables)


def test_histograms_have_fewer_bins_for_few_events(sections: list[Section]) -> None:
    def num_bins(sections: list[Section], name: str) -> int:
        figures = {figure.name: figure.figure for each in sections for figure in each.figures}
        return len(figures[name].axes[0].patches[-1].get_data().values)

    for of_size, in_pulls, in_pit in (
        (uncertainty_sections(evaluation(4)), 10, 5),
        (uncertainty_sections(evaluation(100)), 20, 10),
        (sections, 50, 20),
    ):
        assert (num_bins(of_size, "pulls"), num_bins(of_size, "pit")) == (in_pulls, in_pit)


def test_reconstruction_without_uncertainties() -> None:
    table = EVENTS.reconstructions[1].table
    without = replace(table, uncertainty=np.full_like(table.uncertainty, np.nan))
    sections = uncertainty_sections(
        Evaluation(EVENTS.events, (Reconstruction("line fit", without, KEYS),))
    )
    assert sections == []
    both = (Reconstruction("line fit", without, KEYS), EVENTS.reconstructions[1])
    figures = {
        figure.name: figure.figure
        for section in uncertainty_sections(Evaluation(EVENTS.events, both))
        for figure in section.figures
    }
    named = [text.get_text() for text in figures["conditional_coverage"].legends[0].get_texts()]
    assert named == ["model"]


def test_groups_divide_the_events() -> None:
    groups = event_groups(EVENTS, EVENTS.reconstructions[0])
    assert list(groups) == [
        *("reconstructed energy", "true energy", "cos zenith", "hit DOMs", "event type"),
    ]
    for name, group in groups.items():
        if name != "reconstructed energy":  # which may be unknown
            assert (np.sum(list(group.values()), axis=0) == 1).all()
    assert list(groups["true energy"]) == [
        "100 GeV to 1 TeV",
        "1 TeV to 10 TeV",
        "10 TeV to 100 TeV",
    ]
    cells = energy_and_type_cells(EVENTS, EVENTS.reconstructions[0])
    decades = {name.rpartition(", ")[2] for name in cells}
    assert decades == set(groups["reconstructed energy"])
    assert (np.sum(list(cells.values()), axis=0) == 1).all()


def test_groups_by_reconstructed_type() -> None:
    first = EVENTS.reconstructions[0]
    class_probability = first.table["p_is_track"]
    table = replace(
        first.table,
        label_names=(*NAMES, "p_starting"),
        has_log=(*first.table.has_log, False),
        labels=np.column_stack([first.table.labels, np.ones(len(first.table))]),
        uncertainty=np.column_stack([first.table.uncertainty, np.ones(len(first.table))]),
    )
    groups = event_groups(EVENTS, replace(first, table=table))["reconstructed type"]
    assert list(groups) == ["cascade", "starting track"]
    assert (groups["starting track"] == (class_probability > 0.5)).all()
    assert (groups["cascade"] == (class_probability <= 0.5)).all()


def test_section_of_classes() -> None:
    section = classification_section(EVENTS)
    assert section is not None
    check([section])
    found = section.numbers["classification"]["model/p_is_track"]
    # of probabilities that are right and uniform: 5/6, and ⟨p (1 - p)⟩ = 1/6
    assert found["auc"].value == pytest.approx(5 / 6, abs=4 * found["auc"].error)
    assert found["brier"] == pytest.approx(1 / 6, abs=0.01)
    assert found["ece"] < 0.03
    # above p the share (1 - p)² of the background and 1 - p² of the signal is kept
    efficiency = found["efficiency_at"]["0.01"]
    assert efficiency.value == pytest.approx(1 - 0.9**2, abs=4 * efficiency.error)


def test_no_classes() -> None:
    table = EVENTS.reconstructions[0].table
    no_class = Evaluation(EVENTS.events, (Reconstruction("a", table, LabelKeys()),))
    assert classification_section(no_class) is None


def test_section_of_robustness() -> None:
    def value(number: float) -> ValueWithError:
        return ValueWithError(np.array(number), np.array(0.1))

    names = ("median opening angle", "coverage 68 %", "energy bias")
    before = dict(zip(names, map(value, (10.0, 70.0, 0.0)), strict=True))
    after = dict(zip(names, map(value, (15.0, 60.0, 0.2)), strict=True))
    matrix = {UNCHANGED: before, "noise: +5 hits": after, "dead DOMs: 5 %": {}}
    expected = (0.5, -10, 0.2)
    for name, change in zip(names, expected, strict=True):
        found = relative_changes(matrix, name)
        assert found["noise: +5 hits"] == pytest.approx(change)
        assert math.isnan(found["dead DOMs: 5 %"])
    section = robustness_section({"model": matrix, "other": matrix}, 100)
    assert section is not None
    check([section])
    assert len(section.tables[0].rows) == 6
    assert robustness_section({"model": {UNCHANGED: before}}, 100) is None
