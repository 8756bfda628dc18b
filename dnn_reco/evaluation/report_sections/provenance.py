"""Where the report comes from: models, configs, versions, command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dnn_reco.evaluation.report_facts import Origin
from dnn_reco.evaluation.report_sections.section import ReportListing, ReportTable, Section

_SHOWN = {
    "command": "command",
    "dnn_reco_version": "dnn_reco",
    "git_sha": "git revision",
    "git_uncommited_changes": "uncommitted code changes",
    "python_version": "Python",
    "machine": "machine",
}


def provenance_section(
    origins: Mapping[str, Origin], software: Mapping[str, Any], stored: Sequence[str] = ()
) -> Section:
    """Models and their configs, names of stored reconstructions, command and versions."""
    sources = {name: each.source for name, each in origins.items()}
    sources |= dict.fromkeys(stored, "held by the event files")
    rows = [(title, str(software[key])) for key, title in _SHOWN.items() if key in software]
    packages = "\n".join(
        f"{name} {version}" for name, version in software.get("pip_installed_packages", ())
    )
    listings = [
        ReportListing(f"Config of {name}", each.config)
        for name, each in origins.items()
        if each.config
    ]
    if packages:
        listings.append(ReportListing("Installed packages", packages))
    return Section(
        "Provenance",
        tables=(
            ReportTable(
                "Reconstructions.",
                ("reconstruction", "from"),
                list(sources.items()),
            ),
            ReportTable("Inputs and software of the report.", ("what", "value"), rows),
        ),
        listings=listings,
        numbers={
            "sources": sources,
            "software": {key: software[key] for key in _SHOWN if key in software},
        },
    )
