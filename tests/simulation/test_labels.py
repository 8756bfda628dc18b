"""Labels of simulated events: invariants, hand-made events, and other people's labels."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dnn_reco.detector.hull import detector_hull, label_hull
from dnn_reco.simulation.labels import labels
from dnn_reco.simulation.particles import (
    CHARGED_CURRENT,
    NEUTRAL_CURRENT,
    NO_INTERACTION,
    ParticleSettings,
)
from dnn_reco.simulation.truth import SimulationTruth, simulate_particles

C = 0.299792458
Array = NDArray[np.float64]


def event(**values: object) -> SimulationTruth:
    """One event that moves along x at y = z = 0; all but the given is 0."""
    zenith, azimuth = np.pi / 2, np.pi
    default: dict[str, object] = {
        "pdg": 14,
        "energy": 1000.0,
        "zenith": zenith,
        "azimuth": azimuth,
        "interaction": CHARGED_CURRENT,
        "vertex": (0.0, 0.0, 0.0),
        "lepton_direction": (1.0, 0.0, 0.0),
        "muon_passes": False,
    }
    names = SimulationTruth.__dataclass_fields__
    return SimulationTruth(
        **{name: np.array([values.get(name, default.get(name, 0.0))]) for name in names}
    )


def label(truth: SimulationTruth) -> dict[str, float]:
    return {name: values[0] for name, values in labels(truth).items()}


def kinds(values: dict[str, float]) -> set[str]:
    return {name for name, value in values.items() if name.startswith("p_") and value == 1}


@settings(max_examples=25)
@given(
    st.sampled_from(["nue", "numu", "nutau", "mixed", "muon"]),
    st.floats(10, 1e6),
    st.integers(0, 2**32),
)
def test_invariants(flavor: str, energy: float, seed: int) -> None:
    limits = (energy, 10 * energy)
    what = ParticleSettings(flavor=flavor, energy=limits, margin=200.0)  # type: ignore[arg-type]
    truth, _ = simulate_particles(what, 60, np.random.default_rng(seed))
    found = labels(truth)
    assert all(np.isfinite(values).all() and values.shape == (60,) for values in found.values())
    assert all(values.dtype == np.float64 for values in found.values())
    flags = {name: values for name, values in found.items() if name.startswith("p_")}
    assert all(np.isin(values, (0, 1)).all() for values in flags.values())
    one = flags["p_starting"] + flags["p_entering"] + flags["p_outside_cascade"]
    assert (one == 1).all()
    parts = flags["p_starting_cc"] + flags["p_starting_nc"] + flags["p_starting_glashow"]
    assert (parts == flags["p_starting"]).all()
    flavors = (flags[f"p_starting_cc_{name}"] for name in ("e", "mu", "tau"))
    assert (sum(flavors) == flags["p_starting_cc"]).all()
    tau = flags["p_starting_cc_tau_muon_decay"] + flags["p_starting_cc_tau_double_bang"]
    assert (tau == flags["p_starting_cc_tau"]).all()
    assert (flags["p_starting"] <= flags["p_starting_300m"]).all()
    assert (flags["p_entering_muon_single_stopping"] <= flags["p_entering_muon_single"]).all()
    assert (flags["p_entering_muon_single"] <= flags["p_entering"]).all()
    assert (flags["p_neutrino"] == (flavor != "muon")).all()
    zenith, azimuth = found["PrimaryZenith"], found["PrimaryAzimuth"]
    np.testing.assert_allclose(found["PrimaryDirectionX"], -np.sin(zenith) * np.cos(azimuth))
    np.testing.assert_allclose(found["PrimaryDirectionY"], -np.sin(zenith) * np.sin(azimuth))
    np.testing.assert_allclose(found["PrimaryDirectionZ"], -np.cos(zenith))
    assert (found["EnergyVisible"] <= found["PrimaryEnergy"] * (1 + 1e-9)).all()
    assert (found["TotalDepositedEnergy"] <= found["PrimaryEnergy"] * (1 + 1e-9)).all()
    assert (found["LengthInDetector"] <= found["Length"] + 1e-6).all()
    assert (found["LengthInDetector"] >= 0).all()
    assert (flags["p_is_track"] <= (found["Length"] > 30)).all()
    assert (found["VertexTime"] >= truth.time).all()
    above, at_entry = found["num_muons_at_entry_above_threshold"], found["num_muons_at_entry"]
    assert (above <= at_entry).all()
    assert (at_entry == found["leading_energy_rel_entry"]).all()


def test_columns_are_those_of_the_real_table(numu_file: Path) -> None:
    with h5py.File(numu_file, locking=False) as file:
        names = file["LabelsDeepLearning"].dtype.names[5:]
    assert tuple(labels(event())) == names


def test_starting_muon() -> None:
    found = label(
        event(
            vertex=(100.0, 0.0, 0.0),
            time=50.0,
            hadron_energy=400.0,
            muon_energy=600.0,
            muon_length=2000.0,
            muon_entry_energy=600.0,
            muon_passes=True,
        )
    )
    assert kinds(found) == {
        "p_neutrino",
        "p_starting",
        "p_starting_300m",
        "p_starting_cc",
        "p_starting_cc_mu",
        "p_is_track",
    }
    assert found["VertexX"] == 100 and found["VertexTime"] == 50
    # 0.8024 of the light of an electron of 400 GeV
    assert found["EnergyVisible"] == pytest.approx(600 + 0.8016 * 400, abs=0.5)
    assert found["Length"] == 2000
    # From x = 100 m to the side between strings 6 and 50, at x = 514.4 m where y = 0
    assert found["LengthInDetector"] == pytest.approx(414.4, abs=0.1)
    assert found["num_muons_at_entry"] == 0
    assert found["PrimaryDirectionX"] == pytest.approx(1)


def test_through_going_muon() -> None:
    muon = {"vertex": (-5000.0, 0.0, 0.0), "hadron_energy": 400.0, "muon_energy": 600.0}
    muon |= {"muon_entry_energy": 250.0, "muon_passes": True}
    found = label(event(muon_length=9000.0, **muon))
    assert kinds(found) == {"p_neutrino", "p_entering", "p_entering_muon_single", "p_is_track"}
    # The side between strings 31 and 75 is at x = -522.5 m where y = 0.
    assert found["VertexX"] == pytest.approx(-522.5, abs=0.1)
    assert found["VertexTime"] == pytest.approx((5000 - 522.5) / C, abs=1)
    assert found["EnergyVisible"] == 250
    assert found["Length"] == 9000
    assert found["LengthInDetector"] == pytest.approx(522.5 + 514.4, abs=0.2)
    assert found["num_muons_at_entry_above_threshold"] == 1

    stopping = label(event(muon_length=5000.0, **muon))
    assert "p_entering_muon_single_stopping" in kinds(stopping)
    assert stopping["LengthInDetector"] == pytest.approx(522.5, abs=0.1)
    short = label(event(muon_length=4000.0, **muon))
    assert "p_entering_muon_single_stopping" not in kinds(short)
    assert short["VertexX"] == -1000 and short["num_muons_at_entry"] == 0


def test_muon_that_passes_beside_is_labelled_where_it_is_closest() -> None:
    found = label(
        event(
            vertex=(-3000.0, 600.0, 0.0),
            muon_energy=600.0,
            muon_length=9000.0,
            muon_entry_energy=100.0,
            muon_passes=True,
        )
    )
    assert kinds(found) == {"p_neutrino", "p_entering", "p_entering_muon_single", "p_is_track"}
    assert (found["VertexX"], found["VertexY"]) == (0, 600)
    assert found["LengthInDetector"] == 0 and found["num_muons_at_entry"] == 0


def test_muon_from_the_rim_is_entering_at_its_start() -> None:
    # 30 m inside: not 60 m deep, so not starting; yet inside the hull that muons enter.
    found = label(
        event(vertex=(0.0, 0.0, 470.0), muon_energy=600.0, muon_length=900.0, muon_passes=True)
    )
    assert {"p_entering", "p_starting_300m"} < kinds(found)
    assert "p_starting" not in kinds(found)
    assert found["VertexX"] == 0 and found["num_muons_at_entry"] == 0


def test_cascades_inside_and_outside() -> None:
    nc = {"pdg": -12, "interaction": NEUTRAL_CURRENT, "hadron_energy": 1000.0}
    found = label(event(**nc))
    assert kinds(found) == {"p_neutrino", "p_starting", "p_starting_300m", "p_starting_nc"}
    assert found["EnergyVisible"] == pytest.approx(829.0, abs=0.1)
    assert 6 < found["Length"] < 12 and found["LengthInDetector"] == found["Length"]
    outside = label(event(vertex=(0.0, 0.0, -520.0), **nc))
    assert kinds(outside) == {"p_neutrino", "p_starting_300m", "p_outside_cascade"}
    assert outside["VertexZ"] == -520 and outside["LengthInDetector"] == 0
    assert outside["EnergyVisible"] == found["EnergyVisible"]


def test_taus() -> None:
    tau = {"pdg": 16, "energy": 2e6, "hadron_energy": 1e6, "tau_energy": 1e6, "tau_length": 80.0}
    bang = label(event(**tau, decay_hadron_energy=5e5))
    assert {"p_starting_cc_tau", "p_starting_cc_tau_double_bang"} < kinds(bang)
    assert "p_is_track" not in kinds(bang)
    assert bang["EnergyVisible"] == pytest.approx(1e6 + 0.94443e6, rel=1e-4)
    assert 90 < bang["Length"] < 100
    muon = label(event(**tau, muon_energy=3e5, muon_length=5000.0, muon_passes=True))
    assert {"p_starting_cc_tau_muon_decay", "p_is_track"} < kinds(muon)
    assert muon["Length"] == 5080
    outside = label(event(**tau, vertex=(-600.0, 0.0, 0.0), decay_hadron_energy=5e5))
    assert kinds(outside) == {"p_neutrino", "p_starting_300m", "p_entering"}
    assert outside["EnergyVisible"] == 1e6 and outside["Length"] == 80
    assert outside["VertexX"] == pytest.approx(-522.5, abs=0.1)


def test_single_muon() -> None:
    found = label(
        event(
            pdg=13,
            interaction=NO_INTERACTION,
            vertex=(-900.0, 0.0, 0.0),
            muon_energy=1000.0,
            muon_length=3000.0,
            muon_entry_energy=800.0,
            muon_passes=True,
        )
    )
    assert kinds(found) == {"p_entering", "p_entering_muon_single", "p_is_track"}
    assert found["PrimaryEnergy"] == 1000 and found["EnergyVisible"] == 800
    assert found["VertexX"] == pytest.approx(-522.5, abs=0.1)


def test_shifted_and_selected_events() -> None:
    truth, _ = simulate_particles(ParticleSettings(), 20, np.random.default_rng(1))
    delay = np.linspace(100, 200, 20)
    before, after = labels(truth), labels(truth.shifted(delay))
    np.testing.assert_allclose(after["VertexTime"] - before["VertexTime"], delay)
    assert all(np.array_equal(before[n], after[n]) for n in before if n != "VertexTime")
    chosen = np.array([3, 7])
    assert labels(truth.select(chosen))["EnergyVisible"] == pytest.approx(
        before["EnergyVisible"][chosen]
    )


@pytest.fixture(scope="module")
def other_truth(shared_data: Path) -> dict[str, Array]:
    """Truth and labels of events of another simulation, made by other code."""
    parquet = pytest.importorskip("pyarrow.parquet")
    path = shared_data / "ppc" / "truth_run11.parquet"
    if not path.is_file():
        pytest.skip(f"'{path}' not found")
    table = parquet.read_table(path)
    return {name: table[name].to_numpy().astype(np.float64) for name in table.column_names}


def test_labels_of_another_simulation(other_truth: dict[str, Array]) -> None:
    column = other_truth
    n = column["pdg"].size
    # Through-going muons are recorded from where they come near: their neutrino's vertex and the
    # length from there to the end are not known, but whether they fly on behind the detector is.
    through_going = column["kind"] == 3
    leaves = through_going & (column["E_exit"] > 0)
    direction = np.stack([column[f"PrimaryDirection{axis}"] for axis in "XYZ"], axis=1)
    nothing = np.zeros(n)
    truth = SimulationTruth(
        pdg=column["pdg"].astype(np.int64),
        energy=column["PrimaryEnergy"],
        zenith=column["PrimaryZenith"],
        azimuth=column["PrimaryAzimuth"],
        interaction=np.where(column["kind"] == 1, NEUTRAL_CURRENT, CHARGED_CURRENT),
        inelasticity=column["y"],
        vertex=np.stack([column[f"int_{axis}"] for axis in "xyz"], axis=1),
        time=column["int_t"],
        lepton_direction=direction,
        electron_energy=column["E_em"],
        hadron_energy=column["y"] * column["PrimaryEnergy"],
        tau_energy=nothing,
        tau_length=nothing,
        decay_electron_energy=nothing,
        decay_hadron_energy=nothing,
        muon_energy=column["E_mu"],
        muon_length=np.where(leaves, 1e5, column["Length"]),
        muon_entry_energy=np.maximum(column["E_entry"], 0),
        muon_exit_energy=column["E_exit"],
        losses_begin=nothing,
        muon_losses=nothing[:, None],
        muon_passes=column["E_mu"] > 0,
        deposited_energy=column["TotalDepositedEnergy"],
    )
    found = labels(truth)
    known = ~through_going | leaves
    for name in (
        "p_starting", "p_starting_cc", "p_starting_cc_e", "p_starting_cc_mu", "p_starting_nc",
        "p_entering", "p_entering_muon_single", "p_outside_cascade", "p_neutrino",
    ):  # fmt: skip
        np.testing.assert_array_equal(found[name][known], column[name][known], err_msg=name)
    np.testing.assert_array_equal(
        found["p_starting_300m"][~through_going], column["p_starting_300m"][~through_going]
    )
    for axis in "XYZ":
        name = f"PrimaryDirection{axis}"
        np.testing.assert_allclose(found[name], column[name], atol=2e-6)

    # Their hull ends at |z| = 500 m: compare what crosses its sides only, where both agree.
    line = truth.vertex, direction
    z = [truth.vertex[:, 2] + d * direction[:, 2] for d in detector_hull().crossing(*line)]
    sides = known & (np.abs(z[0]) < 490) & (np.abs(z[1]) < 490) & (truth.muon_length > 30)
    # For a muon that stops before the hull theirs goes on to where it would have come closest.
    sides &= truth.muon_length > detector_hull().crossing(*line)[0]
    assert np.count_nonzero(sides) > 5000
    is_entering = sides & (found["p_entering"] == 1)
    for name in ("VertexX", "VertexY", "VertexZ", "VertexTime", "LengthInDetector"):
        np.testing.assert_allclose(found[name][sides], column[name][sides], atol=0.02, err_msg=name)
    reaches = is_entering & (column["E_entry"] > 0)
    for name in ("num_muons_at_entry", "p_entering_muon_single_stopping"):
        np.testing.assert_array_equal(found[name][reaches], column[name][reaches], err_msg=name)
    visible = known & ((column["p_entering"] == 0) | reaches)
    np.testing.assert_allclose(
        found["EnergyVisible"][visible], column["EnergyVisible"][visible], rtol=1e-4, atol=0.1
    )


def test_entry_of_another_simulation(other_truth: dict[str, Array]) -> None:
    column = other_truth
    vertex = np.stack([column[f"int_{axis}"] for axis in "xyz"], axis=1)
    direction = np.stack([column[f"PrimaryDirection{axis}"] for axis in "XYZ"], axis=1)
    expected = np.stack([column[f"Vertex{axis}"] for axis in "XYZ"], axis=1)
    enters = (column["p_entering"] == 1) & (column["E_entry"] > 0)
    contact = detector_hull().first_contact(vertex, direction, np.full(len(vertex), 1e5))
    entry = vertex + contact[:, None] * direction
    assert np.count_nonzero(enters) > 10_000
    np.testing.assert_allclose(entry[enters], expected[enters], atol=0.02)
    starting = column["p_starting"] == 1
    inside = detector_hull().overlap(vertex, direction, column["Length"])
    np.testing.assert_allclose(inside[starting], column["LengthInDetector"][starting], atol=0.02)
    assert label_hull().contains(expected[starting]).all()
