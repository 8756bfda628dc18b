"""A filter: contained events with enough energy, by their labels."""

import numpy as np


def contained(
    data_handler,
    input_data,
    config,
    x_ic78,
    x_deepcore,
    labels,
    misc_data,
    time_range_start,
    *args,
    **kwargs,
):
    """Return a boolean for each event: whether it is kept."""
    energy = labels[:, data_handler.get_label_index("EnergyVisible")]
    x = labels[:, data_handler.get_label_index("VertexX")]
    y = labels[:, data_handler.get_label_index("VertexY")]
    return (energy > config["my_minimal_energy"]) & (np.hypot(x, y) < 500.0)
