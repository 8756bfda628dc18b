"""Dense layers, as the `fc_*settings` blocks of a config describe them.

Order within a layer: matrix product, division by the square root of the number of inputs, bias,
division by √2 (both divisions only with `repair_std_deviation_list`), batch normalisation,
activation, maximum over groups of nodes, residual addition, dropout.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dnn_reco.nn.activations import make_activation
from dnn_reco.nn.batch_norm import BatchNorm
from dnn_reco.nn.settings import FCSettings
from dnn_reco.nn.sharded_batch import dropout
from dnn_reco.nn.weights import initial_weights, residual_scales, with_channels


class FCLayer(nn.Module):
    """One dense layer [B, inputs] -> [B, outputs]."""

    def __init__(
        self,
        settings: FCSettings,
        num_inputs: int,
        keep_prob: float,
        generator: torch.Generator,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.drop_prob = 1 - keep_prob if settings.use_dropout else 0.0
        repair = settings.repair_std_deviation
        self._scale = 1 / math.sqrt(2 * num_inputs) if repair else 1.0
        self._bias_scale = math.sqrt(0.5) if repair else 1.0
        self.weight = initial_weights((num_inputs, settings.size), generator, dtype)
        self.bias = initial_weights((settings.size,), generator, dtype)
        self.bn = BatchNorm((settings.size,), dtype) if settings.use_batch_norm else None
        self.act = make_activation(
            settings.activation,
            lambda std: initial_weights((settings.size,), generator, dtype, std),
        )
        self.residual_scale: nn.Parameter | None = None
        if settings.use_residual:
            self.residual_scale = residual_scales(settings.num_outputs, generator, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to [B, inputs]."""
        y = torch.addmm(self.bias * self._bias_scale, x, self.weight * self._scale)
        if self.bn is not None:
            y = self.bn(y)
        y = self.act(y)
        if self.settings.max_out_size is not None:
            y = y.view(y.shape[0], self.settings.max_out_size, -1).amax(dim=1)
        if self.residual_scale is not None:
            y = torch.addcmul(self._shortcut(x), y, self.residual_scale)
        return dropout(y, self.drop_prob) if self.training else y

    def _shortcut(self, x: Tensor) -> Tensor:
        num_outputs = self.settings.num_outputs
        if self.settings.max_out_size is not None:
            # after a maximum the reference takes equally spaced inputs, not the first ones
            x = x[:, :: max(1, x.shape[1] // num_outputs)]
        return with_channels(x, num_outputs)


class FCLayers(nn.Sequential):
    """A stack of dense layers."""

    def __init__(
        self,
        settings: Sequence[FCSettings],
        num_inputs: int,
        keep_prob: float,
        generator: torch.Generator,
        dtype: torch.dtype,
    ) -> None:
        num_all_inputs = [num_inputs, *(layer.num_outputs for layer in settings)]
        super().__init__(
            *(
                FCLayer(layer, size, keep_prob, generator, dtype)
                for layer, size in zip(settings, num_all_inputs[:-1], strict=True)
            )
        )
