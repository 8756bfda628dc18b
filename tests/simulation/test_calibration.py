"""The fit finds the constants with which made-up data were drawn; what goes in and comes out."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from matplotlib.figure import Figure
from scipy import stats

import dnn_reco.simulation
from dnn_reco.detector.constants import CHERENKOV_COSINE, GROUP_INDEX
from dnn_reco.detector.geometry import dom_index, dom_positions
from dnn_reco.simulation.calibration import __main__ as command
from dnn_reco.simulation.calibration import delays as delay_fit
from dnn_reco.simulation.calibration.delays import ShowerDelays, fit_delays, shower_delays
from dnn_reco.simulation.calibration.fit import START, START_DELAYS, fit, start_ice
from dnn_reco.simulation.calibration.pairs import ShowerDomPairs, shower_pairs, shower_rows
from dnn_reco.simulation.calibration.reference import (
    ReferencePulses,
    distance_from_line,
    read_pulses,
    read_truth,
    working_doms,
)
from dnn_reco.simulation.calibration.tables import TableEntry, agreement
from dnn_reco.simulation.energy_losses import shower_depth
from dnn_reco.simulation.ice import Ice, mean_coefficients
from dnn_reco.simulation.propagation import (
    EARLY_POWER,
    DelayConstants,
    GammaConstants,
    LightConstants,
    delay_distribution,
    gamma_of_delays,
    photoelectrons_per_gev,
    shower_emission,
)

PACKAGE = Path(dnn_reco.simulation.__file__).parent


def drawn(
    ice: Ice, constants: LightConstants, delays: GammaConstants, number: int
) -> ShowerDomPairs:
    """Pairs of bright showers and DOMs, without noise."""
    rng = np.random.default_rng(0)
    distance = rng.uniform(20, 150, number)
    cos_emission, cos_arrival = rng.uniform(-1, 1, (2, number))
    source_z = rng.uniform(-400, 400, number)
    dom_z = source_z - distance * cos_arrival
    energy = np.exp(rng.uniform(5, 10, number))
    coefficients = mean_coefficients(np, ice.columns(source_z), ice.columns(dom_z))
    emission = shower_emission(cos_emission)
    yields = photoelectrons_per_gev(
        np, constants, distance, cos_emission, cos_arrival, emission, *coefficients
    )
    photoelectrons = rng.poisson(energy * yields)
    shape, scale = gamma_of_delays(np, delays, distance, cos_emission, *coefficients)
    pair = np.repeat(np.arange(number), photoelectrons)
    delay = scale[pair] * rng.standard_gamma(shape[pair]) ** EARLY_POWER
    return ShowerDomPairs(
        distance=distance,
        cos_emission=cos_emission,
        cos_arrival=cos_arrival,
        source_z=source_z,
        dom_z=dom_z,
        energy=energy,
        photoelectrons=photoelectrons.astype(float),
        noise=np.full(number, 1e-6),
        delayed=photoelectrons.astype(float),
        log_delay=np.bincount(pair, np.log(delay), number),
        root_delay=np.bincount(pair, delay ** (1 / EARLY_POWER), number),
    )


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads that wait for each other cost more than they gain on so few pairs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_fit_finds_the_truth() -> None:
    truth = replace(START, effective_area=2e-3, acceptance_near=1.0)
    start = start_ice()
    ice = replace(start, absorption=1.5 * start.absorption)
    delays = replace(START_DELAYS, scale=15.0)
    found_ice, found = fit(drawn(ice, truth, delays, 10_000), max_iterations=80)
    assert found.effective_area == pytest.approx(2e-3, rel=0.15)
    assert found.acceptance_far + found.acceptance_near / 2 == pytest.approx(0.8, rel=0.1)
    middle = slice(25, 95)
    ratio = found_ice.absorption[middle] / ice.absorption[middle]
    assert np.median(ratio) == pytest.approx(1, abs=0.1)
    assert found_ice.absorption[50] > 2 * found_ice.absorption[90]


@pytest.mark.usefixtures("one_thread")
def test_fit_finds_early_and_late_light() -> None:
    """Of delays with late, after- and noise pulses; of the functions, not of their constants."""
    truth = replace(
        delay_fit.START,
        early=replace(delay_fit.START.early, shape=3.5, scale=2.0),
        late=replace(delay_fit.START.late, scale=200.0),
        late_odds=0.5,
        late_odds_angle=-2.0,
    )
    data = drawn_delays(truth, 40_000)
    found = fit_delays(data, max_iterations=80)
    for distance, cosine in ((15.0, 1.0), (15.0, -1.0), (60.0, 0.0), (150.0, 0.5)):
        place = distance, cosine, 0.03, 0.01
        expected, result = (delay_distribution(np, each, *place) for each in (truth, found))
        assert result.late_share == pytest.approx(expected.late_share, abs=0.06)
        for light, power in (("early", 2), ("late", 1)):
            of_truth, of_fit = (
                mean_delay(getattr(each, f"{light}_shape"), getattr(each, f"{light}_scale"), power)
                for each in (expected, result)
            )
            assert of_fit == pytest.approx(of_truth, rel=0.2), (light, distance, cosine)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_density_and_cumulative_distribution_of_delays(power: float) -> None:
    shape, scale = np.array([0.2, 0.9, 3.0, 40.0]), np.array([0.3, 10.0, 200.0, 1.0])
    arguments = torch.from_numpy(shape), torch.from_numpy(scale)
    for delay in (1.0, 10.0, 28.0):
        at = torch.full((4,), delay, dtype=torch.float64)
        variate = (delay / scale) ** (1 / power)
        early = variate < 10
        below = delay_fit.cumulative(at, *arguments, power).numpy()
        np.testing.assert_allclose(below[early], stats.gamma.cdf(variate, shape)[early], rtol=1e-6)
        density = delay_fit.density(at, *arguments, power).numpy()
        by_variate = variate ** (1 - power) / (power * scale)
        np.testing.assert_allclose(density, stats.gamma.pdf(variate, shape) * by_variate, rtol=1e-9)


def mean_delay(shape: float, scale: float, power: int) -> float:
    """⟨scale g^power⟩ of a gamma variate g."""
    return scale * math.prod(shape + i for i in range(power))


def drawn_delays(constants: DelayConstants, number: int) -> ShowerDelays:
    """Pulses of showers in DOMs at 10 to 200 m, 2 % of them noise."""
    rng = np.random.default_rng(3)
    distance, cosine = rng.uniform(10, 200, number), rng.uniform(-1, 1, number)
    scattering, absorption = rng.uniform(0.02, 0.05, number), rng.uniform(0.006, 0.015, number)
    d = delay_distribution(np, constants, distance, cosine, scattering, absorption)
    early = d.early_scale * rng.standard_gamma(d.early_shape) ** 2
    late = d.late_scale * rng.standard_gamma(d.late_shape)
    delay = np.where(rng.random(number) < d.late_share, late, early)
    kind = rng.random(number)
    delay += np.where(kind < 0.035, 57.0, 0.0)
    delay += np.where(kind > 0.977, rng.normal(600, 150, number), 0.0)
    delay += np.where(kind > 0.982, rng.normal(1450, 550, number), 0.0)
    is_noise = rng.random(number) < 0.02
    delay = np.where(is_noise, rng.uniform(0, 5000, number), delay)
    noise = np.full(number, 0.02 / 5000)
    kept = delay < 5000
    columns = distance, cosine, scattering, absorption, delay, np.ones(number), noise
    return ShowerDelays(*(column[kept] for column in columns))


# --------------------------------------------------------------------------------------------------
# What goes into the fit, and what comes out
# --------------------------------------------------------------------------------------------------
STRING, OM = 36, 30  # a DOM in the middle of the detector
SPEED = 0.299792458  # m/ns


def truth_of(position: np.ndarray, energy: list[float], **more: Any) -> pd.DataFrame:
    """Showers straight down, at time 100 ns."""
    n = len(energy)
    columns = dict(zip(("int_x", "int_y", "int_z"), position.T, strict=True))
    down = {"PrimaryDirectionX": 0.0, "PrimaryDirectionY": 0.0, "PrimaryDirectionZ": -1.0}
    return pd.DataFrame(
        {"kind": [0] * n, "int_t": [100.0] * n, "EnergyVisible": energy, **columns, **down, **more}
    )


def test_showers_that_are_fitted() -> None:
    rows = [  # x, y, z, energy, kind, and whether it is used
        (0, 0, 100, 2000, 0, True),
        (0, 0, 100, 2000, 1, True),
        (0, 0, 100, 2000, 2, False),  # a track
        (450, 0, 100, 2000, 0, False),
        (318, 318, 100, 2000, 0, True),  # 449.7 m from the axis
        (0, 0, 560, 2000, 0, False),
        (0, 0, -559, 2000, 0, True),
        (0, 0, 100, 1000, 0, False),
        (0, 0, 100, 30_000, 0, False),
        (0, 0, 100, 29_999, 0, True),
        (0, 0, -100, 3000, 0, False),  # faint, in the dust
        (0, 0, -100, 3001, 0, True),
        (0, 0, -150, 2000, 0, False),
        (0, 0, -151, 2000, 0, True),
        (0, 0, 20, 2000, 0, False),
        (0, 0, 21, 2000, 0, True),
    ]
    x, y, z, energy, kind, used = zip(*rows, strict=True)
    place = np.array([x, y, z], dtype=float).T
    truth = truth_of(place, list(energy)).assign(kind=kind)
    assert shower_rows(truth).tolist() == np.flatnonzero(used).tolist()


def shower_below_a_dom() -> tuple[int, float, float, np.ndarray, pd.DataFrame]:
    """A DOM; energy, depth [m] and place of the light of a shower 50 m below it; the truth."""
    dom, energy = int(dom_index(np.array([STRING]), np.array([OM]))[0]), 5000.0
    depth = shower_depth(np.array([energy]), False, 0.5)[0]
    light = dom_positions()[dom] - [0.0, 0.0, 50.0]
    truth = truth_of((light + np.array([0.0, 0.0, depth]))[None], [energy])
    truth.index = [7]
    return dom, energy, depth, light, truth


def test_pairs_of_a_shower_and_its_doms() -> None:
    """Two pulses of known delay in one DOM, 50 m above; nothing in all others."""
    dom, energy, depth, light, truth = shower_below_a_dom()
    arrival = 100 + depth / SPEED + 50 * GROUP_INDEX / SPEED
    delay, charge = np.array([-300.0, 2.0, 80.0, 5000.0]), np.array([100.0, 1.0, 3.0, 100.0])
    pulses = ReferencePulses(np.full(4, 7), np.full(4, dom), arrival + delay, charge)
    working = np.ones(5160, dtype=bool)
    working[dom + 1] = False
    pairs = shower_pairs(truth, pulses, working)

    # all working DOMs from 8 to 200 m, and half of those up to 300 m
    distance = np.linalg.norm(dom_positions() - light, axis=1)
    near = working & (distance > 8) & (distance < 200)
    far = working & (distance >= 200) & (distance < 300)
    assert (pairs.distance < 200).sum() == near.sum()
    assert far.sum() / 2 == pytest.approx((pairs.distance >= 200).sum(), abs=4 * far.sum() ** 0.5)
    assert pairs.distance.max() < 300

    (hit,) = np.flatnonzero(pairs.photoelectrons)
    assert pairs.distance[hit] == pytest.approx(50)
    assert pairs.cos_emission[hit] == pytest.approx(-1)  # the shower goes down
    assert pairs.cos_arrival[hit] == pytest.approx(1)  # the light goes up
    assert pairs.source_z[hit] == pytest.approx(light[2])
    assert pairs.dom_z[hit] == pytest.approx(light[2] + 50)
    assert pairs.energy[hit] == energy
    # 4 PE within -200 to 5000 ns, of which a photo-electron gives 0.91
    assert pairs.photoelectrons[hit] == pytest.approx(4 / 0.91)
    noise = 0.00041 * 5.2 / 0.91
    assert pairs.noise[hit] == pytest.approx(noise)
    assert pairs.delayed[hit] == pytest.approx(4 / 0.91 / 1.023 - noise)
    # delays below 5 ns count as 5 ns; the mean is 61.25 ns
    assert pairs[pairs.photoelectrons > 0].distance == pytest.approx([50])

    def corrected(function: Callable[[float], float], of_noise: float) -> float:
        true = 4 / 1.023
        late = function(61.25 + 57) - function(61.25)
        value = function(5.0) + 3 * function(80.0)
        value -= true * (0.023 * function(61.25 + 1735) + 0.035 * late)
        return value / 0.91 - noise * of_noise

    power = 1 / EARLY_POWER
    assert pairs.log_delay[hit] == pytest.approx(corrected(math.log, math.log(5000) - 1))
    expected = corrected(lambda t: t**power, 5000**power / (1 + power))
    assert pairs.root_delay[hit] == pytest.approx(expected)
    # DOMs of DeepCore see 1.35 times the light
    assert set(np.round(pairs.energy / energy, 2)) == {1.0, 1.35}
    np.testing.assert_allclose(pairs.noise / noise, pairs.energy / energy)


def test_delays_of_the_pulses_of_a_shower() -> None:
    """Of pulses in a DOM 50 m above; not of earlier, later, near and far ones."""
    dom, _, depth, light, truth = shower_below_a_dom()
    distances = np.linalg.norm(dom_positions() - light, axis=1)
    others = [np.argmin(distances), np.argmax(distances)]
    doms = np.array([dom, dom, dom, dom, *others])
    delay = np.array([-61.0, -59.0, 80.0, 5001.0, 9.0, 9.0])
    start = 100 + depth / SPEED + distances[doms] * GROUP_INDEX / SPEED
    charge = np.array([5.0, 0.91, 91.0, 5.0, 5.0, 5.0])
    pulses = ReferencePulses(np.full(6, 7), doms, start + delay, charge)
    ice = start_ice()
    found = shower_delays(truth, pulses, ice)
    assert distances[others[0]] < 8
    assert found.delay == pytest.approx([-59.0, 80.0])
    assert found.distance == pytest.approx([50.0, 50.0])
    assert found.cos_emission == pytest.approx([-1.0, -1.0])  # the shower goes down
    # 101 photo-electrons count as half as many
    assert found.weight == pytest.approx(np.array([1.0, 100.0]) / (1 + 101 / 100))
    assert found.noise == pytest.approx(np.full(2, 0.00041e-3 / 0.91 / 101))
    ends = (ice.columns(np.array([z])) for z in (light[2], light[2] + 50))
    scattering, absorption = mean_coefficients(np, *ends)
    assert found.scattering == pytest.approx(np.full(2, scattering[0]))
    assert found.absorption == pytest.approx(np.full(2, absorption[0]))


def test_pulses_of_the_reference(tmp_path: Path) -> None:
    """The saturation 1 / (1 + rate / (30 PE/ns)) is undone; ATWD pulses are 3.3 ns wide."""
    charge = [9.9, 39.0, 1e4, 1.0]
    pd.DataFrame(
        {
            "event": [0, 0, 2, 1],
            "string": [STRING, 1, 86, 2],
            "om": [OM, 1, 60, 2],
            "time": [1.0, 2.0, 3.0, 4.0],
            "charge": charge,
            "flag": [3, 5, 4, 3],
        }
    ).to_parquet(tmp_path / "pulses_run11.parquet")
    pulses = read_pulses(tmp_path, np.array([0, 2]))
    assert pulses.event.tolist() == [0, 0, 2]
    assert pulses.time.tolist() == [1.0, 2.0, 3.0]
    assert pulses.dom.tolist() == [(STRING - 1) * 60 + OM - 1, 0, 5159]
    true = [9.9 / (1 - 9.9 / 99), 39 / (1 - 39 / 390), 1638.0]
    assert pulses.charge.tolist() == pytest.approx(true)
    working = working_doms(pulses)
    assert working.shape == (5160,)
    assert np.flatnonzero(working).tolist() == sorted(pulses.dom.tolist())
    pd.DataFrame({"kind": [3]}).to_parquet(tmp_path / "truth_run11.parquet")
    assert read_truth(tmp_path)["kind"].tolist() == [3]


def test_distance_from_a_track() -> None:
    """A DOM 30 m beside a vertical track: Cherenkov light leaves it 30 m / tan θ before."""
    dom = dom_index(np.array([STRING]), np.array([OM]))
    start = dom_positions()[dom] + [[30.0, 0.0, 200.0]]
    distance, along, delay = distance_from_line(start, np.array([[0.0, 0.0, -1.0]]), dom)
    assert distance == pytest.approx([30])
    assert along == pytest.approx([200])
    sine = math.sqrt(1 - CHERENKOV_COSINE**2)
    before = 30 * CHERENKOV_COSINE / sine
    assert delay == pytest.approx([(200 - before + 30 / sine * GROUP_INDEX) / SPEED])


@pytest.mark.usefixtures("one_thread")
def test_what_was_fitted_is_what_is_simulated_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_PACKAGE", tmp_path)
    ice = start_ice()
    delays = replace(delay_fit.START, late=replace(delay_fit.START.late, scale=123.4567))
    command.write(ice, START, delays)
    written = json.loads((tmp_path / "light.json").read_text())
    assert written["light"] == pytest.approx(asdict(START), rel=1e-3)
    assert written["delays"]["late"]["scale"] == 123.5
    assert written["delays"]["early"] == pytest.approx(asdict(delays.early), rel=1e-3)
    assert written["delays"]["late_odds"] == delays.late_odds
    layers = json.loads((tmp_path / "ice.json").read_text())
    assert (layers["bottom"], layers["thickness"]) == (ice.bottom, ice.thickness)
    np.testing.assert_allclose(layers["scattering_length"], 1 / ice.scattering, atol=0.0501)
    np.testing.assert_allclose(layers["absorption_length"], 1 / ice.absorption, atol=0.0501)
    assert set(layers) == set(json.loads((PACKAGE / "ice.json").read_text()))
    shipped = json.loads((PACKAGE / "light.json").read_text())
    for part in ("light", "delays"):
        assert set(shipped[part]) == set(written[part])


def test_agreement_of_tables() -> None:
    ratios = {"a": [1.0, 2.0, 0.5, 0.75], "b": [1.25]}
    entries = [
        TableEntry(table, "", 0.0, 4.0, 4.0 * ratio)
        for table, values in ratios.items()
        for ratio in values
    ]
    first, second = agreement(entries)
    assert (first.table, first.entries) == ("a", 4)
    assert first.median_ratio == pytest.approx(0.875)
    # factors 1, 2, 2, 4/3
    assert first.median_deviation == pytest.approx((1 / 3 + 1) / 2)
    assert first.within == 0.5
    assert (second.table, second.entries, second.within) == ("b", 1, 1.0)
    assert second.median_deviation == pytest.approx(0.25)


def test_command_and_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table that is printed, and what the six panels show."""
    charge = "showers: charge per DOM and TeV, "
    entries = [
        TableEntry(charge + "all", "[-1,-1/3)", 30.0, 2.0, 3.0),
        TableEntry(charge + "all", "[1/3,1]", 30.0, 4.0, 4.0),
        TableEntry(charge + "dust -150<z<0", "[1/3,1]", 50.0, 1.0, 1.5),
        TableEntry(charge + "dust -150<z<0", "[-1,-1/3)", 50.0, 1.0, 1.5),
        TableEntry("showers: charge per TeV", "median", -100.0, 10.0, 11.0),
        TableEntry("tracks: charge per DOM", "1-3 TeV", 70.0, 6.0, 6.6),
        TableEntry("showers: residual time, charge weighted", "all 50%", 90.0, 100.0, 110.0),
        TableEntry("showers: residual time, charge weighted", "[1/3,1] 50%", 90.0, 90.0, 91.0),
        TableEntry("showers: residual time, first hit", "all 50%", 90.0, 80.0, 81.0),
        TableEntry("tracks: residual time, charge weighted", "all 95%", 35.0, 500.0, 400.0),
    ]
    asked: list[tuple[object, ...]] = []

    def compare(*arguments: object) -> list[TableEntry]:
        asked.append(arguments)
        return entries

    figures: list[Figure] = []
    monkeypatch.setattr(command, "compare", compare)
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, dpi: figures.append(figure))
    words = [str(tmp_path), "--events", "12", "--figure", str(tmp_path / "figure.png")]
    output = CliRunner().invoke(command.main, words).output.splitlines()
    assert asked == [(tmp_path, 12, 12)]
    assert output[:3] == [
        "| table | entries | median ratio | median deviation | within 30 % |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| showers: charge per DOM and TeV, all | 2 | 1.25 | 25% | 50% |",
    ]
    assert len(output) == 2 + len({entry.table for entry in entries})

    (figure,) = figures
    shown = []
    for axes in figure.axes:
        points, lines = axes.lines[::2], axes.lines[1::2]
        assert [line.get_color() for line in points] == [line.get_color() for line in lines]
        assert all(line.get_marker() == "o" for line in points)
        shown.append(
            {
                str(line.get_label()): [*zip(*dot.get_data(), strict=True), *line.get_ydata()]
                for dot, line in zip(points, lines, strict=True)
            }
        )
    assert shown == [
        {"cos θ in [-1,-1/3)": [(30, 2), 3], "cos θ in [1/3,1]": [(30, 4), 4]},
        {"dust -150<z<0": [(50, 1), 1.5]},
        {"1-10 TeV": [(-100, 10), 11]},
        {"1-3 TeV": [(70, 6), 6.6]},
        {"50%": [(90, 100), 110]},
        {"95%": [(35, 500), 400]},
    ]
    assert [axes.get_xlabel() for axes in figure.axes] == [
        *["distance [m]"] * 2,
        "depth z [m]",
        *["distance [m]"] * 3,
    ]
    assert [axes.get_yscale() for axes in figure.axes] == [*["log"] * 2, "linear", *["log"] * 3]


def test_command_without_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default, 3000 showers and tracks, compared without a new fit."""
    asked: list[object] = []
    monkeypatch.setattr(command, "refit", lambda folder: asked.append("fit"))
    monkeypatch.setattr(command, "compare", lambda *arguments: asked.append(arguments) or [])
    assert CliRunner().invoke(command.main, [str(tmp_path)]).exit_code == 0
    assert asked == [(tmp_path, 3000, 3000)]
    assert CliRunner().invoke(command.main, [str(tmp_path), "--fit"]).exit_code == 0
    assert asked[1:] == ["fit", (tmp_path, 3000, 3000)]
    assert CliRunner().invoke(command.main, [str(tmp_path / "absent")]).exit_code == 2
