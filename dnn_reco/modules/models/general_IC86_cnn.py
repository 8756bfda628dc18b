"""The convolutional network of IceCube-86.

Three branches of convolutions (main array, upper and lower DeepCore) are flattened and
concatenated; dense layers predict the labels from them, further dense layers the uncertainties.
"""
# ruff: noqa: N999 (configs name this module so)

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from dnn_reco.config import DEFAULT_SEED
from dnn_reco.config.typed_settings import STRICT, typed_settings
from dnn_reco.config.value_types import (
    Flag,
    Fraction,
    FreeSettings,
    LooseFlag,
    Number,
    Numbers,
    Precision,
    WholeNumber,
)
from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.detector.grid import DEEPCORE_SHAPE, MAIN_SHAPE, NUM_UPPER_DEEPCORE_DOMS
from dnn_reco.errors import ModelError
from dnn_reco.nn.conv_layers import ConvLayers, apply_to_hits, has_hooks
from dnn_reco.nn.densify import Densify
from dnn_reco.nn.direction import DirectionSettings
from dnn_reco.nn.fc_layers import FCLayers
from dnn_reco.nn.fused_layers import numba_available
from dnn_reco.nn.interface import NetworkSpec, Prediction
from dnn_reco.nn.label_head import LabelHead
from dnn_reco.nn.model_kwargs import DTYPES
from dnn_reco.nn.predictor import autocast_disabled
from dnn_reco.nn.settings import parse_conv_settings, parse_fc_settings
from dnn_reco.nn.sharded_batch import dropout


def _elu_plus_one(u: Tensor) -> Tensor:
    return functional.elu(u) + 1


_UNCERTAINTY_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "elu": _elu_plus_one,
    "softplus": functional.softplus,
}


@dataclass(frozen=True, config=STRICT)
class CNNSettings:
    """The `model_kwargs` of :class:`GeneralIC86CNN`.

    Attributes
    ----------
    conv_upper_deepcore_settings, conv_lower_deepcore_settings, conv_ic78_settings
        Layers of the three branches (see :mod:`dnn_reco.nn.settings`).
    fc_settings, fc_unc_settings
        Dense layers of labels and uncertainties; the last size is replaced by the number of labels.
    min_uncertainty_values
        Added to each transformed uncertainty; one number, or one for each label.
    max_uncertainty_values
        Upper limit of the transformed uncertainties; one number, or one for each label.
    uncertainty_activation
        Activation that makes uncertainties positive: `elu` (elu(u) + 1), `abs` or `softplus`.
    add_prediction_to_unc_input
        Add the (detached) transformed prediction to the input of the uncertainty layers.
    detach_uncertainty_input
        Stop gradients of the uncertainty at the output of the convolutions.
    enforce_direction_norm, legacy_direction_norm, dir_z_independent, limit_dir_vec
        See :class:`dnn_reco.nn.direction.DirectionSettings`.
    keep_prob_dom, keep_prob_conv, keep_prob_flat, keep_prob_fc
        Probabilities, in training, that dropout keeps a DOM, a value of a convolutional layer, of
        the flattened layer, of a dense layer (layers: where `use_dropout_list` is true).
    random_seed
        Seed of the initial weights.
    is_training
        Start in training mode.
    dtype
        `float32` or `float64`.
    fc_input_shape, fc_unc_input_shape
        Shapes of the inputs of the dense layers, which are known without: they must be right.
    verbose, name, logger
        Accepted, without effect.
    """

    conv_upper_deepcore_settings: FreeSettings
    conv_lower_deepcore_settings: FreeSettings
    conv_ic78_settings: FreeSettings
    fc_settings: FreeSettings
    fc_unc_settings: FreeSettings
    min_uncertainty_values: Numbers = (1e-6,)
    max_uncertainty_values: Numbers | None = None
    uncertainty_activation: Literal["abs", "elu", "softplus"] = "elu"
    add_prediction_to_unc_input: LooseFlag = False
    detach_uncertainty_input: LooseFlag = False
    enforce_direction_norm: LooseFlag = True
    legacy_direction_norm: LooseFlag = False
    dir_z_independent: LooseFlag = False
    limit_dir_vec: Number | None = None
    keep_prob_dom: Fraction = 1.0
    keep_prob_conv: Fraction = 1.0
    keep_prob_flat: Fraction = 1.0
    keep_prob_fc: Fraction = 1.0
    random_seed: WholeNumber | None = DEFAULT_SEED
    is_training: Flag = True
    dtype: Precision = "float32"
    fc_input_shape: Any = None
    fc_unc_input_shape: Any = None
    verbose: Any = True
    name: Any = None
    logger: Any = None

    def __post_init__(self) -> None:
        limit = self.limit_dir_vec
        if not (self.dir_z_independent and self.enforce_direction_norm):
            return
        if limit is None or not abs(limit - 1) < 0.1:
            raise ValueError(
                "'dir_z_independent' does not change the z component, so 'limit_dir_vec' must "
                f"limit it to about 1 (0.9 … 1.1); it is {limit!r}"
            )

    @classmethod
    def from_kwargs(cls, model_kwargs: Mapping[str, Any]) -> "CNNSettings":
        """Validate the `model_kwargs` of a config.

        Raises
        ------
        ModelError
            If a setting is unknown, missing, or has a wrong value.
        """
        return typed_settings(cls, model_kwargs, "model_kwargs", ModelError)


