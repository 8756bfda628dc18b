"""Densities of a direction: von Mises-Fisher, Gaussian in angles or in the vector, and mixtures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnn_reco.detector.directions import (
    SQUARE_DEGREE,
    Plane,
    Vectors,
    angles_of,
    smaller_turn,
    unit_vectors,
    vector_of,
)
from dnn_reco.errors import DataError
from dnn_reco.inference.cone import cone_angle, deviation_holding, probability_within
from dnn_reco.inference.sky import NUM_NODES, Nodes, SkyDensity, Values, checked, lattice
from dnn_reco.inference.sphere_flow import SphereFlow
from dnn_reco.nn.density_layout import DensityKind

_SIGMAS = 9.0  # tails beyond are below 1e-18
_TABLE = 4097  # points of tabulated integrals
_KAPPA_RANGE = (1e-6, 1e10)
_STEEP = 300.0  # above this concentration exp(-2κ) is 0 beside 1, and below 1e308
_PROPOSALS = (1.2, 3.0)  # widths of nodes and proposals, in units of those of the density
_TINY = 1e-100  # weights without effect
_LARGEST_WIDTH = 1.0  # radian, of proposals
_TINY_WEIGHT = 1e-9  # of a component of a mixture
_BOUND = 1.05  # above the largest weight of all nodes


@dataclass(frozen=True, eq=False)
class VonMisesFisher(SkyDensity):
    """The density κ exp(-κ (1 - cos ψ)) / (2π (1 - exp(-2κ))) of the angle ψ to a direction.

    R. A. Fisher, Proc. R. Soc. A 217 (1953) 295. For small angles it is a Gaussian of the width
    1 / √κ in each of two directions. All of its values are closed forms.

    Attributes
    ----------
    direction
        Mean direction, a vector [3] of any length.
    kappa
        Concentration κ > 0.
    """

    direction: Vectors
    kappa: float

    def __post_init__(self) -> None:
        _check_positive("the concentration of a direction", self.kappa)

    @classmethod
    def of_vector(cls, vector: ArrayLike, uncertainty: ArrayLike) -> VonMisesFisher:
        """From a predicted vector [3] and the uncertainties σ of its components [3].

        κ = 2 / (σx² + σy² + σz²): for small angles, the expected squared length of the deviation
        is 2 / κ.
        """
        sigma = np.asarray(uncertainty, dtype=np.float64)
        _check_positive("the uncertainties of the vector's components", sigma)
        return cls(unit_vectors(vector), 2 / float(np.square(sigma).sum()))

    @classmethod
    def of_angles(
        cls, zenith: float, azimuth: float, zenith_sigma: float, azimuth_sigma: float
    ) -> VonMisesFisher:
        """The circular density with the mean angle of the elliptical one of the same angles.

        Its 1 - cos ψ is the same on average, where ψ is the angle to the predicted direction; far
        from the poles and for small uncertainties this is κ = 2 / (σ_θ² + σ_φ² sin² θ).
        """
        nodes = AngularGaussian(zenith, azimuth, zenith_sigma, azimuth_sigma).nodes(2**12)
        centre = vector_of(zenith, azimuth)
        deviation = np.square(nodes.vectors - centre).sum(axis=1) / 2
        return cls(centre, _concentration(float(deviation @ nodes.probability)))

    @property
    def best(self) -> Vectors:
        """The mean direction, a unit vector [3]."""
        return unit_vectors(self.direction)

    def log_prob_dir(self, vector: ArrayLike) -> Values:
        """Log density [...] of vectors [..., 3]."""
        log_norm = math.log(-self.kappa / (2 * math.pi * math.expm1(-2 * self.kappa)))
        return np.asarray(log_norm - self.kappa * self._deviation(vector))

    def cdf_dir(self, vector: ArrayLike) -> Values:
        """Credible level [...]: (1 - exp(-κ (1 - cos ψ))) / (1 - exp(-2κ))."""
        return probability_within(self.kappa, self._deviation(vector))

    def contour_area(self, level: ArrayLike) -> Values:
        """Area 2π (1 - cos ψ) of cones that hold probabilities [...], in square degrees."""
        deviation = deviation_holding(self.kappa, checked(level))
        return np.asarray(2 * math.pi * deviation / SQUARE_DEGREE)

    def sample_dir(self, n: int, rng: np.random.Generator) -> Vectors:
        """Unit vectors [n, 3] that are drawn from the density."""
        return self._at(*rng.random((2, n)))

    def nodes(self, n: int) -> Nodes:
        """Points of equal probability."""
        return Nodes(self._at(*lattice(n)), np.full(n, 1 / n))

    def _deviation(self, vector: ArrayLike) -> Values:
        """1 - cos ψ of vectors, without loss of digits."""
        difference = unit_vectors(vector) - self.best
        return np.asarray(np.square(difference).sum(axis=-1) / 2)

    def _at(self, level: Values, turn: Values) -> Vectors:
        """Vectors [n, 3] at credible levels [n], at parts of a full turn [n] about the mean."""
        angle = cone_angle(self.kappa, level)
        around = 2 * np.pi * turn
        return Plane.at(self.direction).vectors(angle * np.cos(around), angle * np.sin(around))


@dataclass(frozen=True, eq=False)
class AngularGaussian(SkyDensity):
    """A Gaussian of zenith and azimuth, per steradian: an ellipse along both.

    exp(-(θ - θ₀)² / 2σ_θ² - (φ - φ₀)² / 2σ_φ²) / N, with the difference of azimuths from -π to π
    and N from the integral over the sphere, so that it has its peak at the predicted direction and
    holds at the poles, where a plane of zenith and azimuth has an edge.

    Attributes
    ----------
    zenith, azimuth
        Predicted angles θ₀ and φ₀ in radian.
    zenith_sigma, azimuth_sigma
        Their uncertainties in radian; that of the azimuth is not multiplied by sin θ₀.
    """

    zenith: float
    azimuth: float
    zenith_sigma: float
    azimuth_sigma: float

    def __post_init__(self) -> None:
        if not 0 <= self.zenith <= math.pi:
            raise DataError(f"a zenith must be between 0 and π, not {self.zenith}")
        _check_positive("the uncertainties of zenith and azimuth", self._sigmas)

    @property
    def best(self) -> Vectors:
        """The predicted direction, a unit vector [3]."""
        return vector_of(self.zenith, self.azimuth)

    def log_prob_dir(self, vector: ArrayLike) -> Values:
        """Log density [...] of vectors [..., 3]."""
        zenith, azimuth = angles_of(vector)
        turn = smaller_turn(azimuth - self.azimuth)
        squares = np.square((zenith - self.zenith) / self.zenith_sigma)
        squares = squares + np.square(turn / self.azimuth_sigma)
        log_norm = math.log(self._zeniths.integral * self._turns.integral)
        return np.asarray(-squares / 2 - log_norm)

    def sample_dir(self, n: int, rng: np.random.Generator) -> Vectors:
        """Unit vectors [n, 3] that are drawn from the density."""
        return self._at(*rng.random((2, n)))

    def nodes(self, n: int) -> Nodes:
        """Points of equal probability."""
        return Nodes(self._at(*lattice(n)), np.full(n, 1 / n))

    @property
    def _sigmas(self) -> Values:
        return np.array([self.zenith_sigma, self.azimuth_sigma])

    @cached_property
    def _zeniths(self) -> _Table:
        """Of the density of zeniths, which contains sin θ."""
        reach = _SIGMAS * self.zenith_sigma
        zenith = np.linspace(max(self.zenith - reach, 0), min(self.zenith + reach, np.pi), _TABLE)
        pull = (zenith - self.zenith) / self.zenith_sigma
        return _Table.of(zenith, np.exp(-np.square(pull) / 2) * np.sin(zenith))

    @cached_property
    def _turns(self) -> _Table:
        """Of the density of azimuths relative to the predicted one."""
        reach = min(_SIGMAS * self.azimuth_sigma, np.pi)
        turn = np.linspace(-reach, reach, _TABLE)
        return _Table.of(turn, np.exp(-np.square(turn / self.azimuth_sigma) / 2))

    def _at(self, of_zenith: Values, of_azimuth: Values) -> Vectors:
        """Vectors [n, 3] at cumulative probabilities [n] of both angles."""
        return vector_of(
            self._zeniths.quantile(of_zenith), self.azimuth + self._turns.quantile(of_azimuth)
        )


@dataclass(frozen=True, eq=False)
class VectorGaussian(SkyDensity):
    """A Gaussian of the three components of the vector, on the sphere: an ellipse of any tilt.

    exp(-½ Σ (nᵢ - mᵢ)² / sᵢ²) / N for unit vectors n: a Fisher-Bingham density (J. T. Kent, J. R.
    Stat. Soc. B 44 (1982) 71). With three equal widths s it is von Mises-Fisher with κ = 1 / s².

    Attributes
    ----------
    direction
        Predicted direction m, a unit vector [3].
    widths
        Widths s [3].
    """

    direction: Vectors
    widths: Values

    def __post_init__(self) -> None:
        _check_positive("the uncertainties of the vector's components", self.widths)

    @classmethod
    def of_vector(cls, vector: ArrayLike, uncertainty: ArrayLike) -> VectorGaussian:
        """From a predicted vector [3] and the uncertainties σ of its components [3].

        On the sphere the components of a vector vary less than without the sphere. All widths are
        σ times one factor, by which the expected squared deviation is σx² + σy² + σz² for small
        angles, as for :meth:`VonMisesFisher.of_vector`.
        """
        sigma = np.asarray(uncertainty, dtype=np.float64)
        _check_positive("the uncertainties of the vector's components", sigma)
        direction = unit_vectors(vector)
        variance = np.trace(_tangent_covariance(Plane.at(direction), sigma))
        return cls(direction, sigma * math.sqrt(np.square(sigma).sum() / variance))

    @property
    def best(self) -> Vectors:
        """The predicted direction, a unit vector [3]."""
        return unit_vectors(self.direction)

    def log_prob_dir(self, vector: ArrayLike) -> Values:
        """Log density [...] of vectors [..., 3]."""
        return self._exponent(vector) - self._log_norm

    def sample_dir(self, n: int, rng: np.random.Generator) -> Vectors:
        """Unit vectors [n, 3] that are drawn from the density: by rejection of proposals."""
        bound = _BOUND * float(self._proposals(*lattice(NUM_NODES // 2))[1].max())
        parts, found = [np.zeros((0, 3))], 0
        while found < n:
            vectors, weight = self._proposals(*rng.random((2, n)))
            parts.append(vectors[rng.random(len(weight)) * bound < weight])
            found += len(parts[-1])
        return rng.permutation(np.concatenate(parts))[:n]

    def nodes(self, n: int) -> Nodes:
        """Points around the direction and opposite to it, weighted."""
        vectors, weight = self._proposals(*lattice(n // 2))
        counts = weight > _TINY * weight.sum()
        return Nodes(vectors[counts], weight[counts] / weight[counts].sum())

    @cached_property
    def _log_norm(self) -> float:
        return math.log(self._proposals(*lattice(NUM_NODES // 2))[1].mean())

    def _exponent(self, vector: ArrayLike) -> Values:
        pulls = (unit_vectors(vector) - self.best) / self.widths
        return np.asarray(-np.square(pulls).sum(axis=-1) / 2)

    def _proposals(self, level: Values, turn: Values) -> tuple[Vectors, Values]:
        """Vectors [2n, 3], and weights by which they stand for the density.

        They are Gaussian in the plane that touches the sphere at the direction, of two kinds that
        are wider than the density, up to 90° from the direction, and once more on the other side
        of the sphere.
        """
        plane = Plane.at(self.direction)
        variance, axes = np.linalg.eigh(_tangent_covariance(plane, self.widths))
        widths = np.sqrt(variance)
        # the axis of a long ellipse is bent, as far as the square of its length
        widths = np.maximum(widths, 2 * widths.max() ** 2)
        of_kind = np.minimum(np.multiply.outer(_PROPOSALS, widths), _LARGEST_WIDTH)
        chosen = of_kind[np.arange(len(level)) % len(of_kind)].T
        radius, around = np.sqrt(-2 * np.log1p(-level)), 2 * np.pi * turn
        points = chosen * radius * np.array([np.cos(around), np.sin(around)])
        squares = np.square(points / of_kind[:, :, None]).sum(axis=1)
        norm = 2 * np.pi * of_kind.prod(axis=1)
        density = (np.exp(-squares / 2) / norm[:, None]).mean(axis=0)
        angle = np.hypot(*points)
        density = density / np.sinc(np.minimum(angle, np.pi / 2) / np.pi)
        vectors = plane.vectors(*(axes @ points))
        both = np.concatenate([vectors, -vectors])
        is_near = np.tile(angle < np.pi / 2, 2)
        weight = np.exp(self._exponent(both)) / np.tile(density / 2, 2)
        return both, np.where(is_near, weight, 0.0)


@dataclass(frozen=True, eq=False)
class Mixture(SkyDensity):
    """The weighted mean of several densities, such as those of the networks of an ensemble.

    Attributes
    ----------
    members
        The densities.
    weights
        Their weights, of any sum; None: all are equal.
    """

    members: Sequence[SkyDensity]
    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if not self.members:
            raise DataError("a mixture of densities needs at least one")
        if self.weights is not None:
            if len(self.weights) != len(self.members):
                raise DataError(
                    f"a mixture of {len(self.members)} densities needs as many weights, "
                    f"not {len(self.weights)}"
                )
            _check_positive("the weights of a mixture", np.array(self.weights))

    def log_prob_dir(self, vector: ArrayLike) -> Values:
        """Log density [...] of vectors [..., 3]."""
        parts = np.stack([each.log_prob_dir(vector) for each in self.members], axis=-1)
        largest = parts.max(axis=-1, keepdims=True)
        return np.asarray(np.log(np.exp(parts - largest) @ self._shares) + largest[..., 0])

    def sample_dir(self, n: int, rng: np.random.Generator) -> Vectors:
        """Unit vectors [n, 3] that are drawn from the density."""
        counts = rng.multinomial(n, self._shares)
        drawn = [
            each.sample_dir(int(count), rng)
            for each, count in zip(self.members, counts, strict=True)
        ]
        return rng.permutation(np.concatenate(drawn))

    def nodes(self, n: int) -> Nodes:
        """The points of all members, as many of each."""
        parts = [each.nodes(max(n // len(self.members), 2)) for each in self.members]
        shares = zip(parts, self._shares, strict=True)
        return Nodes(
            np.concatenate([part.vectors for part in parts]),
            np.concatenate([part.probability * share for part, share in shares]),
        )

    @property
    def _shares(self) -> Values:
        weights = np.ones(len(self.members)) if self.weights is None else np.array(self.weights)
        return np.asarray(weights / weights.sum())


def predicted_density(components: NDArray[np.float64], kind: DensityKind) -> Mixture:
    """The density of the components [K, parameters] that a network predicts for a direction.

    They are those of :class:`dnn_reco.nn.density_layout.DensityShape`; components of no weight are
    left out.
    """
    weights = np.exp(components[:, 0])
    kept = components[weights > _TINY_WEIGHT]
    members: list[SkyDensity] = (
        [SphereFlow(each) for each in kept[:, 1:]]
        if kind == "flow"
        else [VonMisesFisher(each, float(np.linalg.norm(each))) for each in kept[:, 1:]]
    )
    return Mixture(members, np.exp(kept[:, 0]).tolist())


@dataclass(frozen=True, eq=False)
class _Table:
    """A tabulated integral: points [k] and the integral up to each."""

    points: Values
    cumulative: Values

    @classmethod
    def of(cls, points: Values, density: Values) -> _Table:
        """By the trapezoidal rule."""
        steps = np.diff(points) * (density[1:] + density[:-1]) / 2
        return cls(points, np.concatenate([[0.0], np.cumsum(steps)]))

    @property
    def integral(self) -> float:
        return float(self.cumulative[-1])

    def quantile(self, level: Values) -> Values:
        """Points [...] below which shares [...] of the integral lie."""
        return np.asarray(np.interp(level * self.integral, self.cumulative, self.points))


def _check_positive(name: str, values: ArrayLike) -> None:
    """Check that numbers are finite and above 0.

    Raises
    ------
    DataError
        If not.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if not np.all(np.isfinite(numbers) & (numbers > 0)):
        raise DataError(f"{name} must be finite and above 0, not {numbers}")


def _tangent_covariance(plane: Plane, sigma: NDArray[np.float64]) -> Values:
    """Covariance [2, 2] along azimuth and zenith of a Gaussian of components, on the sphere."""
    along = np.stack([plane.along_azimuth, plane.along_zenith])
    return np.asarray(np.linalg.inv(along / np.square(sigma) @ along.T))


def _concentration(deviation: float) -> float:
    """Concentration κ with this mean of 1 - cos ψ, which is 1 / κ - 2 / (exp(2κ) - 1): bisection.

    It is between 1e-6 and 1e10.
    """
    low, high = _KAPPA_RANGE
    while high / low > 1 + 1e-12:
        kappa = math.sqrt(low * high)
        of_kappa = 1 / kappa - 2 / math.expm1(2 * kappa) if kappa < _STEEP else 1 / kappa
        low, high = (kappa, high) if of_kappa > deviation else (low, kappa)
    return low
