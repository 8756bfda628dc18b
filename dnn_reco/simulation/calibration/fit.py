"""Maximum-likelihood fit of layers and constants to the light of showers.

Delays are fitted with one gamma distribution here, as far as they tell about the ice; their true
distribution is fitted afterwards (:mod:`dnn_reco.simulation.calibration.delays`).
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dnn_reco.simulation.calibration.pairs import ShowerDomPairs
from dnn_reco.simulation.ice import NEIGHBOURHOOD, Columns, Ice, mean_coefficients
from dnn_reco.simulation.propagation import (
    EARLY_POWER,
    GammaConstants,
    LightConstants,
    gamma_of_delays,
    photoelectrons_per_gev,
    shower_emission,
)

BOTTOM, TOP, THICKNESS = -600.0, 600.0, 10.0

START = LightConstants(
    effective_area=1e-3,
    direct_range=1.0,
    forward_far=0.6,
    forward_near=1.0,
    forward_offset=0.5,
    acceptance_far=0.3,
    acceptance_near=0.5,
)
START_DELAYS = GammaConstants(
    shape=2.0,
    shape_power=0.6,
    shape_ice=0.5,
    shape_angle=-0.7,
    scale=10.0,
    scale_absorption=0.4,
    scale_scattering=0.4,
)
_START = [*vars(START).values(), *vars(START_DELAYS).values()]

# Photo-electrons of a pair vary by 1/sqrt(5) more than their number does by chance: showers
# fluctuate, and the formulas are not exact. It keeps the fit from following the few bright DOMs.
_DISPERSION = 5.0
_SMOOTHNESS = 20.0
_MIN_DELAY_DISTANCE = 15.0
_WEIGHT_OF_DELAYS = 0.3


def start_ice() -> Ice:
    """Layers of the magnitude of the published model (Aartsen et al., NIM A 711 (2013) 73)."""
    z = np.arange(BOTTOM, TOP, THICKNESS) + THICKNESS / 2
    upper, dust = z > 0, (z > -150) & (z < 0)
    scattering_length = np.select([upper, dust], [25.0, 10.0], 40.0)
    absorption_length = np.select([upper, dust], [100.0, 40.0], 180.0)
    return Ice(BOTTOM, THICKNESS, 1 / scattering_length, 1 / absorption_length)


def fit(pairs: ShowerDomPairs, max_iterations: int = 200) -> tuple[Ice, LightConstants]:
    """Layers and constants that make the observed photo-electrons and their delays most likely.

    Photo-electrons follow a negative binomial distribution, delays the one of `gamma_of_delays`
    with `EARLY_POWER`. Neighbouring layers are drawn to each other.

    Parameters
    ----------
    pairs
        The data.
    max_iterations
        Largest number of steps of the minimiser (L-BFGS), for each of its two rounds.
    """
    data = _Data(pairs)
    layers = data.ice.scattering.size
    steps = [torch.zeros(size, dtype=torch.float64) for size in (layers, layers, len(_START))]
    for step in steps:
        step.requires_grad_()
    for _ in range(2):
        data.fix_weights(*steps)
        minimiser = torch.optim.LBFGS(
            steps,
            max_iter=max_iterations,
            max_eval=2 * max_iterations,
            history_size=40,
            tolerance_change=1e-5,
            line_search_fn="strong_wolfe",
        )

        def loss(minimiser: torch.optim.Optimizer = minimiser) -> float:
            minimiser.zero_grad()
            value = data.loss(*steps)
            value.backward()  # type: ignore[no-untyped-call]
            return float(value.detach())

        minimiser.step(loss)  # type: ignore[no-untyped-call]
    scattering, absorption, constants = (value.detach() for value in data.model(*steps)[:3])
    values = [float(value) for value in constants[: len(vars(START))]]
    ice = Ice(BOTTOM, THICKNESS, scattering.numpy(), absorption.numpy())
    return ice, LightConstants(*values)


class _Data:
    """The pairs as tensors, and the likelihood as a function of the steps from the start values."""

    def __init__(self, pairs: ShowerDomPairs):
        self.ice = start_ice()
        tensors = {name: torch.from_numpy(values) for name, values in vars(pairs).items()}
        self.pairs: Any = SimpleNamespace(**tensors)
        self.emission = torch.from_numpy(shower_emission(pairs.cos_emission))
        self.layers = {
            (z, side): self._layer(getattr(pairs, z) + side * NEIGHBOURHOOD / 2)
            for z in ("source_z", "dom_z")
            for side in (-1, 1)
        }
        self.weight = torch.ones(len(pairs.energy), dtype=torch.float64)

    def _layer(self, z: Any) -> tuple[Tensor, Tensor]:
        position = (z - BOTTOM) / THICKNESS
        layer = np.clip(position.astype(np.int64), 0, len(self.ice.scattering) - 1)
        return torch.from_numpy(layer), torch.from_numpy((position - layer) * THICKNESS)

    def fix_weights(self, *steps: Tensor) -> None:
        """Give delays in bright DOMs less weight, as their charges have."""
        with torch.no_grad():
            self.weight = 1 / (1 + self.model(*steps)[3] / _DISPERSION)

    def model(
        self, scattering_step: Tensor, absorption_step: Tensor, constant_step: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Coefficients, constants, expected photo-electrons, shapes and scales of the delays."""
        scattering = torch.from_numpy(self.ice.scattering) * torch.exp(scattering_step)
        absorption = torch.from_numpy(self.ice.absorption) * torch.exp(absorption_step)
        values = torch.tensor(_START) * torch.exp(constant_step)
        constants = LightConstants(*values[: len(vars(START))])
        of_delays = GammaConstants(*values[len(vars(START)) :])
        on_path = mean_coefficients(
            torch,
            *(self._columns(scattering, absorption, z) for z in ("source_z", "dom_z")),
        )
        p = self.pairs
        yields = photoelectrons_per_gev(
            torch, constants, p.distance, p.cos_emission, p.cos_arrival, self.emission, *on_path
        )
        shape, scale = gamma_of_delays(torch, of_delays, p.distance, p.cos_emission, *on_path)
        return scattering, absorption, values, p.energy * yields, shape, scale

    def _columns(self, scattering: Tensor, absorption: Tensor, z: str) -> Columns:
        sums = []
        for coefficient in (scattering, absorption):
            below = torch.cumsum(coefficient, 0) * THICKNESS - coefficient * THICKNESS
            for side in (-1, 1):
                layer, inside = self.layers[z, side]
                sums.append(below[layer] + inside * coefficient[layer])
        return Columns(getattr(self.pairs, z), *sums)

    def loss(self, *steps: Tensor) -> Tensor:
        """Minus the logarithm of the likelihood, up to a constant."""
        scattering, absorption, _, light, shape, scale = self.model(*steps)
        p = self.pairs
        mean = light + p.noise
        charges = p.photoelectrons * torch.log(mean / (mean + _DISPERSION))
        charges = charges - _DISPERSION * torch.log1p(mean / _DISPERSION)

        delays = shape * (p.log_delay - p.delayed * torch.log(scale)) / EARLY_POWER
        delays = delays - p.root_delay * scale ** (-1 / EARLY_POWER)
        delays = (delays - p.delayed * torch.lgamma(shape)) * self.weight
        delays = torch.where(p.distance > _MIN_DELAY_DISTANCE, delays, 0.0)

        layers = torch.log(torch.stack([scattering, absorption]))
        roughness = torch.diff(layers).square().sum()
        loss: Tensor = _SMOOTHNESS * roughness - charges.sum() - _WEIGHT_OF_DELAYS * delays.sum()
        return loss
