"""Weights from columns of files, and for fluxes against the formula of neutrino simulations."""

import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from event_files import LABEL_TABLE, event_ids, random_events
from numpy.typing import NDArray
from small_run import make_small_run

from dnn_reco.data.hdf5 import NUM_INPUTS, write_event_file, write_input_tables
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.evaluation.event_weights import checked_weights, event_weights, flux_weights
from dnn_reco.evaluation.events_of_files import EventsOfFile
from dnn_reco.evaluation.held_out_comparison import extras_of
from dnn_reco.evaluation.held_out_events import open_held_out_events

LOW, HIGH, INDEX, NUM_GENERATED = 2.0, 7.0, 1.5, 2000.0
RADIUS, HEIGHT = 950.0, 1900.0  # m
Columns = dict[str, NDArray[np.float64]]


def weight_dict(num_events: int, seed: int) -> Columns:
    """The columns that neutrino-generator writes and simweights reads."""
    rng = np.random.default_rng(seed)
    constant = {
        "MinZenith": 0.0,
        "MaxZenith": math.pi,
        "MinEnergyLog": LOW,
        "MaxEnergyLog": HIGH,
        "PowerLawIndex": INDEX,
        "NEvents": NUM_GENERATED,
        "CylinderHeight": HEIGHT,
        "CylinderRadius": RADIUS,
        "TypeWeight": 0.5,
    }
    return {
        **{name: np.full(num_events, value) for name, value in constant.items()},
        "PrimaryNeutrinoType": rng.choice([14.0, -14.0], num_events),
        "PrimaryNeutrinoEnergy": 10 ** rng.uniform(LOW, HIGH, num_events),
        "PrimaryNeutrinoZenith": np.arccos(rng.uniform(-1, 1, num_events)),
        "TotalWeight": 10 ** rng.uniform(-6, -3, num_events),
    }


def expected_weights(columns: Columns, norm: float, index: float) -> NDArray[np.float64]:
    """Flux × interaction probability × area × solid angle × ∫ E^-γ dE / E^-γ / generated events."""
    energy, cosine = columns["PrimaryNeutrinoEnergy"], np.cos(columns["PrimaryNeutrinoZenith"])
    side = 2 * RADIUS * HEIGHT * np.sqrt(1 - cosine**2)
    area = 1e4 * (math.pi * RADIUS**2 * np.abs(cosine) + side)  # cm²
    integral = (10 ** (HIGH * (1 - INDEX)) - 10 ** (LOW * (1 - INDEX))) / (1 - INDEX)
    flux = norm * (energy / 1e5) ** -index
    generated = NUM_GENERATED * 0.5
    probability = columns["TotalWeight"]
    return flux * probability * area * 4 * math.pi * integral * energy**INDEX / generated


def neutrino_file(path: Path, num_events: int, seed: int) -> tuple[EventsOfFile, Columns]:
    columns, ids = weight_dict(num_events, seed), event_ids(num_events)
    write_event_file(path, ids, {"I3MCWeightDict": columns})
    return EventsOfFile(path, ids, np.zeros(num_events)), columns


# --------------------------------------------------------------------------------------------------
# Columns
# --------------------------------------------------------------------------------------------------
def test_weights_of_misc_data_and_of_a_column(tmp_path: Path) -> None:
    path, ids = tmp_path / "a.hdf5", event_ids(3)
    write_event_file(path, ids, {"Weights": {"Atmospheric": np.array([1.0, 2.0, 0.0])}})
    files = [EventsOfFile(path, ids[[2, 0]], np.zeros(2))]
    misc = {"Weights_Other": np.array([3.0, 4.0])}
    assert event_weights("Weights_Other", misc, files).tolist() == [3, 4]
    assert event_weights("Weights.Atmospheric", misc, files).tolist() == [0, 1]
    with pytest.raises(ConfigError, match=r"Weights_Othr: .*Did you mean 'Weights_Other'"):
        event_weights("Weights_Othr", misc, files)
    with pytest.raises(DataError, match=r"no column 'Atmosferic'.*'Atmospheric'"):
        event_weights("Weights.Atmosferic", misc, files)
    with pytest.raises(DataError, match="has no table 'Weight'"):
        event_weights("Weight.Atmospheric", misc, files)


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        ([1.0, np.nan, np.inf], "2 of 3 are not finite, the first that of event 1"),
        ([1.0, 2.0, -1.0], "1 of 3 are negative, the first that of event 2"),
        ([0.0, 0.0], "all 2 are 0"),
    ],
)
def test_weights_that_cannot_be_used(weights: list[float], problem: str) -> None:
    with pytest.raises(DataError, match=f"'w': {problem}"):
        checked_weights(np.array(weights), "w")


