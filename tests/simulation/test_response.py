"""Photo-electrons to pulses of triggered events, as a whole: order, times, noise, dead DOMs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dnn_reco.data.pulses import ATWD, FADC, LOCAL_COINCIDENCE, Pulses
from dnn_reco.detector.geometry import NUM_DOMS, dom_index
from dnn_reco.simulation.detector import Detector, high_efficiency_doms, icecube86
from dnn_reco.simulation.noise import NoiseSettings
from dnn_reco.simulation.response import Detected, ResponseSettings, detect
from dnn_reco.simulation.sources import PhotoElectrons

QUIET = ResponseSettings(noise=NoiseSettings(rate=0.0))
ALL_WORK = Detector(np.ones(NUM_DOMS))
DETECTOR = icecube86()


def light(
    num_events: int, event: np.ndarray, dom: np.ndarray, time: np.ndarray, weight: float = 1.0
) -> PhotoElectrons:
    return PhotoElectrons(num_events, event, dom, time, np.full(len(event), weight))


def flashes(num_events: int, doms: int = 20, each: int = 5, time: float = 777.0) -> PhotoElectrons:
    """The same instant of light in the upper DOMs of string 21 in each event."""
    event = np.repeat(np.arange(num_events), doms * each)
    dom = 60 * 20 + np.tile(np.repeat(np.arange(doms), each), num_events)
    return light(num_events, event, dom, np.full(len(event), time))


def spread_light(num_events: int, seed: int = 0) -> PhotoElectrons:
    """300 photo-electrons an event over 3 μs in 60 DOMs around the middle of the detector."""
    rng = np.random.default_rng(seed)
    event = np.repeat(np.arange(num_events), 300)
    dom = dom_index(rng.choice([35, 36, 45], len(event)), rng.integers(20, 40, len(event)))
    return light(num_events, event, dom, 5e6 + rng.exponential(600.0, len(event)))


def run(
    photoelectrons: PhotoElectrons,
    settings: ResponseSettings,
    seed: int = 1,
    detector: Detector = DETECTOR,
) -> Detected:
    return detect(photoelectrons, detector, settings, np.random.default_rng(seed))


def assert_equal(first: Pulses, second: Pulses) -> None:
    assert first.num_events == second.num_events
    for name in ("event", "dom", "time", "charge", "flags"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


class TestDetector:
    def test_deep_core_has_the_efficient_doms(self) -> None:
        efficient = high_efficiency_doms()
        assert efficient.sum() == 6 * 60 + 14 + 12 + 14 + 1
        assert efficient[dom_index(np.array([81, 86]), np.array([1, 60]))].all()
        assert not efficient[
            dom_index(np.array([79, 80, 36, 78]), np.array([29, 44, 60, 40]))
        ].any()

    def test_efficiencies(self) -> None:
        assert set(np.unique(DETECTOR.efficiency)) == {0.0, 1.0, 1.35}
        assert (DETECTOR.efficiency == 0).sum() == 77  # 1.5 % of 5160

    def test_default_dead_doms_never_change(self) -> None:
        dead = np.flatnonzero(DETECTOR.efficiency == 0)
        assert dead[:5].tolist() == [62, 88, 96, 205, 288]
        assert not np.array_equal(DETECTOR.efficiency, icecube86(dead_seed=87).efficiency)

    def test_all_can_work(self) -> None:
        assert (icecube86(dead_fraction=0.0).efficiency > 0).all()


class TestTrigger:
    def test_dark_events_are_dropped_and_the_others_renumbered(self) -> None:
        bright = flashes(3)
        keep = bright.event != 1
        dark_middle = light(3, bright.event[keep], bright.dom[keep], bright.time[keep])
        detected = run(dark_middle, ResponseSettings())
        assert detected.triggered.tolist() == [0, 2]
        assert detected.pulses.num_events == 2
        assert set(detected.pulses.event) == {0, 1}
        assert len(detected.time_shift) == 2

    def test_seven_doms_do_not_trigger_and_eight_do(self) -> None:
        settings = replace(QUIET, readout=replace(QUIET.readout, discriminator=0.0))
        seven, eight = (run(flashes(4, doms=n), settings, detector=ALL_WORK) for n in (7, 8))
        assert seven.triggered.tolist() == []
        assert eight.triggered.tolist() == [0, 1, 2, 3]

    def test_nothing_triggers(self) -> None:
        detected = run(flashes(2, doms=0), ResponseSettings())
        assert detected.pulses.num_events == 0
        assert len(detected.pulses.time) == len(detected.time_shift) == 0

    def test_trigger_begins_with_a_coincident_pulse_at_ten_microseconds(self) -> None:
        pulses = run(flashes(20), QUIET).pulses
        fine = pulses.flags == LOCAL_COINCIDENCE | ATWD
        first = [pulses.time[fine & (pulses.event == i)].min() for i in range(20)]
        np.testing.assert_allclose(first, 10_000.0, atol=1e-6)

    def test_time_shift_brings_true_times_to_the_pulses(self) -> None:
        for time in (777.0, -4e4, 3e7):
            detected = run(flashes(20, time=time), QUIET)
            # Few of the 20 DOMs have a prepulse 31 ns early, all a jitter of 2 ns.
            middle = [
                np.median(detected.pulses.time[detected.pulses.event == i]) for i in range(20)
            ]
            np.testing.assert_allclose(middle - (time + detected.time_shift), 0.0, atol=3.0)


class TestPulses:
    def test_sorted_and_inside_the_readout(self) -> None:
        pulses = run(spread_light(40), ResponseSettings()).pulses
        order = np.lexsort((pulses.time, pulses.dom, pulses.event))
        np.testing.assert_array_equal(order, np.arange(len(order)))
        assert pulses.time.min() >= 0.0
        # A trigger of some μs, 10 μs after it, and 6.4 μs of the last launch.
        assert 20_000.0 < pulses.time.max() < 45_000.0
        assert pulses.charge.min() >= 0.1
        coincident = LOCAL_COINCIDENCE
        assert set(pulses.flags) == {coincident | ATWD, coincident | FADC, FADC}

    def test_same_seed_same_pulses(self) -> None:
        first = run(spread_light(5), ResponseSettings(), seed=4)
        again = run(spread_light(5), ResponseSettings(), seed=4)
        other = run(spread_light(5), ResponseSettings(), seed=5)
        assert_equal(first.pulses, again.pulses)
        np.testing.assert_array_equal(first.time_shift, again.time_shift)
        assert len(other.pulses.time) != len(first.pulses.time)

    def test_dead_doms_are_silent(self) -> None:
        dead = np.flatnonzero(DETECTOR.efficiency == 0)
        bright = flashes(10)
        event = np.concatenate([bright.event, np.repeat(np.arange(10), len(dead))])
        dom = np.concatenate([bright.dom, np.tile(dead, 10)])
        everywhere = light(10, event, dom, np.full(len(dom), 777.0))
        pulses = run(everywhere, ResponseSettings()).pulses
        assert len(pulses.dom) > 500
        assert not np.isin(pulses.dom, dead).any()
        alive = run(everywhere, ResponseSettings(), detector=ALL_WORK).pulses
        assert np.isin(dead, alive.dom).all()

    def test_no_pulse_before_the_light_but_prepulses(self) -> None:
        photoelectrons = spread_light(100)
        detected = run(photoelectrons, QUIET)
        first = np.full((100, NUM_DOMS), np.inf)
        np.minimum.at(first, (photoelectrons.event, photoelectrons.dom), photoelectrons.time)
        pulses = detected.pulses
        event = detected.triggered[pulses.event]
        earliest = first[event, pulses.dom] + detected.time_shift[pulses.event]
        early = earliest - pulses.time
        assert early.max() < 31.0 + 6 * np.hypot(2.0, 2.2)
        assert (early > 10.0).mean() < 0.003

    def test_charge_per_photoelectron(self) -> None:
        """The reference simulation has 0.909 in the median, without noise and late afterpulses."""
        photoelectrons = spread_light(200)
        pulses = run(photoelectrons, QUIET, detector=ALL_WORK).pulses
        charge = pulses.charge[pulses.time < 14_000.0].sum()
        assert charge / photoelectrons.weight.sum() == pytest.approx(0.909, abs=0.015)

    def test_weights_stand_for_many_photoelectrons(self) -> None:
        unsaturated = replace(QUIET, readout=replace(QUIET.readout, saturation=np.inf))
        heavy = light(200, *_columns(flashes(200, each=1)), weight=200.0)
        single = flashes(200, each=200)
        np.testing.assert_allclose(
            run(heavy, unsaturated).pulses.charge.sum(),
            run(single, unsaturated).pulses.charge.sum(),
            rtol=0.01,
        )


def _columns(photoelectrons: PhotoElectrons) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return photoelectrons.event, photoelectrons.dom, photoelectrons.time


def noise_pulses(num_events: int) -> Pulses:
    """Pulses between 3.8 and 9 μs, before the light."""
    pulses = detect(
        flashes(num_events), DETECTOR, ResponseSettings(), np.random.default_rng(9)
    ).pulses
    keep = (pulses.time >= 3800.0) & (pulses.time < 9000.0)
    return Pulses(
        pulses.num_events,
        pulses.event[keep],
        pulses.dom[keep],
        pulses.time[keep],
        pulses.charge[keep],
        pulses.flags[keep],
    )


def test_noise_after_readout_is_that_of_the_photon_tracking_simulation(shared_data: Path) -> None:
    calibration = json.loads((shared_data / "ppc" / "CALIBRATION.json").read_text())["noise"]
    expected = calibration["per_event_in_window_of_5p2us_all_DOMs"]
    pulses = noise_pulses(1000)
    doms = np.unique(pulses.event * NUM_DOMS + pulses.dom)
    assert len(doms) / 1000 == pytest.approx(expected["DOMs"], rel=0.05)
    assert len(pulses.time) / 1000 == pytest.approx(expected["pulses"], rel=0.05)
    assert pulses.charge.sum() / 1000 == pytest.approx(expected["charge_PE"], rel=0.05)
    standard = DETECTOR.efficiency[pulses.dom] == 1.0
    rate = standard.sum() / (1000 * 5.2 * (DETECTOR.efficiency == 1.0).sum())
    assert rate == pytest.approx(
        calibration["first_hit_probability_per_standard_DOM_per_us"], rel=0.06
    )


def test_noise_pulses_look_like_those_of_the_photon_tracking_simulation(shared_data: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.ParquetFile(shared_data / "ppc" / "pulses_run11.parquet").read_row_groups(
        [0, 9]
    )
    time = table["time"].to_numpy()
    noise = (time >= 3800) & (time < 9000)
    charge, flags = table["charge"].to_numpy()[noise], table["flag"].to_numpy()[noise]

    pulses = noise_pulses(1000)
    levels = [0.05, 0.16, 0.5, 0.84, 0.95]
    ours, theirs = np.quantile(pulses.charge, levels), np.quantile(charge, levels)
    np.testing.assert_allclose(ours, theirs, atol=0.05)
    assert (flags == FADC).mean() > 0.98
    assert (pulses.flags == FADC).mean() == pytest.approx((flags == FADC).mean(), abs=0.01)
