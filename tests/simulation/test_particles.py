"""Generated primaries, vertices and what comes out of the interactions."""

from dataclasses import fields

import numpy as np
import pytest

from dnn_reco.detector.hull import detector_hull
from dnn_reco.errors import ConfigError
from dnn_reco.simulation.muons import mean_range
from dnn_reco.simulation.particles import (
    CHARGED_CURRENT,
    NEUTRAL_CURRENT,
    NO_INTERACTION,
    Interactions,
    ParticleSettings,
    deflected,
    generate,
)
from dnn_reco.simulation.truth import simulate_particles


def some(n: int = 20_000, seed: int = 1, **settings: object) -> Interactions:
    return generate(ParticleSettings(**settings), n, np.random.default_rng(seed))  # type: ignore[arg-type]


@pytest.mark.parametrize("index", [1.0, 1.5, 2.7])
def test_spectrum(index: float) -> None:
    events = some(100_000, energy=(1e2, 1e6), spectral_index=index)
    assert events.energy.min() >= 1e2 and events.energy.max() <= 1e6
    # Share of events below 1 TeV: integral of E^-index
    power = 1 - index
    expected = (1e3**power - 1e2**power) / (1e6**power - 1e2**power) if power else 0.25
    assert (events.energy < 1e3).mean() == pytest.approx(expected, abs=0.005)
    # Maximum likelihood of the index, whose slope vanishes at the true one
    x = np.log(events.energy / 1e2)
    span = np.log(1e4)
    mean = span / 2 if not power else span / (1 - np.exp(-power * span)) - 1 / power
    assert x.mean() == pytest.approx(mean, abs=4 * x.std() / np.sqrt(x.size))


def test_flavours_and_currents() -> None:
    events = some(flavor="mixed")
    codes, counts = np.unique(events.pdg, return_counts=True)
    assert codes.tolist() == [-16, -14, -12, 12, 14, 16]
    assert counts / 20_000 == pytest.approx(np.full(6, 1 / 6), abs=0.012)
    assert (events.interaction == NEUTRAL_CURRENT).mean() == pytest.approx(0.3, abs=0.012)
    assert (some(100, nc_fraction=1.0).interaction == NEUTRAL_CURRENT).all()
    assert (some(100, nc_fraction=0.0).interaction == CHARGED_CURRENT).all()


def test_shares_of_flavours() -> None:
    shares = {"nue": 0.5, "mixed": 0.15, "muon": 0.35}
    events = some(flavor=shares, through_going=0.0, nc_fraction=0.2)
    codes, counts = np.unique(events.pdg, return_counts=True)
    assert codes.tolist() == [-16, -14, -13, -12, 12, 13, 14, 16]
    half = [0.025, 0.025, 0.175, 0.275]
    assert counts / 20_000 == pytest.approx(half + half[::-1], abs=0.01)
    is_muon = abs(events.pdg) == 13
    assert (events.interaction[is_muon] == NO_INTERACTION).all()
    assert (events.interaction[~is_muon] == NEUTRAL_CURRENT).mean() == pytest.approx(0.2, abs=0.015)
    # Muons and neutrinos come in turn, each with its own energy, vertex and direction.
    assert abs(np.corrcoef(is_muon, np.arange(20_000))[0, 1]) < 0.03
    assert (events.muon_energy[is_muon] == events.energy[is_muon]).all()
    depth = detector_hull().depth(events.vertex)
    assert depth[is_muon] == pytest.approx(np.full(is_muon.sum(), -300), abs=1e-6)
    assert depth[~is_muon].min() > -100.001
    direct = events.lepton_direction[is_muon]
    np.testing.assert_array_equal(direct, events.direction[is_muon])


def test_the_share_of_one_flavour_is_that_flavour() -> None:
    """The same distribution, though other random numbers."""
    one, all_of_it = some(flavor="muon"), some(flavor={"muon": 1.0}, seed=2)
    assert set(all_of_it.pdg) == {-13, 13}
    assert np.log(all_of_it.energy).mean() == pytest.approx(np.log(one.energy).mean(), abs=0.06)


