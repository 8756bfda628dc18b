"""The information limit: likelihood, Fisher information, fits and sampled posteriors."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import integrate, stats

from dnn_reco.detector.geometry import NUM_DOMS, dom_positions
from dnn_reco.simulation.detector import icecube86
from dnn_reco.simulation.energy_losses import Flights, combine, shower_sources
from dnn_reco.simulation.light import expected_photoelectrons, sample_photoelectrons
from dnn_reco.simulation.muons import energy_after
from dnn_reco.simulation.photomultiplier import PhotomultiplierSettings
from dnn_reco.simulation.propagation import delay_distribution, fitted_delays

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "limit"
PLACE, DIRECTION = [40.0, 45.0, -330.0], [0.6, 0.0, -0.8]
JITTER = PhotomultiplierSettings().jitter


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The modules of the benchmark."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import bound
    import delays
    import events
    import fit
    import hypotheses
    import likelihood
    import limit_network
    import posterior
    import summary

    return SimpleNamespace(
        bound=bound,
        delays=delays,
        events=events,
        fit=fit,
        hypotheses=hypotheses,
        likelihood=likelihood,
        network=limit_network,
        posterior=posterior,
        summary=summary,
    )


def hypothesis(limit: SimpleNamespace, energy: float, number: int = 1) -> object:
    """The same event several times."""

    def tensor(values: object) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64)

    return limit.hypotheses.Hypotheses(
        tensor([PLACE] * number),
        tensor([300.0] * number),
        tensor([DIRECTION] * number),
        tensor([np.log10(energy)] * number),
    )


def hits_in(
    limit: SimpleNamespace, event: object, model: object, efficiency: NDArray[np.float64], seed: int
) -> object:
    """Photo-electrons of an event in a detector."""
    rng = np.random.default_rng([7, seed])
    sources = model(event).light_sources()  # type: ignore[operator]
    light = sample_photoelectrons(sources, efficiency, rng, max_sampled=10**9)
    return limit.likelihood.Hits(light.dom, light.time + rng.normal(0.0, JITTER, len(light.time)))


def near(distance: float) -> NDArray[np.float64]:
    """Efficiencies of a small detector: the DOMs within a distance in m."""
    return (np.linalg.norm(dom_positions() - PLACE, axis=1) < distance).astype(np.float64)


def density(
    time: NDArray[np.float64], shape: float, scale: float, power: float
) -> NDArray[np.float64]:
    """Of a power of a gamma variate times a scale, plus normal jitter, in 1/ns at times [n]."""
    edges = np.concatenate([[0.0], np.geomspace(1e-5, 300, 6000)])
    share = np.diff(stats.gamma.cdf((edges / scale) ** (1 / power), shape))
    middle = (edges[1:] + edges[:-1]) / 2
    smeared = stats.norm.pdf(time[:, None], middle, JITTER) @ share
    variate = (time.clip(1) / scale) ** (1 / power)
    late = stats.gamma.pdf(variate, shape) * variate ** (1 - power) / (power * scale)
    return np.where(time < 200, smeared, late)


def parameters(*rows: object) -> torch.Tensor:
    """Parameters [5, n] of delays: shape and scale of early and of late light, share of late."""
    *sizes, share = (np.asarray(row, dtype=np.float64) for row in rows)
    return torch.from_numpy(np.stack([*np.log(sizes), np.log(share / (1 - share))]))


class TestDelays:
    @pytest.mark.parametrize(
        ("early", "late", "share"),
        [
            ((0.4, 1.5), (0.2, 90.0), 0.1),
            ((1.3, 0.6), (0.5, 300.0), 0.3),
            ((13.7, 1.0), (3.0, 180.0), 0.6),
            ((20.0, 0.4), (5.0, 60.0), 0.9),
        ],
    )
    def test_density_is_that_of_the_simulation(
        self,
        limit: SimpleNamespace,
        early: tuple[float, float],
        late: tuple[float, float],
        share: float,
    ) -> None:
        time = np.array([-5.0, -1.0, 0.5, 3.0, 12.0, 60.0, 190.0, 700.0, 2500.0])
        expected = (1 - share) * density(time, *early, 2) + share * density(time, *late, 1)
        rows = [np.full(len(time), value) for value in (*early, *late, share)]
        found = limit.delays.log_delay_density(torch.from_numpy(time), parameters(*rows))
        kept = expected > 1e-12
        assert kept.sum() >= 7
        np.testing.assert_allclose(found.exp().numpy()[kept], expected[kept], rtol=1e-2)

    def test_density_integrates_to_one(self, limit: SimpleNamespace) -> None:
        rng = np.random.default_rng(1)
        ranges = (0.3, 100), (0.35, 2.7), (0.08, 20), (50, 500), (0.01, 0.95)
        time = 4 * np.sinh(np.linspace(np.arcsinh(-5), np.arcsinh(2e4), 40_001))
        for _ in range(20):
            values = [rng.uniform(*ends) for ends in ranges]
            rows = [np.full(len(time), value) for value in values]
            log_density = limit.delays.log_delay_density(torch.from_numpy(time), parameters(*rows))
            assert integrate.trapezoid(log_density.exp().numpy(), time) == pytest.approx(
                1, abs=1e-3
            )


class TestSources:
    def test_a_cascade_is_that_of_the_simulation(self, limit: SimpleNamespace) -> None:
        found = limit.hypotheses.cascade(hypothesis(limit, 5e3)).light_sources()
        flight = Flights(
            1, np.zeros(1, np.int64), np.array([PLACE]), np.full(1, 300.0), np.array([DIRECTION])
        )
        energy = np.full(1, 5e3)
        expected = combine(shower_sources(flight, energy, energy, False))
        for name in ("position", "time", "direction", "energy", "length"):
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-3)

    def test_a_track_loses_energy_continuously(self, limit: SimpleNamespace) -> None:
        sources = limit.hypotheses.track(hypothesis(limit, 1e5)).light_sources()
        along = (sources.position - PLACE) @ np.array(DIRECTION)
        at_point = energy_after(np.array([1e5]), np.zeros(1))
        for number in (21, 33, 41):  # stretches behind the reference point
            energy = energy_after(at_point, along[[number]] + 20.0)[0]
            losses = 0.363e-3 * 0.9216 * energy * 40.0  # b E of the stretch of 40 m
            soft = 40.0 * (0.1880 + 0.0206 * np.log(energy)) / 5.321
            assert sources.energy[number] == pytest.approx(losses + soft, rel=1e-6)
        assert along[0] == pytest.approx(-840)
        assert along[-1] == pytest.approx(800)


class TestExpectation:
    @pytest.mark.parametrize("kind", ["cascades", "tracks"])
    def test_is_that_of_the_simulation(self, limit: SimpleNamespace, kind: str) -> None:
        chosen = limit.events.KINDS[kind]
        event = hypothesis(limit, 3e3)
        pairs = expected_photoelectrons(chosen.model(event).light_sources(), icecube86().efficiency)
        expected = np.bincount(pairs.dom, pairs.mean, NUM_DOMS)
        found = chosen.likelihood().expected(event)[0].numpy()
        assert found.sum() == pytest.approx(expected.sum(), rel=1e-3)
        np.testing.assert_allclose(found, expected, rtol=1e-2)

    def test_is_the_mean_of_simulated_counts(self, limit: SimpleNamespace) -> None:
        chosen, number = limit.events.KINDS["cascades"], 300
        events = hypothesis(limit, 500.0, number)
        light = limit.events.observe(chosen, events, np.random.default_rng(3))
        counts = np.bincount(light.dom, minlength=NUM_DOMS)
        expected = number * chosen.likelihood().expected(events[[0]])[0].numpy()
        assert counts.sum() == pytest.approx(expected.sum(), abs=4 * np.sqrt(expected.sum()))
        bright = expected > 20
        pull = (counts - expected)[bright] / np.sqrt(expected[bright])
        assert bright.sum() > 50
        assert (pull**2).sum() < stats.chi2.isf(1e-4, bright.sum())


class TestFisher:
    def test_of_the_energy_is_that_of_the_number_of_photoelectrons(
        self, limit: SimpleNamespace
    ) -> None:
        # not the nearest DOMs, which see that the shower becomes longer
        efficiency = near(200.0) - near(60.0)
        likelihood = limit.likelihood.Likelihood(limit.hypotheses.cascade, efficiency)
        event = hypothesis(limit, 1e4)
        information = likelihood.fisher(limit.hypotheses.Local(event, False))
        number = likelihood.expected(event).sum().item()
        assert information[-1, -1] == pytest.approx(number * np.log(10) ** 2, rel=0.01)

    def test_of_the_time_is_that_of_the_density(self, limit: SimpleNamespace) -> None:
        distance = np.linalg.norm(dom_positions() - PLACE, axis=1)
        dom = int(np.argsort(distance)[20])
        efficiency = np.zeros(NUM_DOMS)
        efficiency[dom] = 1.0
        event = hypothesis(limit, 5.0)  # its depth is that of 10 GeV
        likelihood = limit.likelihood.Likelihood(limit.hypotheses.cascade, efficiency)
        information = likelihood.fisher(limit.hypotheses.Local(event, False), num_times=400)
        sources = limit.hypotheses.cascade(event).light_sources()
        pairs = expected_photoelectrons(sources, efficiency)
        delays = delay_distribution(
            np,
            fitted_delays(),
            *(pairs.distance, pairs.cos_emission, pairs.scattering, pairs.absorption),
        )
        offset = np.linalg.norm(dom_positions()[dom] - sources.position[pairs.source], axis=1)
        first = sources.time[pairs.source] + offset * 1.356 / 0.299792458

        def rate(time: NDArray[np.float64]) -> NDArray[np.float64]:
            total = np.zeros_like(time)
            pair = zip(pairs.mean, first, delays.late_share, strict=True)
            for i, (mean, start, late) in enumerate(pair):
                early = density(time - start, delays.early_shape[i], delays.early_scale[i], 2)
                later = density(time - start, delays.late_shape[i], delays.late_scale[i], 1)
                total += mean * ((1 - late) * early + late * later)
            return total

        times = first.min() + 4 * np.sinh(np.linspace(-1.5, 6.5, 500))
        values, slope = rate(times), (rate(times + 0.05) - rate(times - 0.05)) / 0.1
        expected = integrate.trapezoid(slope**2 / np.maximum(values, 1e-12), times)
        assert information[3, 3] == pytest.approx(expected, rel=0.02)

    @pytest.mark.parametrize(("kind", "energy"), [("cascades", 300.0), ("tracks", 1000.0)])
    def test_is_the_covariance_of_the_score(
        self, limit: SimpleNamespace, kind: str, energy: float
    ) -> None:
        chosen, number, efficiency = limit.events.KINDS[kind], 100, near(130.0)
        likelihood = limit.likelihood.Likelihood(chosen.model, efficiency)
        local = limit.hypotheses.Local(hypothesis(limit, energy), chosen.is_track)
        whitening = np.linalg.cholesky(likelihood.fisher(local))
        scores = []
        for seed in range(number):
            hits = hits_in(limit, local.reference, chosen.model, efficiency, seed)
            at = torch.zeros(1, local.num, dtype=torch.float64, requires_grad=True)
            value = likelihood.log(local.hypotheses(at), hits)
            (gradient,) = torch.autograd.grad(value.sum(), at)
            scores.append(np.linalg.solve(whitening, gradient[0].numpy()))
        score = np.array(scores)
        mean = score.mean(axis=0) * np.sqrt(number)
        assert (mean**2).sum() < stats.chi2.isf(1e-4, local.num)
        # of so many normal vectors with unit covariance
        edge = np.sqrt(local.num / number)
        eigenvalues = np.linalg.eigvalsh(np.cov(score.T))
        assert eigenvalues.min() > 0.8 * (1 - edge) ** 2
        assert eigenvalues.max() < 1.25 * (1 + edge) ** 2

    def test_more_times_do_not_change_it(self, limit: SimpleNamespace) -> None:
        chosen = limit.events.KINDS["cascades"]
        local = limit.hypotheses.Local(hypothesis(limit, 1e3), False)
        likelihood = limit.likelihood.Likelihood(chosen.model, near(150.0))
        errors = [
            np.sqrt(np.diag(limit.bound.inverse(likelihood.fisher(local, num))))
            for num in (160, 480)
        ]
        np.testing.assert_allclose(*errors, rtol=0.01)


class TestFit:
    def test_errors_of_bright_events_are_those_of_the_bound(self, limit: SimpleNamespace) -> None:
        efficiency, number = near(90.0), 8
        chosen = limit.events.KINDS["cascades"]
        likelihood = limit.likelihood.Likelihood(chosen.model, efficiency)
        event = hypothesis(limit, 1e3)
        local = limit.hypotheses.Local(event, False)
        smallest = limit.bound.bound(likelihood, local)
        across = limit.hypotheses.perpendicular(event.direction)[0].numpy()
        angles, energies = [], []
        for seed in range(number):
            hits = hits_in(limit, event, chosen.model, efficiency, seed)
            best = limit.fit.climb(likelihood, hits, event, False).best
            angles.append(across @ best.direction[0].numpy())
            energies.append(best.log_energy.item() - 3.0)
        pull = np.array(angles) @ np.linalg.inv(np.linalg.cholesky(smallest.direction)).T
        chi_squared = (pull**2).sum()
        assert stats.chi2.isf(0.999, 2 * number) < chi_squared < stats.chi2.isf(1e-3, 2 * number)
        chi_squared = (np.array(energies) ** 2).sum() / smallest.log_energy**2
        assert stats.chi2.isf(0.999, number) < chi_squared < stats.chi2.isf(1e-3, number)

    @pytest.mark.long
    @pytest.mark.parametrize(("kind", "degrees"), [("cascades", 15.0), ("tracks", 1.0)])
    def test_finds_the_truth_from_the_hits_alone(
        self, limit: SimpleNamespace, kind: str, degrees: float
    ) -> None:
        chosen, event, efficiency = limit.events.KINDS[kind], hypothesis(limit, 1e3), near(250.0)
        likelihood = limit.likelihood.Likelihood(chosen.model, efficiency)
        hits = hits_in(limit, event, chosen.model, efficiency, 1)
        found = limit.fit.fit(likelihood, hits, chosen.is_track)
        cosine = found.best.direction[0].numpy() @ DIRECTION
        assert np.degrees(np.arccos(min(cosine, 1.0))) < degrees
        assert found.best.log_energy.item() == pytest.approx(3.0, abs=0.15)
        with torch.no_grad():
            assert found.log_likelihood > likelihood.log(event, hits).item()


def test_opening_angles_of_equal_errors_are_those_of_rayleigh(limit: SimpleNamespace) -> None:
    angles = limit.bound.opening_angles(0.01**2 * np.eye(2)[None])
    assert np.median(angles) == pytest.approx(0.01 * np.sqrt(2 * np.log(2)), rel=0.08)


class TestEvents:
    def test_are_a_function_of_the_seed(self, limit: SimpleNamespace) -> None:
        kind = limit.events.KINDS["cascades"]
        first, second, other = (next(limit.events.samples(kind, 20, [s])) for s in (1, 1, 2))
        assert np.array_equal(first.photoelectrons.time, second.photoelectrons.time)
        assert len(first.photoelectrons.time) != len(other.photoelectrons.time)
        assert (first.num_hits() >= limit.events.MIN_HITS).all()
        assert len(first.truth) == 20

    def test_inputs_of_the_network_hold_all_photoelectrons(self, limit: SimpleNamespace) -> None:
        from dnn_reco.data.data_settings import features_of
        from dnn_reco.simulation.settings import SimulationSettings

        sample = next(limit.events.samples(limit.events.KINDS["tracks"], 10, [3]))
        pulses = limit.network.pulses_of(sample)
        features = features_of(pulses, SimulationSettings().data_settings)
        charge = np.bincount(features.hits.event, features.hits.features[:, 0])
        np.testing.assert_allclose(charge, sample.num_hits())
        for number in (0, 7):
            hits = sample.hits(number)
            assert len(np.unique(hits.dom)) == np.diff(features.hits.offsets)[number]
        labels = limit.network.labels_of(sample)
        np.testing.assert_allclose(
            labels["PrimaryDirectionZ"], -np.cos(labels["PrimaryZenith"]), atol=1e-12
        )


class TestPosterior:
    def test_divergence_of_two_von_mises_fisher_densities(self, limit: SimpleNamespace) -> None:
        rng, concentration, other = np.random.default_rng(6), 20.0, 5.0
        cosine = 1 + np.log(rng.uniform(np.exp(-2 * concentration), 1, 4000)) / concentration
        phase = rng.uniform(0, 2 * np.pi, 4000)
        sine = np.sqrt(1 - cosine**2)
        directions = np.stack([sine * np.cos(phase), sine * np.sin(phase), cosine], axis=1)
        up = np.array([0.0, 0.0, 1.0])
        mean_cosine = 1 / np.tanh(concentration) - 1 / concentration
        norm = [k / (4 * np.pi * np.sinh(k)) for k in (concentration, other)]
        expected = np.log(norm[0] / norm[1]) + (concentration - other) * mean_cosine
        for each, divergence in ((other, expected), (concentration, 0.0)):
            density = limit.posterior.single_component(up, each)
            found = limit.posterior.divergence(directions, density)
            assert found == pytest.approx(divergence, abs=0.05)
        # half of the density lies where no direction is: ln 2
        density = np.concatenate([density, limit.posterior.single_component(-up, 1e3)])
        density[:, 0] = np.log(0.5)
        found = limit.posterior.divergence(directions, density)
        assert found == pytest.approx(np.log(2), abs=0.05)

    def test_prior_ends_at_the_detector(self, limit: SimpleNamespace) -> None:
        kind = limit.events.KINDS["cascades"]
        parameters = np.array([[*PLACE, 0.0, 0.0, 0.0, 1.0, 3.0]] * 3)
        parameters[1, 0] = 900.0  # m
        parameters[2, 7] = 6.0
        found = limit.posterior.log_prior(kind, parameters)
        assert np.isfinite(found).tolist() == [True, False, False]


class TestSummary:
    def test_efficiency_is_the_ratio_of_bound_and_width(self, limit: SimpleNamespace) -> None:
        rng, number = np.random.default_rng(8), 1000
        errors = {
            "network": rng.normal(0.0, 0.2, (number, 1)),
            "fit": np.where(np.arange(number) < 500, rng.normal(0.0, 0.1, number), np.nan)[:, None],
            "bound": rng.normal(0.0, 0.1, (number, 20)),
        }
        variable = np.repeat([1.5, 2.5], number // 2)
        edges = np.array([1.0, 2.0, 3.0, 4.0])
        first, second = limit.summary.rows(errors, variable, edges, limit.summary.ENERGY)
        assert first.num == second.num == number // 2
        for name, expected, spread in (("network", 0.5, 0.06), ("fit", 1.0, 0.12)):
            value, error = first.values[f"η of the {name}"]
            assert value == pytest.approx(expected, abs=spread)
            # half of the central 68 % of n normal numbers is known to 4.4 % × √(500/n)
            assert error == pytest.approx(0.044 * expected, rel=0.5)
        assert "fit" not in second.values
        text = limit.summary.table("energy", [first, second], "")
        assert text.splitlines()[2].startswith("| 10 – 100 | 500 | 0.")
        assert text.splitlines()[3].count("–") == 3