def test_weights_of_no_events() -> None:
    assert len(checked_weights(np.zeros(0), "w")) == 0


# --------------------------------------------------------------------------------------------------
# Fluxes
# --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("flux", "norm", "index"), [("E^-2.37", 1e-18, 2.37), ("7.2e-19 * E^-2", 7.2e-19, 2.0)]
)
def test_neutrinos_for_a_power_law(tmp_path: Path, flux: str, norm: float, index: float) -> None:
    pytest.importorskip("simweights")
    file, columns = neutrino_file(tmp_path / "a.hdf5", 400, 1)
    np.testing.assert_allclose(
        flux_weights(flux, [file]), expected_weights(columns, norm, index), rtol=1e-6
    )


def test_showers_of_corsika(tmp_path: Path) -> None:
    """Flux × area × solid angle × ∫ E^-γ dE / E^-γ / generated showers."""
    simweights = pytest.importorskip("simweights")
    rng, num_events, index, low, high = np.random.default_rng(1), 60, 2.6, 1e3, 1e8
    energy = 10 ** rng.uniform(3, 8, num_events)
    primary = {"energy": energy, "zenith": rng.uniform(0, 3, num_events)}
    constant = {
        "n_events": 5000.0,
        "oversampling": 2.0,
        "power_law_index": -index,
        "min_energy": low,
        "max_energy": high,
        "primary_type": 2212.0,
        "cylinder_height": HEIGHT,
        "cylinder_radius": RADIUS,
        "min_zenith": 0.0,
        "max_zenith": math.pi,
    }
    tables = {
        "PolyplopiaPrimary": primary | {"type": np.full(num_events, 2212.0)},
        "I3CorsikaInfo": {name: np.full(num_events, value) for name, value in constant.items()},
    }
    path, ids = tmp_path / "a.hdf5", event_ids(num_events)
    # one simulation is described once, not for each event
    write_event_file(path, ids, tables, exists={"I3CorsikaInfo": np.arange(num_events) == 0})
    found = flux_weights("GaisserH4a", [EventsOfFile(path, ids, np.zeros(num_events))])

    surface = 1e4 * 2 * math.pi * RADIUS * (RADIUS + HEIGHT)  # cm²
    integral = (high ** (1 - index) - low ** (1 - index)) / (1 - index)
    flux = simweights.GaisserH4a()(energy, 2212)
    # a convex body shows a quarter of its surface to each direction on average (Cauchy)
    expected = flux * math.pi * surface * integral * energy**index / (5000 * 2)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_files_are_one_sample_and_events_are_joined_by_id(tmp_path: Path) -> None:
    pytest.importorskip("simweights")
    (first, columns), (second, others) = (
        neutrino_file(tmp_path / f"{seed}.hdf5", 50, seed) for seed in (1, 2)
    )
    chosen = np.array([30, 2, 49])
    part = EventsOfFile(second.path, second.ids[chosen], second.time_offset[chosen])
    expected = np.concatenate(
        [expected_weights(columns, 1e-18, 2), expected_weights(others, 1e-18, 2)[chosen]]
    )
    found = flux_weights("E^-2", [first, part])
    np.testing.assert_allclose(found, expected / 2, rtol=1e-6)
    found = flux_weights("E^-2", [first, part], jobs_per_file=10)
    np.testing.assert_allclose(found, expected / 20, rtol=1e-6)


def test_a_file_of_several_inputs_counts_as_so_many_jobs(tmp_path: Path) -> None:
    """The weights do not depend on how many inputs `create-data` put into a file."""
    pytest.importorskip("simweights")
    file, columns = neutrino_file(tmp_path / "one.hdf5", 50, 1)
    merged, ids = tmp_path / "merged.hdf5", event_ids(80)
    others = weight_dict(80, 2)
    write_event_file(merged, ids, {"I3MCWeightDict": others}, attributes={NUM_INPUTS: "3"})
    files = [file, EventsOfFile(merged, ids, np.zeros(80))]
    simulated = [expected_weights(each, 1e-18, 2) for each in (columns, others)]
    expected = np.concatenate(simulated) / 4
    np.testing.assert_allclose(flux_weights("E^-2", files), expected, rtol=1e-6)
    found = flux_weights("E^-2", files, jobs_per_file=5)
    np.testing.assert_allclose(found, expected / 5, rtol=1e-6)
    write_event_file(merged, ids, {"I3MCWeightDict": others}, attributes={NUM_INPUTS: "0"})
    with pytest.raises(DataError, match=r"merged\.hdf5' is damaged: its attribute"):
        flux_weights("E^-2", files)


