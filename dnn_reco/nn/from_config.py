"""The network that a config describes."""

from __future__ import annotations

import numpy as np
import torch

from dnn_reco.config import Config, is_of_package, resolve
from dnn_reco.data.from_config import transform_settings
from dnn_reco.data.records import ColumnNames
from dnn_reco.detector.grid import NUM_CELLS
from dnn_reco.nn.interface import LabelKeys, Network, NetworkSpec
from dnn_reco.nn.memory import bound_kernel_cache
from dnn_reco.nn.own_network import make_own_network
from dnn_reco.nn.predictor import GridNetwork
from dnn_reco.transform import TransformationModel


def float_type(config: Config) -> torch.dtype:
    """Data type of weights and labels (`float_precision`)."""
    dtype: torch.dtype = getattr(torch, config.general.float_precision)
    return dtype


def label_keys(config: Config) -> LabelKeys:
    """Names of the labels that networks and losses treat specially."""
    labels = config.labels
    return LabelKeys(
        zenith=labels.label_zenith_key,
        azimuth=labels.label_azimuth_key,
        dir_x=labels.label_dir_x_key,
        dir_y=labels.label_dir_y_key,
        dir_z=labels.label_dir_z_key,
        pid=tuple(labels.label_pid_keys),
        particle=dict(labels.label_particle_keys),
    )


def network_spec(config: Config, transformation: TransformationModel) -> NetworkSpec:
    """The specification of the data for a network."""
    return NetworkSpec(
        transformation,
        np.array(config.dom_init_values),
        label_keys(config),
        config.data_handler.data_handler_data_format,
    )


def make_network(config: Config, spec: NetworkSpec, device: torch.device) -> Network:
    """The network of `model_class`; its seed is `model_kwargs.random_seed`, else the run's.

    Raises
    ------
    ConfigError, ModelError
        If there is no such class, or it does not make a network.
    """
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
    bound_kernel_cache(isinstance(network, GridNetwork))
    return network


def count_weights(config: Config, names: ColumnNames) -> int:
    """Number of trainable weights of the network of a config, built without memory for them.

    Parameters
    ----------
    names
        Names of labels and misc data.

    Raises
    ------
    ConfigError, ModelError
        If there is no such network, or it does not take its settings.
    """
    settings = transform_settings(config, names)
    columns = (NUM_CELLS, settings.num_bins), len(names.labels), len(names.misc)
    moments = [array for shape in columns for array in (np.zeros(shape), np.ones(shape))]
    spec = network_spec(config, TransformationModel(settings, *moments))
    with torch.device("meta"):
        network = make_network(config, spec, torch.device("meta"))
    return sum(p.numel() for _, p in network.named_parameters() if p.requires_grad)
