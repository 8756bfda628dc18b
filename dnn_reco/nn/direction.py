"""Direction vectors in predictions: clipping, normalisation, and the angles that follow from them.

A direction vector points along the motion, zenith θ and azimuth φ to the source:
x = -sin θ cos φ, y = -sin θ sin φ, z = -cos θ.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Below this squared length of (x, y) the azimuth has no gradient.
_TINY = 1e-12
# Standard deviations of the angles of directions that are uniform on the sphere.
_ISOTROPIC_ZENITH = math.sqrt(math.pi**2 / 4 - 2)
_ISOTROPIC_AZIMUTH = math.pi / math.sqrt(3)

# Below this concentration a series replaces hyperbolic functions, which would lose precision.
_SERIES_UP_TO = 0.1
# Below this concentration the logarithm of the norm is computed by a series.
_SERIES_OF_NORM_UP_TO = 0.3
# Expansion of ln(sinh κ / κ) in κ², without the constant, which is 0
_NORM_SERIES = (
    1 / 6,
    -1 / 180,
    1 / 2835,
    -1 / 37800,
    1 / 467775,
    -691 / 3831077250,
    2 / 127702575,
    -3617 / 2605132530000,
)
# Lengths of the mean vector that belong to the concentrations 1e-3 and 1e7.
_MEAN_LENGTHS = (1e-3 / 3, 1 - 1e-7)
# Below this length of the mean vector the concentration is a series, exact to 1e-12.
_SERIES_OF_LENGTH_UP_TO = 0.03
_NEWTON_STEPS = 3


@dataclass(frozen=True)
class DirectionSettings:
    """How predicted direction vectors are treated.

    Attributes
    ----------
    enforce_norm
        Divide the vector by its length.
    legacy_norm
        Divide by min(length, 1), so that vectors longer than 1 stay unnormalised.
    z_independent
        Keep z, and scale (x, y) so that the vector has length 1.
    limit
        First limit each component to ± this value by tanh; None: no limit.
    """

    enforce_norm: bool
    legacy_norm: bool
    z_independent: bool
    limit: float | None


def shape_direction(vector: Tensor, settings: DirectionSettings) -> Tensor:
    """Limit and normalise direction vectors [B, 3]; the gradient is finite everywhere."""
    if settings.limit is not None:
        vector = torch.tanh(vector) * settings.limit
    if not settings.enforce_norm:
        return vector
    if settings.z_independent:
        xy, z = vector[:, :2], vector[:, 2:]
        wanted_square = (1 - z.detach().square()).clamp(1e-3, 1.0)
        square = xy.square().sum(dim=1, keepdim=True) / wanted_square
        return torch.cat([xy / square.clamp(min=_TINY).sqrt(), z], dim=1)
    if settings.legacy_norm:
        return vector / vector.square().sum(dim=1, keepdim=True).clamp(1e-6, 1.0).sqrt()
    return unit_vector(vector)


def unit_vector(vector: Tensor) -> Tensor:
    """Vectors [B, 3] divided by their length; those shorter than 1e-6 stay shorter than 1."""
    return vector / vector.square().sum(dim=1, keepdim=True).clamp(min=_TINY).sqrt()


def hypotenuse(x: Tensor, y: Tensor) -> Tensor:
    """√(x² + y²), with gradient 0 where both are 0."""
    square = x.square() + y.square()
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1).sqrt(), 0)


def angle_between(zenith: Tensor, azimuth: Tensor, zenith_2: Tensor, azimuth_2: Tensor) -> Tensor:
    """Angle ψ between pairs of directions [B], in radian, from 0 to π.

    sin(ψ/2) and cos(ψ/2) are hypotenuses of products of half angles, which is exact for directions
    that are almost equal or almost opposite. At 0 and π, where ψ has a kink, its gradient is 0.

    Parameters
    ----------
    zenith, azimuth, zenith_2, azimuth_2
        Angles of both directions [B], in radian.
    """
    half_azimuth = (azimuth - azimuth_2) / 2
    half_sum, half_difference = (zenith + zenith_2) / 2, (zenith - zenith_2) / 2
    sine = hypotenuse(
        half_azimuth.cos() * half_difference.sin(), half_azimuth.sin() * half_sum.sin()
    )
    cosine = hypotenuse(
        half_azimuth.cos() * half_difference.cos(), half_azimuth.sin() * half_sum.cos()
    )
    return 2 * torch.atan2(sine, cosine)


def zenith_and_azimuth(vector: Tensor) -> tuple[Tensor, Tensor]:
    """Angles [B] of the source of direction vectors [B, 3], in radian: 0 … π and 0 … 2π.

    Where an angle has no finite derivative (vertical vectors, |z| ≥ 1) its gradient is 0.
    """
    x, y, z = vector.unbind(dim=1)
    inside = z.abs() < 1
    zenith = torch.where(
        inside, torch.acos(-torch.where(inside, z, 0)), torch.acos(-z.detach().clamp(-1, 1))
    )
    has_azimuth = x.square() + y.square() > _TINY
    azimuth = torch.atan2(torch.where(has_azimuth, -y, 0), torch.where(has_azimuth, -x, 1))
    return zenith, torch.remainder(azimuth + 2 * math.pi, 2 * math.pi)


def circular_mean(angles: Tensor) -> Tensor:
    """Angle [B] of the mean unit vector of N angles [N, B], in radian, from -π to π.

    It does not depend on their order. It is 0 where the unit vectors cancel.
    """
    sine, cosine = angles.sin().mean(dim=0), angles.cos().mean(dim=0)
    is_defined = sine.square() + cosine.square() > _TINY
    return torch.atan2(torch.where(is_defined, sine, 0), torch.where(is_defined, cosine, 1))


def rotate_about_z(vector: Tensor, angle: Tensor) -> Tensor:
    """Rotate vectors [k, 3] by angles [k] in radian, counter-clockwise seen from above."""
    x, y, z = vector.unbind(dim=1)
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([x * cosine - y * sine, x * sine + y * cosine, z], dim=1)


def concentration(component_uncertainty: Tensor) -> Tensor:
    """Concentration κ [B] from uncertainties σ of the components [B, 3]: 2 / (σx² + σy² + σz²).

    For small angles the expected squared length of the deviation of a von Mises-Fisher
    distribution is 2 / κ.
    """
    return 2 / component_uncertainty.square().sum(dim=1)


def component_uncertainty(kappa: Tensor) -> Tensor:
    """The uncertainty σ of each component [B], if all are equal, from the concentration κ [B]."""
    return (2 / (3 * kappa)).sqrt()


def angle_uncertainties(kappa: Tensor, zenith: Tensor) -> tuple[Tensor, Tensor]:
    """Uncertainties of zenith and azimuth in radian from the concentration κ; all [B].

    1 / √κ, for the azimuth divided by the sine of the zenith; at most those of an isotropic
    direction, √(π²/4 - 2) and π/√3.
    """
    width = kappa.rsqrt()
    of_azimuth = width / zenith.sin().clamp(min=1e-6)
    return width.clamp(max=_ISOTROPIC_ZENITH), of_azimuth.clamp(max=_ISOTROPIC_AZIMUTH)


def log_fisher_norm(kappa: Tensor) -> Tensor:
    """Logarithm of the factor C in the von Mises-Fisher density p = C exp(κ (cos ψ - 1)).

    C = κ exp(κ) / (4π sinh κ) = κ / (2π (1 - exp(-2κ))); without the factor exp(κ), κ would have to
    be subtracted again, which loses all precision for large κ. Values and gradients are exact to
    rounding for any κ > 0.
    """
    small, large = kappa.clamp(max=_SERIES_OF_NORM_UP_TO), kappa.clamp(min=_SERIES_OF_NORM_UP_TO)
    square = small.square()
    series = torch.zeros_like(square)
    for coefficient in reversed(_NORM_SERIES):
        series = (series + coefficient) * square
    return torch.where(
        kappa < _SERIES_OF_NORM_UP_TO,
        small - series - math.log(4 * math.pi),
        large.log() - torch.log1p(-torch.exp(-2 * large)) - math.log(2 * math.pi),
    )


def mean_angle(kappa: Tensor) -> Tensor:
    """Mean angle ψ in radian to the mean direction of a von Mises-Fisher distribution of κ > 0.

    ∫ ψ κ exp(κ cos ψ) sin ψ / (2 sinh κ) dψ = π (I₀(κ) - exp(-κ)) / (2 sinh κ); π/2 for κ = 0, and
    √(π / (2κ)) for large κ.
    """
    bessel: Tensor = torch.special.i0e(kappa)
    return math.pi * (bessel - torch.exp(-2 * kappa)) / -torch.expm1(-2 * kappa)


def mean_cosine(kappa: Tensor) -> Tensor:
    """Mean A(κ) = coth κ - 1/κ of the cosine of the angle ψ: the length of the mean vector.

    A von Mises-Fisher distribution of concentration κ > 0; float64, exact to some 1e-9.
    """
    small, large = kappa.clamp(max=_SERIES_UP_TO), kappa.clamp(min=_SERIES_UP_TO)
    square = small.square()
    series = small * (1 / 3 - square * (1 / 45 - square * (2 / 945 - square / 4725)))
    return torch.where(kappa < _SERIES_UP_TO, series, 1 / torch.tanh(large) - 1 / large)


def fisher_concentration(mean_length: Tensor) -> Tensor:
    """Concentration κ from 1e-3 to 1e7 from the length of the mean vector: the inverse of A(κ).

    Newton's method from κ ≈ R (3 - R²) / (1 - R²) (Banerjee et al., JMLR 6, 2005), and for small R
    the expansion of the inverse. float64; relative errors are below 1e-10, near 1e7 below 1e-9.
    """
    length = mean_length.clamp(*_MEAN_LENGTHS)
    square = length.square()
    series = length * (3 + square * (9 / 5 + square * (297 / 175 + square * (1539 / 875))))
    r = length.clamp(min=_SERIES_OF_LENGTH_UP_TO)
    kappa = r * (3 - r.square()) / (1 - r.square())
    for _ in range(_NEWTON_STEPS):
        inverse, coth = 1 / kappa, 1 / torch.tanh(kappa)
        slope = inverse.square() - (coth - 1) * (coth + 1)
        kappa = kappa - (coth - inverse - r) / slope
    return torch.where(length < _SERIES_OF_LENGTH_UP_TO, series, kappa)


def fisher_slope(kappa: Tensor) -> Tensor:
    """Derivative A'(κ) = 1/κ² - 1/sinh² κ of the mean cosine; float64."""
    large = kappa.clamp(min=_SERIES_UP_TO)
    return torch.where(
        kappa < _SERIES_UP_TO,
        1 / 3 - kappa.square() / 15,
        large.pow(-2) - torch.sinh(large).pow(-2),
    )