def test_directions_are_isotropic_or_limited() -> None:
    direction = some().direction
    assert np.linalg.norm(direction, axis=1) == pytest.approx(1)
    assert direction.mean(axis=0) == pytest.approx(np.zeros(3), abs=0.02)
    assert (direction**2).mean(axis=0) == pytest.approx(np.full(3, 1 / 3), abs=0.01)
    zenith = np.degrees(some(zenith=(30.0, 85.0)).zenith)
    assert 30 <= zenith.min() < 31 and 84.9 < zenith.max() <= 85


def test_energy_is_shared_out_completely() -> None:
    events = some(flavor="mixed")
    direct_muon = np.where(events.tau_energy > 0, 0, events.muon_energy)
    charged = events.electron_energy + events.tau_energy + direct_muon
    cc = events.interaction == CHARGED_CURRENT
    np.testing.assert_allclose((charged + events.hadron_energy)[cc], events.energy[cc])
    assert (charged[~cc] == 0).all()
    np.testing.assert_allclose(events.hadron_energy, events.inelasticity * events.energy)
    decay = events.decay_electron_energy + events.decay_hadron_energy
    decay += np.where(events.tau_energy > 0, events.muon_energy, 0)
    assert (decay <= events.tau_energy).all()
    assert ((decay > 0) == (events.tau_energy > 0)).all()


def test_vertices_fill_the_volume_evenly() -> None:
    events = some(40_000, flavor="nue", margin=50.0)
    volume = detector_hull().extended(50)
    assert volume.contains(events.vertex).all()
    assert events.vertex[:, 2].std() == pytest.approx(1100 / np.sqrt(12), rel=0.01)
    # Share of the inner part = ratio of the volumes, found with points of a box
    box = np.random.default_rng(3).uniform(-800, 800, (400_000, 3))
    inner = detector_hull().extended(-100)
    expected = inner.contains(box).sum() / volume.contains(box).sum()
    assert inner.contains(events.vertex).mean() == pytest.approx(expected, abs=0.01)


def test_negative_margin_keeps_vertices_away_from_the_surface() -> None:
    events = some(5000, flavor="nue", margin=-60.0)
    depth = detector_hull().depth(events.vertex)
    assert 60 <= depth.min() < 62


def test_through_going_muons_come_from_outside_and_aim_at_the_detector() -> None:
    events = some(flavor="numu", through_going=0.5, margin=100.0, energy=(1e3, 1e6))
    volume = detector_hull().extended(100)
    outside = ~volume.contains(events.vertex)
    cc = events.interaction == CHARGED_CURRENT
    assert outside[~cc].sum() == 0
    assert outside[cc].mean() == pytest.approx(0.5, abs=0.02)
    far = events.select(outside)
    enter, _ = volume.crossing(far.vertex, far.lepton_direction)
    assert np.isfinite(enter).all()
    share = enter / mean_range(far.muon_energy)
    assert share.min() > 0 and share.max() <= 1
    assert share.mean() == pytest.approx(0.5, abs=0.02)
    assert not volume.contains(some(flavor="nutau", energy=(1e3, 1e6)).vertex).mean() < 1


def test_single_muons_start_300_m_before_the_detector() -> None:
    events = some(2000, flavor="muon", zenith=(0.0, 90.0), margin=100.0)
    assert set(events.pdg) == {13, -13}
    assert (events.muon_energy == events.energy).all()
    depth = detector_hull().extended(300).depth(events.vertex)
    assert depth == pytest.approx(np.zeros(2000), abs=1e-6)
    assert np.isfinite(
        detector_hull().extended(100).crossing(events.vertex, events.direction)[0]
    ).all()
    assert events.direction[:, 2].max() <= 0


