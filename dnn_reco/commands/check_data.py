"""`data check`: whether event files hold what a training needs, and nothing that harms it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import click

from dnn_reco.amounts import counted
from dnn_reco.commands.output import coloured, print_json
from dnn_reco.config import Config
from dnn_reco.config.schema import GROUPS
from dnn_reco.data.build import num_workers
from dnn_reco.data.check.between_files import check_between_files
from dnn_reco.data.check.file import CheckSettings, FileCheck, check_file, nothing_checked
from dnn_reco.data.check.finding import ALL_FILES, SEVERITIES, Finding
from dnn_reco.data.data_settings_file import load_data_settings
from dnn_reco.data.file_events import HitsSettings, InputTables
from dnn_reco.data.from_config import hits_settings, label_weight, record_settings
from dnn_reco.data.hdf5 import (
    detect_input_tables,
    detect_num_bins,
    input_tables,
    list_tables,
    read_record,
)
from dnn_reco.data.overlap import files_if_any
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.event_sources import event_file
from dnn_reco.files import find_files
from dnn_reco.labelled_events import LABEL_TABLE
from dnn_reco.progress import with_progress
from dnn_reco.workers import in_workers

_MOST_NAMED = 3  # files of a finding
_COLOURS = {"error": "red", "warning": "yellow"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WhatToRead:
    """What to read of files without a config; None: what the first file has.

    Attributes
    ----------
    inputs
        Common beginning of the names of the input tables.
    num_bins
        Number of features of a DOM.
    labels
        Name of the table of labels.
    data_settings
        File of the settings that the features should have been made with.
    """

    inputs: str | None = None
    num_bins: int | None = None
    labels: str | None = None
    data_settings: Path | None = None


def run_check_data(
    patterns: Sequence[str],
    config: Config | None,
    what: WhatToRead,
    num_jobs: int,
    as_json: bool = False,
) -> int:
    """Check files and print what was found; returns the exit code."""
    if config is not None and (what.inputs, what.num_bins, what.labels) != (None, None, None):
        raise ConfigError(
            "--tables, --num-bins and --labels are for files without a config: name the tables in "
            "the config, or give no config"
        )
    files = find_files(patterns, "the arguments") if patterns else _files_of(config)
    settings = _settings(files, what) if config is None else _settings_of(config)
    wanted = None
    if what.data_settings is not None:
        wanted = load_data_settings(what.data_settings, settings.hits.tables)
    checks = _check_files(settings, config, files, num_jobs)
    findings = [finding for check in checks for finding in check.findings]
    findings += check_between_files(
        checks, settings.label_table, wanted, settings.hits.num_bins, _trained(config, checks)
    )
    if config is None and settings.label_table is None:
        findings.append(
            Finding(
                *("info", ALL_FILES, "", f"there is no table '{LABEL_TABLE}' of labels"),
                "only the inputs were checked; another table is named with --labels",
            )
        )
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    num_events = sum(len(check.ids) for check in checks)
    if as_json:
        print_json(
            {
                "files": [str(file) for file in files],
                "events": num_events,
                "findings": [asdict(finding) for finding in findings],
            }
        )
    else:
        click.echo(findings_text(findings, len(files), num_events))
    return 1 if any(finding.severity == "error" for finding in findings) else 0


def _check_files(
    settings: CheckSettings, config: Config | None, files: Sequence[Path], num_jobs: int
) -> list[FileCheck]:
    """The checks of all files, in worker processes where that is faster."""
    advice = "try again with fewer jobs (-j)"
    work = partial(_check_file, settings, config)
    with closing(in_workers(work, files, num_workers(files, num_jobs), advice)) as results:
        return list(with_progress(results, len(files), "Checking", "files"))


def _check_file(settings: CheckSettings, config: Config | None, path: Path) -> FileCheck:
    """The check of a file, or of the event file that is made of it."""
    if config is None:
        return check_file(settings, path)
    try:
        with event_file(path, config) as file:
            check = check_file(settings, file)
    except DataError as error:
        text, remedy = str(error).replace(f"'{path}'", "the file"), "it was not checked"
        return nothing_checked(path, Finding("error", str(path), "", text, remedy))
    findings = [replace(finding, file=str(path)) for finding in check.findings]
    return replace(check, path=path, findings=findings)


# --------------------------------------------------------------------------------------------------
# What to check
# --------------------------------------------------------------------------------------------------
def _files_of(config: Config | None) -> list[Path]:
    """Files of all lists of a config, each once."""
    assert config is not None  # there are files, or a config
    lists = [files_if_any(config, key) for key in GROUPS["data_files"].model_fields]
    files = sorted({path for paths in lists for path in paths})
    if not files:
        raise DataError(f"no file matches the lists of files of '{config.name}'")
    return files


def _settings_of(config: Config) -> CheckSettings:
    config.require("data_handler_num_bins")
    hits = hits_settings(config)
    names = config.values().get("label_keys_to_load")
    return CheckSettings(
        HitsSettings(hits.tables, hits.num_bins, hits.init_values, hits.dtype, verify_all=True),
        config.data_handler.data_handler_label_key,
        tuple(names) if names else None,
        record_settings(config),
        config.plugin_view(),
    )


def _settings(files: Sequence[Path], what: WhatToRead) -> CheckSettings:
    """Tables and number of features, from the first file that can be read.

    Raises
    ------
    DataError
        If no file can be read, or it is not clear what to read.
    """
    reasons = []
    for path in files:
        try:
            list_tables(path)
        except DataError as error:
            reasons.append(str(error))
            continue
        tables = input_tables(what.inputs) if what.inputs else detect_input_tables(path)
        try:
            num_bins = what.num_bins or _num_bins(path, tables)
        except DataError as error:  # such as of a file without events
            reasons.append(str(error))
            continue
        hits = HitsSettings(tables, num_bins, (0.0,) * num_bins, "float32", verify_all=True)
        labels = what.labels or (LABEL_TABLE if any(map(_has_labels, files)) else None)
        return CheckSettings(hits, labels)
    raise DataError("\n".join(["no file can be read:", *reasons[:_MOST_NAMED]]))


def _has_labels(path: Path) -> bool:
    try:
        return LABEL_TABLE in list_tables(path)
    except DataError:
        return False  # the check of the file reports it


def _num_bins(path: Path, tables: InputTables) -> int:
    record = read_record(path, tables)
    return record.num_bins if record is not None else detect_num_bins(path, tables)


def _trained(config: Config | None, checks: Sequence[FileCheck]) -> set[str] | None:
    """Labels with a weight in the loss; None without a config."""
    if config is None:
        return None
    names = {name for check in checks for name in check.labels.names}
    return {name for name in names if label_weight(config, name) > 0}


# --------------------------------------------------------------------------------------------------
# What to print
# --------------------------------------------------------------------------------------------------
def findings_text(findings: Sequence[Finding], num_files: int, num_events: int) -> str:
    """All findings, those of several files put together, and a line that counts them."""
    groups: dict[tuple[str, str, str, str], list[Finding]] = {}
    for finding in findings:
        key = (finding.severity, finding.table, finding.text, finding.remedy)
        groups.setdefault(key, []).append(finding)
    lines = [_group_text(group) for group in groups.values()]
    counts = [(sum(key[0] == severity for key in groups), severity) for severity in SEVERITIES]
    words = [
        f"{n} {severity}{'s' * (n != 1 and severity != 'info')}" for n, severity in counts if n
    ]
    files = f"{counted(num_files, 'file')}, {counted(num_events, 'event')}"
    return "\n".join([*lines, f"{files}: {', '.join(words) or 'nothing was found'}"])


def _group_text(group: Sequence[Finding]) -> str:
    """One finding, of one file or of several."""
    first = group[0]
    table = f"{first.table}: " if first.table else ""
    facts = []
    count = sum(finding.count for finding in group)
    if first.example or count > len(group):
        facts.append(f"{count:,}")
    names = [Path(finding.file).name for finding in group if finding.file != ALL_FILES]
    if names:
        more = len(names) - _MOST_NAMED
        named = ", ".join(names[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")
        facts.append(f"in {named}")
    if first.example:
        facts.append(f"e.g. {first.example}")
    where = f" [{'; '.join(facts)}]" if facts else ""
    severity = coloured(f"{first.severity:<7}", _COLOURS.get(first.severity))
    return f"{severity}  {table}{first.text}{where}\n         -> {first.remedy}"
