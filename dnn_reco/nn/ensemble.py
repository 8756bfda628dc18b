"""Ensembles and test-time augmentation: the densities of several predictions are averaged.

Each network, or rotation of an event, predicts a density of the true labels. The ensemble predicts
their mixture with equal weights (Lakshminarayanan, Pritzel & Blundell, arXiv:1612.01474), given by
its moments: where the members disagree, the uncertainty grows.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.errors import ModelError
from dnn_reco.nn.density_layout import DIRECTION, DensityShape, columns_of, mixed_layout
from dnn_reco.nn.direction import (
    circular_mean,
    component_uncertainty,
    concentration,
    fisher_concentration,
    mean_cosine,
    unit_vector,
    zenith_and_azimuth,
)
from dnn_reco.nn.interface import Network, NetworkSpec, Prediction, density_layout
from dnn_reco.nn.label_transform import LabelTransform
from dnn_reco.nn.misc_data import MiscData
from dnn_reco.nn.own_network import call_network, needs_misc
from dnn_reco.nn.threads import computes_in_pieces

_MIN_PROBABILITY = 1e-6


class Ensemble(nn.Module):
    """The mixture of the predictions of several networks, with the interface of a network.

    Parameters
    ----------
    networks
        The networks, all with the same labels; their transformations may differ.
    spec
        Names and transformation of the labels, for predictions in transformed units.
    trained_labels
        The labels that all networks were trained for; None: all.

    Raises
    ------
    ModelError
        If there is no network.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        spec: NetworkSpec,
        trained_labels: Collection[str] | None = None,
    ) -> None:
        super().__init__()
        if not networks:
            raise ModelError("an ensemble needs at least one network")
        self.networks = nn.ModuleList(networks)  # type: ignore[arg-type]
        layouts = [density_layout(network) for network in networks]
        self.mixture = Mixture(spec, layouts, trained_labels)

    @property
    def density_layout(self) -> tuple[DensityShape, ...]:
        """Shapes of densities that it predicts beside labels and uncertainties."""
        return self.mixture.layout

    @property
    def needs_misc(self) -> bool:
        """Whether any of the networks reads misc data."""
        return any(needs_misc(network) for network in self.networks)

    @property
    def computes_in_pieces(self) -> bool:
        """Whether all networks divide a batch among threads (see `threads`)."""
        return all(computes_in_pieces(each) for each in self.networks)

    def forward(self, hits: HitBatch, misc: MiscData | None = None) -> Prediction:
        """Labels and uncertainties of a batch of events."""
        predictions = [call_network(network, hits, misc) for network in self.networks]
        mixed: Prediction = self.mixture(predictions)
        return mixed

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """An empty mapping: the ensemble itself is not trained."""
        return {}


