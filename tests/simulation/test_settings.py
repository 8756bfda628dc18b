"""Numbers of the simulation that are published, its defaults, and the limits of its settings."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from dnn_reco.cli.data import simulate_command
from dnn_reco.errors import ConfigError
from dnn_reco.simulation.interactions import TAU_LENGTH_PER_GEV, mean_inelasticity
from dnn_reco.simulation.noise import NoiseSettings
from dnn_reco.simulation.particles import ParticleSettings
from dnn_reco.simulation.photomultiplier import PhotomultiplierSettings
from dnn_reco.simulation.readout import ReadoutSettings
from dnn_reco.simulation.settings import SimulationSettings, load_settings
from dnn_reco.simulation.trigger import TriggerSettings


def test_defaults_are_those_that_the_help_tells() -> None:
    told = {
        option.name: option.show_default.split()
        for option in simulate_command.params
        if isinstance(option, click.Option) and isinstance(option.show_default, str)
    }
    settings = SimulationSettings()
    assert told["flavor"] == [settings.flavor]
    assert told["data_format"] == [settings.data_format]
    assert [float(number) for number in told["energy"]] == [*settings.energy]
    assert [float(number) for number in told["zenith"]] == [*settings.zenith]
    assert float(told["spectrum"][0]) == settings.spectral_index
    assert int(told["seed"][0]) == settings.seed
    assert told["files"] == [f"{settings.events_per_file}", "events", "in", "each", "file"]


def test_defaults_are_those_of_the_preset_that_lists_them() -> None:
    preset = Path(__file__).resolve().parents[2] / "configs" / "simulation" / "mixed.yaml"
    assert "These are the defaults." in preset.read_text()
    assert load_settings(preset, {}) == SimulationSettings()


def test_electronics_of_the_publication() -> None:
    """Aartsen et al., JINST 12 (2017) P03012."""
    readout, trigger = ReadoutSettings(), TriggerSettings()
    assert readout.discriminator == 0.25  # PE
    assert (readout.coincidence_reach, readout.coincidence_window) == (2, 1000)
    assert readout.atwd_length == pytest.approx(128 * 3.3, abs=1)  # 128 samples
    assert readout.atwd_width == 3.3
    assert readout.fadc_length == 256 * 25  # samples of 25 ns
    assert readout.isolated_length == 2.5 * 25
    assert readout.coincident_dead_time == readout.fadc_length + 50
    assert readout.isolated_dead_time == 2450
    assert (trigger.multiplicity, trigger.window) == (8, 5000)


def test_electronics_of_the_photon_tracking_simulation() -> None:
    """As its description lists them: the two are compared event by event."""
    readout, trigger, tube = ReadoutSettings(), TriggerSettings(), PhotomultiplierSettings()
    assert (trigger.readout_before, trigger.readout_after, trigger.time) == (10_000,) * 3
    assert readout.saturation == 30  # PE/ns
    assert readout.min_charge == 0.1
    assert (readout.fadc_width, readout.fadc_jitter) == (13, 2.2)
    assert tube.jitter == 2  # ns
    assert NoiseSettings().rate == 620  # Hz
    assert NoiseSettings().lead == 10_000


def test_photomultipliers_of_the_collaboration() -> None:
    """PMTResponseSimulator; and the mean charge of a photo-electron is about 0.91 PE."""
    tube = PhotomultiplierSettings()
    assert (tube.prepulse_probability, tube.prepulse_lead) == (0.003, 31)
    assert tube.late_pulse_probability == 0.035
    assert tube.afterpulse_scale == 1
    mean, variance = tube.charge_moments()
    assert mean == pytest.approx(0.91, abs=0.002)
    # by hand: 0.28 * 2 * 0.64² + 0.72 * (1.015² + 0.306²) - 0.91²
    assert variance == pytest.approx(0.2109, abs=1e-3)


@pytest.mark.parametrize(
    ("neutral", "antineutrino", "means"),
    [  # hep-ph/9512364, 10 GeV to 100 PeV
        (False, False, [0.483, 0.477, 0.472, 0.426, 0.332, 0.273, 0.250, 0.237]),
        (False, True, [0.333, 0.340, 0.354, 0.345, 0.301, 0.266, 0.249, 0.237]),
        (True, False, [0.474, 0.470, 0.467, 0.428, 0.341, 0.279, 0.254, 0.239]),
        (True, True, [0.350, 0.354, 0.368, 0.358, 0.313, 0.273, 0.253, 0.239]),
    ],
)
def test_the_published_table_of_inelasticities(
    neutral: bool, antineutrino: bool, means: list[float]
) -> None:
    def found(log_energy: np.ndarray) -> list[float]:
        shape = log_energy.shape
        flags = np.full(shape, neutral), np.full(shape, antineutrino)
        return mean_inelasticity(10**log_energy, *flags).tolist()

    assert found(np.arange(1.0, 9.0)) == pytest.approx(means, abs=1e-9)
    between = [(a + b) / 2 for a, b in pairwise(means)]
    assert found(np.arange(1.5, 8.0)) == pytest.approx(between, abs=1e-9)
    assert found(np.array([0.5, 9.5])) == pytest.approx([means[0], means[-1]], abs=1e-9)


def test_length_of_taus() -> None:
    """87.03 μm of c τ, and 1.77686 GeV of mass: PDG 2022."""
    assert pytest.approx(87.03e-6 / 1.77686, rel=1e-3) == TAU_LENGTH_PER_GEV


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flavor": "tau"}, "unknown flavor 'tau' to simulate; give one of nue, numu, nutau, mix"),
        ({"energy": (0.99, 10.0)}, "energies to simulate are 0.99 to 10 GeV"),
        ({"energy": (10.0, 9.0)}, "give two ascending numbers of at least 1 GeV"),
        ({"energy": (10.0, np.inf)}, "energies to simulate are 10 to inf GeV"),
        ({"zenith": (-0.1, 90.0)}, r"zenith angles to simulate are -0.1 to 90 degrees"),
        ({"zenith": (0.0, 180.1)}, r"between 0 \(from above\) and 180 \(from below\)"),
        ({"zenith": (90.0, 80.0)}, "give two ascending numbers"),
        ({"nc_fraction": -0.1}, "'nc_fraction' .* is -0.1; give a number between 0 and 1"),
        ({"nc_fraction": 1.1}, "'nc_fraction'"),
        ({"through_going": -0.1}, "'through_going' .* between 0 and 1"),
        ({"through_going": 1.1}, "'through_going'"),
        ({"margin": -150.5}, "'margin' .* is -150.5; give a number between -150 and 300"),
        ({"margin": 300.5}, "'margin'"),
    ],
)
def test_limits_of_what_is_simulated(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ParticleSettings(**settings)


def test_bins_of_a_format_without_bins() -> None:
    with pytest.raises(ConfigError, match=r"'time_bins' has no effect on .*'pulse_summmary"):
        load_settings(None, {"time_bins": [0, 100, 200]})


@pytest.mark.parametrize(
    "settings",
    [
        *[{"flavor": flavor} for flavor in ("nue", "numu", "nutau", "mixed", "muon")],
        *[{"energy": (1.0, 1.0)}, {"zenith": (0.0, 180.0)}, {"zenith": (90.0, 90.0)}],
        *[{name: share} for name in ("nc_fraction", "through_going") for share in (0.0, 1.0)],
        *[{"margin": -150.0}, {"margin": 300.0}],
    ],
)
def test_limits_themselves_are_allowed(settings: dict[str, Any]) -> None:
    ((name, value),) = settings.items()
    assert getattr(ParticleSettings(**settings), name) == value
