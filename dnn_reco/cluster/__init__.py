"""Jobs for the batch systems of clusters: HTCondor and Slurm."""

from dnn_reco.cluster.job import (
    SAVED,
    Job,
    Resources,
    parse_memory,
    parse_time,
    read_options,
    setup_lines,
)
from dnn_reco.cluster.submit import CLUSTERS, LOG, job_files, submit, write_files

__all__ = [
    "CLUSTERS",
    "LOG",
    "SAVED",
    "Job",
    "Resources",
    "job_files",
    "parse_memory",
    "parse_time",
    "read_options",
    "setup_lines",
    "submit",
    "write_files",
]
