"""Losses, networks and loaders of a user, with the mistakes that users make."""

from dataclasses import replace
from typing import Any

import torch
from tiny_network import TinyNetwork
from torch import Tensor, nn

from dnn_reco.plugins import Prediction, add_scalar


def scalar_loss(prediction, truth, context):
    return context.residual_trafo.square().mean()


def loss_per_event(prediction, truth, context):
    return context.residual_trafo.square()


def whole_numbers(prediction, truth, context):
    return context.residual_trafo.square().mean(dim=0).long()


def number(prediction, truth, context):
    return float(context.residual_trafo.detach().square().mean())


def several_losses(prediction, truth, context):
    return context.residual_trafo.square().mean(dim=0), context.residual_trafo.abs().mean(dim=0)


def forgotten_return(prediction, truth, context):
    context.residual_trafo.square().mean(dim=0)


def former_signature(config, data_handler, data_transformer, shared_objects, *args, **kwargs):
    return shared_objects["y_pred"]


def misspelt_attribute(prediction, truth, context):
    return prediction.lables.mean(dim=0)


not_a_function = 3.0


def squares(prediction, truth, context) -> Tensor:
    """No mistake: the mean square, which TensorBoard shows as well."""
    value: Tensor = context.residual_trafo.square().mean(dim=0)
    add_scalar("own/largest_loss", value.max())
    return value


class Plain(nn.Module):
    """No mistake: a network without parameter_groups."""

    def __init__(self, spec: Any, **kwargs: Any) -> None:
        super().__init__()
        self.tiny = TinyNetwork(spec, kwargs["random_seed"], kwargs["dtype"], dropout=0.0)

    def forward(self, hits: Any) -> Any:
        prediction = self.tiny(hits)
        add_scalar("own/mean_prediction", prediction.labels.mean())
        return prediction


class WithoutKeywords(nn.Module):
    def __init__(self, spec: Any) -> None:
        super().__init__()


class Tuple(Plain):
    def forward(self, hits: Any) -> Any:
        prediction = super().forward(hits)
        return prediction.labels, prediction.uncertainty


class OneColumn(Plain):
    def forward(self, hits: Any) -> Any:
        column = super().forward(hits).labels[:, :1]
        return Prediction(column, column, column, column, column)


class NegativeUncertainty(Plain):
    def forward(self, hits: Any) -> Any:
        prediction = super().forward(hits)
        return replace(prediction, uncertainty_trafo=prediction.uncertainty_trafo - 100)


class Mismatch(Plain):
    def forward(self, hits: Any) -> Any:
        return hits.features @ torch.zeros(77, 2)


class WithoutForward(nn.Module):
    def __init__(self, spec: Any, **kwargs: Any) -> None:
        super().__init__()


class NamesAsGroups(Plain):
    def parameter_groups(self) -> Any:
        return {"pred": ["tiny.prediction"]}


class ListOfParameters(Plain):
    def parameter_groups(self) -> Any:
        return list(self.parameters())


def no_network(spec, **kwargs):
    return {"weights": 3}


def loader_without_names(input_data, config):
    return None, []
