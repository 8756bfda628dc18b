"""The network that a config describes."""

from __future__ import annotations

import numpy as np
import torch

from dnn_reco.config import Config, is_of_package, resolve
from dnn_reco.nn.interface import LabelKeys, Network, NetworkSpec
from dnn_reco.nn.own_network import make_own_network
from dnn_reco.transform import TransformationModel


def float_type(config: Config) -> torch.dtype:
    """Data type of weights and labels (`float_precision`)."""
    dtype: torch.dtype = getattr(torch, config.general.float_precision)
    return dtype


def network_spec(config: Config, transformation: TransformationModel) -> NetworkSpec:
    """The specification of the data for a network."""
    labels = config.labels
    keys = LabelKeys(
        zenith=labels.label_zenith_key,
        azimuth=labels.label_azimuth_key,
        dir_x=labels.label_dir_x_key,
        dir_y=labels.label_dir_y_key,
        dir_z=labels.label_dir_z_key,
        pid=tuple(labels.label_pid_keys),
        particle=dict(labels.label_particle_keys),
    )
    return NetworkSpec(transformation, np.array(config.dom_init_values), keys)


def make_network(config: Config, spec: NetworkSpec, device: torch.device) -> Network:
    """The network of `model_class`; its seed is `model_kwargs.random_seed`, else the run's."""
    kwargs = {
        "random_seed": config.seed,
        "dtype": config.general.float_precision,
        **config.model.model_kwargs,
    }
    name = config.model.model_class
    model = resolve(name, "model_class")
    network: Network = (
        model(spec, **kwargs)
        if is_of_package(model)
        else make_own_network(model, name, spec, kwargs)
    )
    network.to(device)
    return network