def _check_input_shape(key: str, shape: Any, num_inputs: int) -> None:
    """Check the shape [-1, inputs] that a config gives for the input of dense layers."""
    if shape is not None and (
        not isinstance(shape, list | tuple) or list(shape)[1:] != [num_inputs]
    ):
        raise ModelError(
            f"model_kwargs.{key} is {shape!r}, but these layers have {num_inputs} inputs: "
            f"give [-1, {num_inputs}], or remove the key"
        )


class GeneralIC86CNN(nn.Module):
    """Convolutions over the main array and DeepCore, dense layers for labels and uncertainties.

    Parameters
    ----------
    spec
        Properties of the data.
    model_kwargs
        See :class:`CNNSettings`.

    Raises
    ------
    ModelError
        If a setting is unknown, wrong, or not supported yet.
    """

    _min_uncertainty: Tensor
    _max_uncertainty: Tensor | None

    def __init__(self, spec: NetworkSpec, **model_kwargs: Any) -> None:
        super().__init__()
        settings = CNNSettings.from_kwargs(model_kwargs)
        self.settings = settings
        seed = DEFAULT_SEED if settings.random_seed is None else settings.random_seed
        generator = torch.Generator().manual_seed(seed)
        dtype = DTYPES[settings.dtype]

        def branch(name: str, channels: int, shape: Sequence[int]) -> ConvLayers:
            layers = parse_conv_settings(name, getattr(settings, name), len(shape))
            return ConvLayers(
                name, layers, channels, shape, settings.keep_prob_conv, generator, dtype
            )

        def dense(name: str, num_inputs: int) -> FCLayers:
            layers = parse_fc_settings(name, getattr(settings, name), len(spec.label_names))
            return FCLayers(layers, num_inputs, settings.keep_prob_fc, generator, dtype)

        num_strings, num_doms = DEEPCORE_SHAPE
        num_upper = NUM_UPPER_DEEPCORE_DOMS
        channels = num_strings * spec.num_bins
        self.densify = Densify(spec, settings.keep_prob_dom, dtype)
        self.upper = branch("conv_upper_deepcore_settings", channels, (1, num_upper))
        self.lower = branch("conv_lower_deepcore_settings", channels, (1, num_doms - num_upper))
        self.ic78 = branch("conv_ic78_settings", spec.num_bins, MAIN_SHAPE)
        num_flat = self.ic78.num_outputs + self.upper.num_outputs + self.lower.num_outputs
        num_added = len(spec.label_names) if settings.add_prediction_to_unc_input else 0
        _check_input_shape("fc_input_shape", settings.fc_input_shape, num_flat)
        _check_input_shape("fc_unc_input_shape", settings.fc_unc_input_shape, num_flat + num_added)
        self.fc = dense("fc_settings", num_flat)
        self.fc_unc = dense("fc_unc_settings", num_flat + num_added)
        self.label_head = LabelHead(
            spec,
            DirectionSettings(
                enforce_norm=settings.enforce_direction_norm,
                legacy_norm=settings.legacy_direction_norm,
                z_independent=settings.dir_z_independent,
                limit=settings.limit_dir_vec,
            ),
        )
        self._register_limit("min_uncertainty", settings.min_uncertainty_values, dtype, spec)
        self._register_limit("max_uncertainty", settings.max_uncertainty_values, dtype, spec)
        self.train(settings.is_training)

    def _register_limit(
        self,
        name: str,
        values: Sequence[float] | None,
        dtype: torch.dtype,
        spec: NetworkSpec,
    ) -> None:
        limit = None if values is None else torch.tensor(values, dtype=dtype)
        if limit is not None and len(limit) not in (1, len(spec.label_names)):
            raise ModelError(
                f"model_kwargs.{name}_values has {len(limit)} values: give one number, or one "
                f"for each of the {len(spec.label_names)} labels."
            )
        self.register_buffer(f"_{name}", limit, persistent=False)

    @property
    def computes_in_pieces(self) -> bool:
        """Whether its convolutions divide a batch among threads (see `dnn_reco.nn.threads`)."""
        branches = (self.ic78, self.upper, self.lower)
        return numba_available() and all(branch.can_be_fused for branch in branches)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters of the prediction (`pred`) and the uncertainty (`unc`)."""
        unc = list(self.fc_unc.parameters())
        pred = [
            parameter
            for part in (self.upper, self.lower, self.ic78, self.fc)
            for parameter in part.parameters()
        ]
        return {"pred": pred, "unc": unc}

    def forward(self, hits: HitBatch) -> Prediction:
        """Predict labels and uncertainties of a batch of events."""
        branches = (self.ic78, self.upper, self.lower)
        fused = all(branch.is_fused for branch in branches) and not has_hooks(self.densify)
        if fused and self.densify.can_fill_parts(hits):
            outputs = apply_to_hits(branches, self.densify.of_parts(hits))
            return self._read_flat(self._flattened(outputs))
        return self.read_grid(*self.place_on_grid(hits))

    def place_on_grid(self, hits: HitBatch) -> tuple[Tensor, Tensor]:
        """Transformed main array [B, 10, 10, 60, F] and DeepCore [B, 8, 60, F]."""
        main, deepcore = self.densify(hits)
        return main, deepcore

    def read_grid(self, main: Tensor, deepcore: Tensor) -> Prediction:
        """Predict from the result of :meth:`place_on_grid`."""
        return self._read_flat(self._flat_features(main, deepcore))

    def _read_flat(self, flat: Tensor) -> Prediction:
        """Predict from the outputs of the three branches [B, features]."""
        with autocast_disabled(flat.device):
            flat = flat.to(DTYPES[self.settings.dtype])
            labels_trafo, labels, logits = self.label_head(self.fc(flat))
            uncertainty_trafo = self._uncertainty(flat, labels_trafo)
        return Prediction(
            labels_trafo=labels_trafo,
            uncertainty_trafo=uncertainty_trafo,
            labels=labels,
            uncertainty=self.label_head.transform.unscale_uncertainty(uncertainty_trafo),
            logits=logits,
        )

    def read_dense(self, main: Tensor, deepcore: Tensor) -> Prediction:
        """Predict from dense arrays that are not transformed, with the values of all DOMs."""
        return self.read_grid(*self.densify.transform(main, deepcore))

    def _flat_features(self, main: Tensor, deepcore: Tensor) -> Tensor:
        """Outputs of the three branches [B, features]."""
        # [B, string, om, bin] -> [B, 1, om, channel], channel = (bin, string)
        deepcore = deepcore.permute(0, 2, 3, 1).flatten(2).unsqueeze(1)
        num_upper = NUM_UPPER_DEEPCORE_DOMS
        branches = (
            self.ic78(main),
            self.upper(deepcore[:, :, :num_upper]),
            self.lower(deepcore[:, :, num_upper:]),
        )
        return self._flattened(branches)

    def _flattened(self, branches: Sequence[Tensor]) -> Tensor:
        """Outputs of the branches in one row per event."""
        flat = torch.cat([branch.flatten(1) for branch in branches], dim=1)
        return dropout(flat, 1 - self.settings.keep_prob_flat) if self.training else flat

    def _uncertainty(self, flat: Tensor, labels_trafo: Tensor) -> Tensor:
        inputs = flat.detach() if self.settings.detach_uncertainty_input else flat
        if self.settings.add_prediction_to_unc_input:
            inputs = torch.cat([labels_trafo.detach(), inputs], dim=1)
        positive = _UNCERTAINTY_ACTIVATIONS[self.settings.uncertainty_activation]
        uncertainty = positive(self.fc_unc(inputs)) + self._min_uncertainty
        if self._max_uncertainty is None:
            return uncertainty
        return torch.minimum(uncertainty, self._max_uncertainty)
