"""Sampled posterior of cascades with few photo-electrons, against that of the network.

    pip install -r benchmarks/limit/requirements.txt
    python benchmarks/limit/posterior.py --out limit --events 8 --max-hits 200

The prior is the distribution of the simulated events. Sampled directions are in
`<out>/cascades/posterior.npz`; a call that was stopped continues there. `summary.py` compares them
with the network.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from events import KINDS, Kind
from fit import fit
from hypotheses import Hypotheses
from likelihood import Hits, Likelihood
from limit_network import NUM_HELD_OUT
from measure import load, save, test_events
from numpy.typing import NDArray

from dnn_reco.nn.densities import direction_log_prob
from dnn_reco.nn.direction import fisher_concentration

POSTERIOR = "posterior.npz"
"""File of the results."""

_WALKERS, _BURN_IN, _THIN = 32, 0.4, 5
_SPREAD = (15.0, 15.0, 15.0, 40.0, 1.0, 1.0, 1.0, 0.15)  # m, ns, direction, log10 of GeV
_NEIGHBOUR = 10


def log_prior(kind: Kind, parameters: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ln of the prior [w] of parameters [w, 8], up to a constant.

    The direction is that of a vector with three normally distributed components, hence isotropic.
    """
    position, vector, log_energy = parameters[:, :3], parameters[:, 4:7], parameters[:, 7]
    low, high = kind.log_energy
    allowed = kind.volume.contains(position) & (log_energy > low) & (log_energy < high)
    return np.where(allowed, -(vector**2).sum(axis=1) / 2, -np.inf)


def hypotheses_of(parameters: NDArray[np.float64]) -> Hypotheses:
    """Cascades with parameters [w, 8]: position, time, vector along the direction, log10 energy."""
    vector = parameters[:, 4:7] / np.linalg.norm(parameters[:, 4:7], axis=1, keepdims=True)
    columns = (parameters[:, :3], parameters[:, 3], vector, parameters[:, 7])
    return Hypotheses(*(torch.from_numpy(np.ascontiguousarray(column)) for column in columns))


def log_posterior(
    kind: Kind, likelihood: Likelihood, hits: Hits, parameters: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Ln of the posterior [w], up to a constant; minus infinity outside of the prior."""
    result = log_prior(kind, parameters)
    allowed = np.flatnonzero(np.isfinite(result))
    if len(allowed):
        with torch.no_grad():
            result[allowed] += likelihood.log(hypotheses_of(parameters[allowed]), hits).numpy()
    return result


def sample(
    kind: Kind, hits: Hits, steps: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], float]:
    """Directions [s, 3] of the posterior, and the autocorrelation time in steps.

    The walkers start around the best fit, with directions all over the sphere.
    """
    import emcee

    likelihood = kind.likelihood()
    best = fit(likelihood, hits, kind.is_track).best
    centre = torch.cat(
        [best.position[0], best.time, torch.zeros(3, dtype=torch.float64), best.log_energy]
    ).numpy()
    low, high = kind.log_energy
    centre[7] = np.clip(centre[7], low + 0.1, high - 0.1)
    start = centre + rng.normal(size=(50 * _WALKERS, 8)) * _SPREAD
    value = log_prior(kind, start)
    start = start[np.isfinite(value)][: _WALKERS * 4]
    value = log_posterior(kind, likelihood, hits, start)
    start = start[np.argsort(-value)[:_WALKERS]]
    moves = [(emcee.moves.DEMove(), 0.7), (emcee.moves.StretchMove(), 0.3)]
    sampler = emcee.EnsembleSampler(
        _WALKERS,
        8,
        lambda p: log_posterior(kind, likelihood, hits, p),
        moves=moves,
        vectorize=True,
    )
    sampler.random_state = np.random.RandomState(rng.integers(2**31)).get_state()
    sampler.run_mcmc(start, steps)
    burn_in = round(_BURN_IN * steps)
    chain = sampler.get_chain(discard=burn_in, thin=_THIN, flat=True)
    time = emcee.autocorr.integrated_time(sampler.get_chain(discard=burn_in), quiet=True)
    vector = chain[:, 4:7]
    return vector / np.linalg.norm(vector, axis=1, keepdims=True), float(np.max(time[4:7]))


def entropy(directions: NDArray[np.float64]) -> float:
    """Entropy in nat of the density in 1/sr that directions [s, 3] are drawn from.

    The estimate of Kozachenko and Leonenko from the distance to the tenth neighbour (Probl. Inf.
    Transm. 23 (1987) 95), with areas on the sphere.
    """
    unique = np.unique(directions, axis=0)
    num = len(unique)
    cosine = unique @ unique.T
    np.fill_diagonal(cosine, -2.0)
    nearest = np.partition(cosine, num - _NEIGHBOUR, axis=1)[:, num - _NEIGHBOUR]
    area = 2 * np.pi * (1 - nearest).clip(1e-12)
    digamma = torch.digamma(torch.tensor([float(num), float(_NEIGHBOUR)]))
    return float(digamma[0] - digamma[1] + np.log(area).mean())


def divergence(directions: NDArray[np.float64], components: NDArray[np.float64]) -> float:
    """Kullback-Leibler divergence in nat of a density from a sampled one.

    Parameters
    ----------
    directions
        Directions [s, 3] that are drawn from the one density.
    components
        Components [K, 4] of the other, a mixture of von Mises-Fisher distributions.
    """
    density = torch.from_numpy(components).double().expand(len(directions), -1, -1)
    log_density = direction_log_prob(density, torch.from_numpy(directions))
    return -entropy(directions) - float(log_density.mean())


def fitted_vmf(directions: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Mean direction [3] and concentration of the von Mises-Fisher density nearest to a sample."""
    mean = directions.mean(axis=0)
    length = np.linalg.norm(mean)
    return mean / length, float(fisher_concentration(torch.tensor([length]))[0])


def single_component(mean: NDArray[np.float64], concentration: float) -> NDArray[np.float64]:
    """A von Mises-Fisher density as the only component [1, 4] of a mixture."""
    return np.array([[0.0, *(concentration * mean)]])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("limit"))
    parser.add_argument("--events", type=int, default=8)
    parser.add_argument("--max-hits", type=int, default=200)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kind = KINDS["cascades"]
    path = options.out / kind.name / POSTERIOR
    events = enumerate(test_events(kind, NUM_HELD_OUT, options.seed))
    faint = [(i, truth, hits) for i, (truth, hits) in events if len(hits) <= options.max_hits]
    done = load(path)
    first = len(next(iter(done.values()), ()))
    rows = [{name: column[i] for name, column in done.items()} for i in range(first)]
    for number, truth, hits in faint[first : options.events]:
        rng = np.random.default_rng([options.seed, number])
        directions, autocorrelation = sample(kind, hits, options.steps, rng)
        values = {
            "number": number,
            "num_hits": len(hits),
            "truth": truth.direction[0].numpy(),
            "directions": directions,
            "autocorrelation": autocorrelation,
        }
        rows.append({name: np.asarray(value, dtype=np.float64) for name, value in values.items()})
        save(path, {name: np.stack([row[name] for row in rows]) for name in rows[0]})
        print(f"event {number}: autocorrelation of {autocorrelation:.0f} steps", flush=True)


if __name__ == "__main__":
    main()
