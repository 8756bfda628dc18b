"""Label, misc and filter functions as users write them, with the signatures of the reference."""

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from dnn_reco.data.hdf5 import count_events, read_table

seen: dict[str, Any] = {}
CACHED = np.arange(12.0).reshape(4, 3)
CACHED.setflags(write=False)


def pandas_labels(input_data, config, label_names=None, *args, **kwargs):
    """As in the reference's modules: a table of the file as a data frame."""
    import pandas as pd

    with pd.HDFStore(input_data, mode="r") as file:
        table = file[config["data_handler_label_key"]]
    if label_names is None:
        label_names = [name for name in table.columns if name.startswith(config["my_prefix"])]
    return np.array([table[name] for name in label_names]).T, label_names


def my_labels(input_data, config, label_names=None, *args, **kwargs):
    table = read_table(input_data, config["data_handler_label_key"])
    energy = config["my_factor"] * table["EnergyVisible"]
    return energy[:, None].astype(config["np_float_precision"]), ["my_energy"]


def assigns_to_config(input_data, config, misc_names=None, *args, **kwargs):
    config["my_factor"] *= 2
    config["my_list"].append(0)
    config.update(new_key=3)
    del config["new_key"]
    name = f"factor_{config['my_factor']:g}_of_{len(config['my_list'])}"
    return np.zeros((count_events(input_data, "dnn_data_global_time_offset"), 1)), [name]


def my_misc(input_data, config, misc_names=None, *args, **kwargs):
    return np.full((count_events(input_data, "dnn_data_global_time_offset"), 1), 7.0), ["seven"]


def cached_misc(input_data, config, misc_names=None, *args, **kwargs):
    return CACHED, ["a_time", "b_time", "c"]


def note_arguments(
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
    """Keep what a filter is given."""
    seen.clear()
    seen.update(
        data_handler=data_handler,
        input_data=input_data,
        x_ic78=x_ic78,
        x_deepcore=x_deepcore,
        labels=labels.copy(),
        misc_data=misc_data if misc_data is None else misc_data.copy(),
        time_range_start=time_range_start,
    )
    return np.ones(len(labels), dtype=bool)


def deepcore_filter(data_handler, input_data, config, x_ic78, x_deepcore, *args):
    return x_deepcore[..., 0].sum(axis=(1, 2)) > config["my_charge"]


def energy_filter(data_handler, input_data, config, x_ic78, x_deepcore, labels, *args):
    return labels[:, data_handler.get_label_index("EnergyVisible")] > 200.0


# What users do wrong ------------------------------------------------------------------------------
def one_row_short(input_data, config, label_names=None, *args, **kwargs):
    table = read_table(input_data, config["data_handler_label_key"])
    return table["EnergyVisible"][1:, None], ["EnergyVisible"]


def too_many_names(input_data, config, label_names=None, *args, **kwargs):
    table = read_table(input_data, config["data_handler_label_key"])
    return table["EnergyVisible"][:, None], ["EnergyVisible", "Energy"]


def no_names(input_data, config, label_names=None, *args, **kwargs):
    return read_table(input_data, config["data_handler_label_key"])["EnergyVisible"][:, None]


def words(input_data, config, label_names=None, *args, **kwargs):
    rows = read_table(input_data, config["data_handler_label_key"])
    return [["large"]] * len(rows), ["size"]


def name_of_file(input_data, config, label_names=None, *args, **kwargs):
    """Another column for each file."""
    table = read_table(input_data, config["data_handler_label_key"])
    return table["EnergyVisible"][:, None], [Path(input_data).stem]


def fails(input_data, config, label_names=None, *args, **kwargs):
    return {}["EnergyVisble"]


def scalar_filter(*args):
    return True


def numbers_filter(*args):
    return [0, 1, 2, 3]


# What befalls worker processes --------------------------------------------------------------------
def killed_in_worker(input_data, config, label_names=None, *args, **kwargs):
    if multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return my_labels(input_data, {**config, "my_factor": 1.0}, label_names)


def hangs_in_worker(input_data, config, label_names=None, *args, **kwargs):
    if multiprocessing.parent_process() is not None:
        Path(config["my_folder"], str(os.getpid())).touch()
        time.sleep(600)
    return my_labels(input_data, {**config, "my_factor": 1.0}, label_names)
