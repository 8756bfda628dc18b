"""The command: compare with the reference simulation, optionally after a new fit."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from dnn_reco.simulation.calibration.delays import fit_delays, shower_delays
from dnn_reco.simulation.calibration.fit import fit
from dnn_reco.simulation.calibration.pairs import shower_pairs, shower_rows
from dnn_reco.simulation.calibration.plot import plot
from dnn_reco.simulation.calibration.reference import read_pulses, read_truth, working_doms
from dnn_reco.simulation.calibration.tables import agreement, compare
from dnn_reco.simulation.ice import Ice
from dnn_reco.simulation.propagation import DelayConstants, LightConstants

_PACKAGE = Path(__file__).resolve().parent.parent


def refit(folder: Path) -> None:
    """Fit to the showers in a folder, and write `ice.json` and `light.json` of this package."""
    truth = read_truth(folder)
    rows = shower_rows(truth)
    showers, pulses = truth.iloc[rows], read_pulses(folder, rows)
    ice, constants = fit(shower_pairs(showers, pulses, working_doms(pulses)))
    write(ice, constants, fit_delays(shower_delays(showers, pulses, ice)))


def write(ice: Ice, constants: LightConstants, delays: DelayConstants) -> None:
    """Write `ice.json` and `light.json`: layers from the lowest one up, lengths in m."""
    layers = {
        "bottom": ice.bottom,
        "thickness": ice.thickness,
        "scattering_length": [round(1 / value, 1) for value in ice.scattering.tolist()],
        "absorption_length": [round(1 / value, 1) for value in ice.absorption.tolist()],
    }
    light = {"light": _rounded(asdict(constants)), "delays": _rounded(asdict(delays))}
    for name, content in (("ice.json", layers), ("light.json", light)):
        (_PACKAGE / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _rounded(constants: dict[str, Any]) -> dict[str, Any]:
    """Constants with four digits."""
    return {
        name: _rounded(value) if isinstance(value, dict) else float(f"{value:.4g}")
        for name, value in constants.items()
    }


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--fit", "fit_first", is_flag=True, help="Fit again before comparing (10 minutes).")
@click.option("--events", default=3000, show_default=True, help="Showers and tracks to compare.")
@click.option("--figure", type=click.Path(path_type=Path), help="PNG to write.")
def main(folder: Path, fit_first: bool, events: int, figure: Path | None) -> None:
    """Compare the light with the photon-tracking simulation whose tables lie in FOLDER."""
    if fit_first:
        refit(folder)
    entries = compare(folder, events, events)
    click.echo("| table | entries | median ratio | median deviation | within 30 % |")
    click.echo("| --- | ---: | ---: | ---: | ---: |")
    for row in agreement(entries):
        click.echo(
            f"| {row.table} | {row.entries} | {row.median_ratio:.2f} "
            f"| {row.median_deviation:.0%} | {row.within:.0%} |"
        )
    if figure is not None:
        plot(entries, figure)


if __name__ == "__main__":
    main()
