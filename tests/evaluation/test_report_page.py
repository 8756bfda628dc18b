"""The report as an HTML page, its figures and numbers."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pytest
from made_up_evaluation import evaluation
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from PIL import Image

from dnn_reco.errors import DataError
from dnn_reco.evaluation.comparison import compare_models
from dnn_reco.evaluation.comparison_report import TrainingCost
from dnn_reco.evaluation.formats import plain
from dnn_reco.evaluation.held_out_events import HeldOutFiles
from dnn_reco.evaluation.predictions_file import write_predictions
from dnn_reco.evaluation.report_facts import Origin, ReportFacts
from dnn_reco.evaluation.report_page import report_sections, write_report_page
from dnn_reco.evaluation.report_sections.data_summary import not_reconstructed
from dnn_reco.evaluation.report_sections.section import file_name
from dnn_reco.evaluation.report_sections.training import training_section
from dnn_reco.evaluation.report_sections.worst_events import worst_events
from dnn_reco.evaluation.residuals import opening_angle
from dnn_reco.figure_style import GREY, TOO_FEW

HOSTILE = "<script>alert('x')</script>"


def png() -> bytes:
    content = BytesIO()
    Image.new("RGB", (4, 4), "red").save(content, format="png")
    return content.getvalue()


def metrics() -> list[dict[str, object]]:
    return [
        {
            "iteration": i,
            "train": {"losses": {"a": 3.0 / (i + 1), "b": 1.0}},
            "val": {"losses": {"a": 4.0 / (i + 1), "b": None}},
            "validation_set": {"loss": 2.0 / (i + 1)},
            "learning_rates": {"a": 0.01},
            "machine": {"seconds": 10.0 * i, "events_per_second": 800.0},
        }
        for i in range(5)
    ]


def facts(num_events: int = 600, names: tuple[str, ...] = ("one", HOSTILE)) -> ReportFacts:
    made = evaluation(num_events, names, not_reconstructed=2)
    first, second = num_events // 2, num_events - num_events // 2
    files = HeldOutFiles(
        (Path("a/first.hdf5"), Path(f"{HOSTILE}.hdf5".replace("/", "_"))),
        (first, second),
        num_events + 9,
        1,
        {"because of <b>NaN</b>": 9},
    )
    cost = TrainingCost(5, 40, None, 100)
    origins = {
        name: Origin(f"{name}.yaml", cost, f"key: {HOSTILE}", metrics(), 1000.0) for name in names
    }
    software = {"command": f"evaluate {HOSTILE}", "dnn_reco_version": "1"}
    worst = worst_events(made).tolist()
    pictures = {number: png() for number in worst[:3]}
    return ReportFacts(made, compare_models(made), files, origins, software, pictures)


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def written(
    tmp_path_factory: pytest.TempPathFactory, blank_figures: object
) -> tuple[Path, ReportFacts]:
    folder = tmp_path_factory.mktemp("report")
    (folder / "figures").mkdir()
    (folder / "figures" / "of_an_earlier_report.png").touch()
    made = facts()
    write_report_page(made, folder)
    return folder, made


def test_the_page_needs_nothing_else_and_escapes_what_it_shows(
    written: tuple[Path, ReportFacts],
) -> None:
    folder, _ = written
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert len(text) < 8e6
    assert not page.of("script") and not page.of("link") and not page.of("b")
    assert not re.search(r"https?://|@import|url\(", text)
    sources = [image["src"] or "" for image in page.of("img")]
    assert all(re.match(r"data:image/(png|svg\+xml);base64,[\w+/=]+$", each) for each in sources)
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
    assert page.text.count(HOSTILE) > 5
    assert (page.of("html")[0]["lang"], page.of("meta")[0]["charset"]) == ("en", "utf-8")


def test_the_page_shows_each_table_and_figure(written: tuple[Path, ReportFacts]) -> None:
    folder, made = written
    page = Page((folder / "report.html").read_text())
    sections = report_sections(made)
    figures = [figure for section in sections for figure in section.figures]
    assert len(page.of("figure")) == len(figures) >= 8
    files = sorted(path.name for path in (folder / "figures").iterdir())
    assert len(files) == 2 * len(figures)
    assert "of_an_earlier_report.png" not in files
    for section in sections:
        assert section.title in page.text
        for table in section.tables:
            assert table.caption in page.text
            for row in table.rows:
                assert len(row) == len(table.columns)
                assert all(cell in page.text for cell in row)
    assert len(page.of("table")) == sum(len(section.tables) for section in sections)
    for figure in figures:
        assert figure.caption in page.text
        assert re.search(r"\d events|Training", figure.caption)
    # all links lead to an anchor
    anchors = {attributes.get("id") for _, attributes in page.tags}
    links = [link["href"] or "" for link in page.of("a")]
    assert len(links) == len(sections) + 3
    assert all(link[1:] in anchors for link in links)
    assert (folder / "figures" / "opening_angle.pdf").read_bytes().startswith(b"%PDF")


def test_numbers_are_those_of_the_page(written: tuple[Path, ReportFacts]) -> None:
    folder, made = written
    numbers = json.loads((folder / "metrics.json").read_text())
    data = numbers["sections"]["Data"]
    assert data["events"] == 600
    assert data["dropped"] == {"because of <b>NaN</b>": 9}
    assert data["not_reconstructed"]["one"] == {"no hit DOM": 2}
    angle = opening_angle(made.evaluation.reconstructions[0], made.evaluation.events)
    assert angle is not None
    direction = numbers["sections"]["Summary"]["direction"]["one"]
    assert direction["mean"]["value"] == pytest.approx(np.nanmean(angle))
    of_zenith = numbers["sections"]["Angular resolution"]["zenith"]
    (low, high), middle = of_zenith["edges"][:2], of_zenith["quantiles"]["one"]["cascade"][0][1]
    cosine = np.cos(made.evaluation.events.labels["PrimaryZenith"])
    chosen = made.comparison.types["cascade"] & (cosine >= low) & (cosine < high)
    assert middle == pytest.approx(np.nanmedian(angle[chosen]))
    assert len(numbers["comparison"]["groups"]) == len(made.comparison.groups)


def test_the_worst_events(written: tuple[Path, ReportFacts]) -> None:
    folder, made = written
    first = made.evaluation.reconstructions[0]
    angle = opening_angle(first, made.evaluation.events)
    assert angle is not None
    worst = worst_events(made.evaluation)
    assert len(worst) == 20
    assert worst.tolist() == np.argsort(-np.nan_to_num(angle))[:20].tolist()
    numbers = json.loads((folder / "metrics.json").read_text())["sections"]["Worst events"]
    assert numbers["by"] == "opening angle"
    row = numbers["events"][0]
    assert row["Run / Event / SubEvent"] == f"7 / {worst[0]} / 0"
    assert row["file"] == made.files.path_of(int(worst[0])).name
    assert float(row["one: opening angle [°]"]) == pytest.approx(angle[worst[0]], abs=0.06)
    energy = made.evaluation.events.labels["EnergyVisible"][worst[0]]
    assert row["true EnergyVisible [GeV]"].replace(".", "").isdigit()  # no exponent
    assert float(row["true EnergyVisible [GeV]"]) == pytest.approx(energy, rel=1e-3)
    page = Page((folder / "report.html").read_text())
    details = [tag for tag, attributes in page.tags if tag == "details"]
    assert len(details) == 3 + 2  # pictures, and configs


@pytest.mark.parametrize("num_events", [0, 1])
def test_few_events(num_events: int, blank_figures: object, tmp_path: Path) -> None:
    made = facts(num_events)
    page = Page(write_report_page(made, tmp_path).read_text())
    assert f"{num_events} held-out events" in page.text
    assert not re.search(r"\b(nan|inf|None)\b", page.text)
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert numbers["sections"]["Data"]["events"] == num_events
    assert numbers["sections"]["Summary"]["labels"] == {}  # the only event is not reconstructed
    assert "No bin holds 20 events" in page.text


def test_stored_reconstructions_are_named_with_the_models() -> None:
    made = facts(40, ("one", "stored"))
    of_one = replace(made, origins={"one": made.origins["one"]})
    provenance = report_sections(of_one)[-1]
    assert provenance.tables[0].rows == [("one", "one.yaml"), ("stored", "held by the event files")]


def test_equal_names_of_files_do_not_overwrite_each_other(
    blank_figures: object, tmp_path: Path
) -> None:
    write_report_page(facts(60, ("a b", "a/b")), tmp_path)
    files = {path.name for path in (tmp_path / "figures").glob("true_vs_reco*.png")}
    assert files == {"true_vs_reco_a_b.png", "true_vs_reco_a_b_2.png"}
    assert file_name("../ä b/c") == "b_c"
    assert file_name("…") == "_"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot be written to .*choose another --out"):
        write_report_page(facts(5, ("one",)), tmp_path / "file" / "folder")


def test_training_curves() -> None:
    cost = TrainingCost(5, 40, None, 100)
    section = training_section({"one": Origin("one.yaml", cost, "", metrics(), 1234.5)})
    assert section is not None
    (table,), (figure,) = section.tables, section.figures
    assert table.rows[0] == ("one", "1,234", "5", "40", "40", "800", "100")
    losses, rates = figure.figure.axes
    drawn = {line.get_label(): np.asarray(line.get_ydata()) for line in losses.lines}
    np.testing.assert_allclose(drawn["one, training batch"], 3.0 / np.arange(1, 6) + 1)
    np.testing.assert_allclose(drawn["one, validation set"], 2.0 / np.arange(1, 6))
    assert "one, validation batch" not in drawn  # one of its losses is not known
    assert rates.get_yscale() == "log"
    odd = [{"iteration": "x", "train": [1], "machine": 3}, {}]
    section = training_section({"one": Origin("one.yaml", cost, "", odd)})
    assert section is not None
    assert section.tables[0].rows[0][1] == "–"


def test_events_without_status_are_counted_as_a_whole() -> None:
    (one,) = evaluation(10, not_reconstructed=4).reconstructions
    assert not_reconstructed(one) == {"no hit DOM": 4}
    bare = replace(one, table=replace(one.table, status=None))
    assert not_reconstructed(bare) == {"not reconstructed": 4}


def test_plain_numbers() -> None:
    value = {"a": np.array([1.0, np.nan]), "b": (np.float64(2), np.int64(3)), 4: [True, None, "x"]}
    assert plain(value) == {"a": [1.0, None], "b": [2.0, 3], "4": [True, None, "x"]}


def test_predictions(tmp_path: Path) -> None:
    made = evaluation(30, ("one", "two"), not_reconstructed=1)
    one, two = made.reconstructions
    relative = replace(one, relative_times=("PrimaryAzimuth",))
    write_predictions(replace(made, reconstructions=(relative, two)), tmp_path)
    with h5py.File(tmp_path / "predictions.hdf5") as file:
        table = file["DeepLearningReco_one"][:]
        np.testing.assert_array_equal(table["Event"], np.arange(30))
        np.testing.assert_allclose(table["EnergyVisible"], one.table["EnergyVisible"])
        np.testing.assert_allclose(table["PrimaryAzimuth"], one.table["PrimaryAzimuth"] + 9000)
        assert table["status"].tolist() == [2] + [0] * 29
        particle = file["DeepLearningReco_two_I3Particle"][:]
        np.testing.assert_allclose(particle["energy"], two.table["EnergyVisible"])
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.read_parquet(tmp_path / "predictions.parquet")
    np.testing.assert_allclose(frame["two.EnergyVisible"], two.table["EnergyVisible"])


def test_figures_are_arranged_once(
    monkeypatch: pytest.MonkeyPatch, blank_figures: object, tmp_path: Path
) -> None:
    """The arrangement takes most of the time: it is not repeated for each type of file."""
    arranged = []
    monkeypatch.setattr(
        Figure, "draw_without_rendering", lambda figure: arranged.append(figure), raising=True
    )
    write_report_page(facts(25, ("one",)), tmp_path)
    assert len(arranged) == len(list((tmp_path / "figures").glob("*.png")))


def shows_events(panel: Axes) -> bool:
    """Whether anything is drawn besides reference lines (grey) and bands (patches)."""
    curves = [
        line
        for line in panel.lines
        if line.get_color() != GREY and np.isfinite(np.asarray(line.get_ydata(), float)).any()
    ]
    histograms = [
        patch
        for patch in panel.patches
        if isinstance(patch, StepPatch) and np.nansum(patch.get_data().values) > 0
    ]
    maps = [each for each in panel.collections if isinstance(each, QuadMesh)]
    return bool(curves or histograms or maps or panel.images or panel.tables)


@pytest.mark.parametrize("num_events", [0, 1, 15, 60])
def test_no_panel_is_blank(num_events: int) -> None:
    for section in report_sections(facts(num_events)):
        for each in section.figures:
            for panel in each.figure.axes:
                texts = [text.get_text() for text in panel.texts]
                is_blank = panel.axison and not shows_events(panel) and TOO_FEW not in texts
                assert not is_blank, (each.name, panel.get_title(), panel.get_ylabel())