def test_double_bangs_are_49_m_per_pev_apart() -> None:
    events = some(flavor="nutau", nc_fraction=0.0, energy=(1e6, 1e6), spectral_index=2.0)
    gap = np.linalg.norm(events.lepton_end - events.vertex, axis=1)
    assert (gap / events.tau_energy).mean() * 1e6 == pytest.approx(49, rel=0.03)


def test_deflected_by_the_angle() -> None:
    rng = np.random.default_rng(4)
    direction = some(500).direction
    direction[0] = 0, 0, 1
    angle = rng.uniform(0, np.pi, 500)
    turned = deflected(direction, angle, rng.uniform(0, 2 * np.pi, 500))
    np.testing.assert_allclose(np.sum(turned * direction, axis=1), np.cos(angle), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), 1)


def test_equal_seeds_give_equal_events() -> None:
    settings = ParticleSettings(energy=(1e3, 1e4))
    runs = [simulate_particles(settings, 50, np.random.default_rng(s)) for s in (7, 7, 8)]
    for first, second, other in zip(*runs, strict=True):
        for field in fields(first):
            np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))
        name = "position" if hasattr(first, "position") else "vertex"
        assert not np.array_equal(getattr(first, name), getattr(other, name))


def test_no_events() -> None:
    for flavor in ("mixed", "muon"):
        settings = ParticleSettings(flavor=flavor)
        truth, sources = simulate_particles(settings, 0, np.random.default_rng(1))
        assert truth.energy.size == 0 and sources.energy.size == 0


def test_light_matches_the_truth() -> None:
    settings = ParticleSettings(flavor="mixed", energy=(1e3, 1e5), through_going=0.3)
    truth, sources = simulate_particles(settings, 2000, np.random.default_rng(9))
    assert (np.diff(sources.event) >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(sources.direction, axis=1), 1)
    light = np.bincount(sources.event, sources.energy, 2000)
    bare = np.bincount(sources.event, sources.length, 2000)
    # A muon adds 0.05 to 0.1 GeV of soft light a metre; hadrons give 0.55 to 1.1 of their energy.
    hadrons = truth.hadron_energy + truth.decay_hadron_energy
    assert (light <= truth.deposited_energy + 0.1 * bare + 0.55 * hadrons + 1e-6).all()
    quiet = truth.deposited_energy == 0
    assert quiet.any() and (light[quiet] <= 0.1 * bare[quiet]).all()
    assert light.sum() == pytest.approx(truth.deposited_energy.sum(), rel=0.03)
    assert (bare <= truth.muon_length + truth.tau_length + 1e-6).all()
    assert (bare[truth.muon_energy + truth.tau_energy == 0] == 0).all()
    # Light starts at the interaction, and nothing outruns it.
    way = np.linalg.norm(sources.position - truth.vertex[sources.event], axis=1)
    np.testing.assert_array_less(way / 0.299792458 - 1e-6, sources.time)
    assert detector_hull().extended(330).contains(sources.position).all()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"flavor": "tau"}, "'tau'"),
        ({"flavor": {"nue": 0.5, "tau": 0.5}}, "'tau'"),
        ({"flavor": {"nue": 0.5, "numu": 0.4}}, "'flavor' are 0.5, 0.4; give numbers"),
        ({"flavor": {"nue": 1.5, "numu": -0.5}}, "not negative, and sum up to 1"),
        ({"flavor": {"nue": float("nan"), "numu": 1.0}}, "sum up to 1"),
        ({"flavor": {}}, "are none"),
        ({"energy": (1e4, 1e3)}, "10000 to 1000 GeV"),
        ({"spectral_index": float("nan")}, "index to simulate is nan"),
        ({"spectral_index": float("-inf")}, "index to simulate is -inf"),
        ({"zenith": (0.0, 200.0)}, "200"),
        ({"nc_fraction": 1.5}, "'nc_fraction'"),
        ({"through_going": -0.1}, "'through_going'"),
        ({"margin": 400.0}, "'margin'"),
        ({"margin": -200.0}, "'margin'"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        ParticleSettings(**settings)  # type: ignore[arg-type]