def test_files_of_which_a_filter_keeps_no_event_count(tmp_path: Path) -> None:
    pytest.importorskip("simweights")
    run = make_small_run(
        tmp_path,
        misc_load_dict={"MCPrimary": ["energy"]},
        data_handler_misc_class="dnn_reco.modules.data.misc.default_misc.general_misc_loader",
        filter_greater_than={"MCPrimary_energy": 1.0},
    )
    paths, simulated = [tmp_path / f"numu_{number}.hdf5" for number in range(3)], []
    for number, path in enumerate(paths):
        events, columns = random_events(number, 20, num_bins=3), weight_dict(20, number)
        energy = events.primary["energy"] * (1 if number != 1 else 0)
        primary = {"MCPrimary": events.primary | {"energy": energy}, "I3MCWeightDict": columns}
        tables = {LABEL_TABLE: events.labels, **primary}
        write_input_tables(path, events.ids, events.time_offset, events.hits, tables=tables)
        simulated.append(expected_weights(columns, 1e-18, 2))
    held_out = open_held_out_events(run.config(), paths, str(tmp_path / "store"), 1)
    found = extras_of([], held_out, None, "E^-2", []).weights
    expected = np.concatenate([simulated[0], simulated[2]]) / 3
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    found = extras_of([], held_out, None, "E^-2", [], jobs_per_file=2).weights
    np.testing.assert_allclose(found, expected / 2, rtol=1e-6)


def test_files_without_any_event_are_not_counted_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("simweights")
    file, columns = neutrino_file(tmp_path / "a.hdf5", 20, 1)
    none, _ = neutrino_file(tmp_path / "none.hdf5", 0, 2)
    found = flux_weights("E^-2", [file, none])
    np.testing.assert_allclose(found, expected_weights(columns, 1e-18, 2), rtol=1e-6)
    assert f"'{none.path}', of which none is used, are not counted" in caplog.text


def test_events_without_weights(tmp_path: Path) -> None:
    pytest.importorskip("simweights")
    file, _ = neutrino_file(tmp_path / "a.hdf5", 5, 1)
    more = EventsOfFile(file.path, event_ids(7), np.zeros(7))
    with pytest.raises(DataError, match="has no weights for 2 of the 7 events"):
        flux_weights("E^-2", [more])
    assert len(flux_weights("E^-2", [])) == 0


def no_table(columns: Columns) -> dict[str, Columns]:
    return {"Labels": {"EnergyVisible": columns["TotalWeight"]}}


def no_column(columns: Columns) -> dict[str, Columns]:
    return {"I3MCWeightDict": {n: v for n, v in columns.items() if n != "NEvents"}}


def several_simulations(columns: Columns) -> dict[str, Columns]:
    spectrum = np.where(np.arange(len(columns["NEvents"])) < 2, 2.0, 1.0)
    return {"I3MCWeightDict": columns | {"PowerLawIndex": spectrum}}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (no_table, "has no tables that weights for a flux are computed from.*Labels.*--weights"),
        (no_column, "simweights cannot use the tables I3MCWeightDict"),
        (several_simulations, "simweights cannot use the tables I3MCWeightDict"),
    ],
)
def test_files_that_cannot_be_weighted(
    tmp_path: Path, change: Callable[[Columns], dict[str, Columns]], problem: str
) -> None:
    pytest.importorskip("simweights")
    path, ids = tmp_path / "a.hdf5", event_ids(4)
    write_event_file(path, ids, change(weight_dict(4, 1)))
    with pytest.raises(DataError, match=problem):
        flux_weights("E^-2", [EventsOfFile(path, ids, np.zeros(4))])


def test_unknown_flux(tmp_path: Path) -> None:
    pytest.importorskip("simweights")
    file, _ = neutrino_file(tmp_path / "a.hdf5", 4, 1)
    with pytest.raises(ConfigError, match=r"GaisserH4: there is no such flux.*Did you mean 'Gais"):
        flux_weights("GaisserH4", [file])
    # it needs arguments, which an option cannot give
    with pytest.raises(ConfigError, match="FixedFractionFlux: there is no such flux") as error:
        flux_weights("FixedFractionFlux", [file])
    assert "FixedFractionFlux" not in str(error.value).partition("cosmic rays:")[2]


def test_flux_of_other_particles(tmp_path: Path) -> None:
    """Neutrinos have no weight in a flux of cosmic rays."""
    pytest.importorskip("simweights")
    file, _ = neutrino_file(tmp_path / "a.hdf5", 4, 1)
    with pytest.raises(DataError, match="all 4 are 0"):
        flux_weights("GaisserH4a", [file])


def test_without_simweights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "simweights", None)
    with pytest.raises(ConfigError, match=r"pip install 'dnn_reco\[weights\]'"):
        flux_weights("E^-2", [])