class Mixture(nn.Module):
    """The mixture of several predictions of the same events, with equal weights.

    - Ordinary labels, those with logarithm as ln(1 + x): mean of the means; the variance is the
      mean of the variances plus the variance of the means. Azimuths are first turned by 2π to
      within π of the angle of their mean unit vector.
    - Direction vector, if all of it is trained: the von Mises-Fisher distribution with the same
      mean vector as the mixture. Zenith and azimuth follow from it; their variances are the mean
      of σ² plus the mean squared distance from the common angle.
    - Classes: mean of the probabilities.
    - Shapes of densities: the components of all of them. The uncertainty of an ordinary label
      with a shape is still that of the first rule.

    Parameters
    ----------
    spec
        Names and transformation of the labels.
    layouts
        Shapes of densities of each prediction; a label that has none, or one of another kind, in
        one of them, has none in the mixture.
    trained_labels
        The labels that all predictions are trained for; None: all. Those of other components of
        the direction vector mean nothing, so that angles cannot follow from them.

    Attributes
    ----------
    layout
        Shapes of densities of the mixture.
    """

    _log: Tensor
    _classes: Tensor
    _period: Tensor
    _vector: Tensor

    def __init__(
        self,
        spec: NetworkSpec,
        layouts: Sequence[Sequence[DensityShape]] = ((),),
        trained_labels: Collection[str] | None = None,
    ) -> None:
        super().__init__()
        self._layouts = tuple(layouts)
        self.layout = mixed_layout(layouts)
        self.transform = LabelTransform(spec.transformation)
        self._names = names = spec.label_names
        keys = spec.label_keys
        parts = (keys.dir_x, keys.dir_y, keys.dir_z)
        trained = names if trained_labels is None else trained_labels
        columns = [names.index(part) for part in parts if part in trained]
        self._has_vector = len(columns) == len(parts)
        self._zenith = names.index(keys.zenith) if keys.zenith in names else None
        self._azimuth = names.index(keys.azimuth) if keys.azimuth in names else None
        period = [2 * math.pi if name == keys.azimuth else math.inf for name in names]
        self.register_buffer("_log", torch.tensor(self.transform.has_log), persistent=False)
        self.register_buffer(
            "_classes", torch.tensor([name in keys.pid for name in names]), persistent=False
        )
        self.register_buffer("_period", torch.tensor(period), persistent=False)
        self.register_buffer("_vector", torch.tensor(columns, dtype=torch.int64), persistent=False)

    def forward(self, predictions: Sequence[Prediction]) -> Prediction:
        """The mixture of predictions of B events."""
        mixed = self.mix(
            torch.stack([each.labels for each in predictions]),
            torch.stack([each.uncertainty for each in predictions]),
        )
        return replace(mixed, shapes=self.mix_shapes(predictions, mixed)) if self.layout else mixed

    def mix(self, labels: Tensor, uncertainty: Tensor) -> Prediction:
        """The mixture of N predictions by their labels and uncertainties [N, B, L], physical.

        It has no shapes of densities.
        """
        dtype = labels.dtype
        labels, uncertainty = self._moments(labels.double(), uncertainty.double())
        probability = labels.clamp(_MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
        return Prediction(
            labels_trafo=self.transform(labels).to(dtype),
            uncertainty_trafo=self.transform.scale_uncertainty(uncertainty).to(dtype),
            labels=labels.to(dtype),
            uncertainty=uncertainty.to(dtype),
            logits=torch.where(self._classes, torch.logit(probability), 0).to(dtype),
        )

    def mix_shapes(self, predictions: Sequence[Prediction], mixed: Prediction) -> Tensor:
        """Shapes [B, P] of all predictions together, relative to their mixture."""
        parts = []
        for shape in self.layout:
            of_members = [
                self._relative(shape, layout, each, mixed)
                for layout, each in zip(self._layouts, predictions, strict=True)
            ]
            parts.append(torch.cat(of_members, dim=1).flatten(1))
        return torch.cat(parts, dim=1)

    def _relative(
        self,
        shape: DensityShape,
        layout: Sequence[DensityShape],
        prediction: Prediction,
        mixed: Prediction,
    ) -> Tensor:
        """Components [B, K, parameters] of one prediction, relative to label and σ of another."""
        found = columns_of(layout, shape.label)
        assert found is not None  # the mixture has shapes that all have
        own, columns = found
        parts = prediction.shapes[:, columns]
        parts = parts.view(-1, own.num_components, own.num_parameters)
        log_weight = parts[..., :1] - math.log(len(self._layouts))
        if shape.label == DIRECTION:
            return torch.cat([log_weight, parts[..., 1:]], dim=2)
        column = self._names.index(shape.label)
        (value, sigma), (new_value, new_sigma) = (
            self._value_and_sigma(each, column) for each in (prediction, mixed)
        )
        offset = (value - new_value + parts[..., 1] * sigma) / new_sigma
        scale = parts[..., 2] * sigma / new_sigma
        relative = torch.stack([offset, scale], dim=2)
        return torch.cat([log_weight, relative, parts[..., 3:]], dim=2)

    def _value_and_sigma(self, prediction: Prediction, column: int) -> tuple[Tensor, Tensor]:
        """A label, as ln(1 + x) if it has a logarithm, and its uncertainty [B, 1]."""
        value = prediction.labels[:, column, None]
        value = value.log1p() if self.transform.has_log[column] else value
        return value, prediction.uncertainty[:, column, None]

    def _moments(self, labels: Tensor, sigmas: Tensor) -> tuple[Tensor, Tensor]:
        """Labels and uncertainties [B, L] of the mixture of N densities [N, B, L]."""
        values = torch.where(self._log, torch.log1p(torch.where(self._log, labels, 0)), labels)
        centre = values.mean(dim=0)
        if self._azimuth is not None:
            centre[:, self._azimuth] = circular_mean(values[..., self._azimuth])
        mean = centre + self._wrapped(values - centre).mean(dim=0)
        if self._azimuth is not None:
            mean[:, self._azimuth].remainder_(2 * math.pi)
        kappa = None
        if self._has_vector:
            vector, kappa = mean_direction(values[..., self._vector], sigmas[..., self._vector])
            mean[:, self._vector] = vector
            zenith, azimuth = zenith_and_azimuth(vector)
            for column, angle in ((self._zenith, zenith), (self._azimuth, azimuth)):
                if column is not None:
                    mean[:, column] = angle
        spread = self._wrapped(values - mean)
        sigma = (sigmas.square() + spread.square()).mean(dim=0).sqrt()
        if kappa is not None:
            sigma[:, self._vector] = component_uncertainty(kappa)[:, None]
        of_class = (mean * (1 - mean)).clamp(min=0).sqrt()
        sigma = torch.where(self._classes, of_class, sigma)
        return torch.where(self._log, torch.expm1(mean), mean), sigma

    def _wrapped(self, differences: Tensor) -> Tensor:
        """Differences of labels; those of azimuths are wrapped to -π … π."""
        periods = torch.where(self._period.isinf(), 0, (differences / self._period).round())
        return differences - torch.where(self._period.isinf(), 0, periods * self._period)


def mean_direction(vectors: Tensor, sigmas: Tensor) -> tuple[Tensor, Tensor]:
    """Direction [B, 3] and concentration κ [B] of a mixture of N densities.

    The mean vector of a von Mises-Fisher distribution has the length A(κ) = coth κ - 1/κ. The
    mixture is approximated by the one with the same mean vector. Vectors shorter than 1 are taken
    as mean vectors themselves: the smaller of both lengths is used.

    Parameters
    ----------
    vectors, sigmas
        Direction vectors and uncertainties of their components [N, B, 3].
    """
    kappa = concentration(sigmas.flatten(0, 1)).view(vectors.shape[:2])
    units = unit_vector(vectors.flatten(0, 1)).view(vectors.shape)
    lengths = torch.minimum(mean_cosine(kappa), vectors.square().sum(dim=2).sqrt())
    mean = (lengths[..., None] * units).mean(dim=0)
    length = mean.square().sum(dim=1).sqrt()
    return unit_vector(mean), fisher_concentration(length)
