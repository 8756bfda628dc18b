"""Data formats as users write them, with the signature of the original tools."""

from typing import Any

import numpy as np

calls: list[dict[str, Any]] = []


def charge_and_time(
    dom_charges,
    rel_dom_times,
    global_time_offset,
    local_time_offset,
    config,
    dom_exclusions,
    partial_exclusion,
    frame,
    om_key,
    *args,
    **kwargs,
):
    """Total charge, and absolute time of the first pulse as feature 2."""
    calls.append(
        {
            "om_key": om_key,
            "offsets": (global_time_offset, local_time_offset),
            "settings": (config["num_bins"], dom_exclusions, partial_exclusion),
            "frame": frame,
        }
    )
    exclusions = [-1] if om_key in frame["Doms"].tolist() else []
    if len(dom_charges) == 0:
        return [], [], exclusions
    first = rel_dom_times[0] + local_time_offset + global_time_offset
    return [np.sum(dom_charges), first], [0, 2], exclusions


def too_few_arguments(dom_charges, rel_dom_times):
    return [], [], []


def two_lists(**kwargs):
    return [1.0], [0]


def no_lists(**kwargs):
    return None


def more_values_than_indices(**kwargs):
    return [1.0, 2.0], [0], []


def index_out_of_range(**kwargs):
    return [1.0], [3], []


def exclusion_out_of_range(**kwargs):
    return [1.0], [2], [-2]


def index_that_is_not_whole(**kwargs):
    return [1.0], [0.5], []


def words(**kwargs):
    return ["large"], [0], []


def fails(frame, **kwargs):
    return frame["Absent"], [], []
