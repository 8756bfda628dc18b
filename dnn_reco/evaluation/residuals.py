"""How far reconstructions are from the truth, event by event: residuals, pulls, opening angles.

They need labels, uncertainties and truth in physical units alone, so that any reconstruction has
them, whether or not it is a network of this package.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dnn_reco.detector.directions import angles_of
from dnn_reco.evaluation import metrics
from dnn_reco.evaluation.metrics import energy_residual, uncertainty_residual
from dnn_reco.evaluation.reconstruction import Evaluation, Reconstruction, TrueEvents
from dnn_reco.inference.particle import USUAL_LABELS, usual_particle_keys
from dnn_reco.nn.interface import LabelKeys

Values = NDArray[np.float64]


def energy_label(evaluation: Evaluation) -> str | None:
    """The label of the energy, if possible a reconstructed one; None: there is no such label."""
    keys = [each.keys.particle for each in evaluation.reconstructions]
    candidates = [*(key["energy"] for key in keys if "energy" in key), *USUAL_LABELS["energy"]]
    known = [name for name in candidates if name in evaluation.events.labels]
    found = {name for each in evaluation.reconstructions for name in each.table.label_names}
    return next((name for name in known if name in found), next(iter(known), None))


def regression_labels(evaluation: Evaluation) -> tuple[str, ...]:
    """Labels that some reconstruction gives and that are not classes, in their order."""
    names = dict.fromkeys(
        name
        for each in evaluation.reconstructions
        for name in each.table.label_names
        if name not in each.keys.pid and name in evaluation.events.labels
    )
    return tuple(names)


def shown_log(evaluation: Evaluation, label: str) -> bool:
    """Whether a label is shown as its logarithm: the energy, and what is predicted with one."""
    flags = [
        dict(zip(each.table.label_names, each.table.has_log, strict=True))
        for each in evaluation.reconstructions
    ]
    return label == energy_label(evaluation) or any(each.get(label, False) for each in flags)


def opening_angle(reconstruction: Reconstruction, events: TrueEvents) -> Values | None:
    """Opening angle [n] between true and reconstructed direction, in degrees.

    That of the direction vector if it is reconstructed, else of zenith and azimuth; None: the
    reconstruction or the truth has no direction.
    """
    columns = direction_labels(reconstruction, events)
    if columns is None:
        return None
    true, found = _stacked(events, columns), _stacked_found(reconstruction, columns)
    return metrics.opening_angle_degrees(true, found, range(len(columns)))


def direction_labels(reconstruction: Reconstruction, events: TrueEvents) -> tuple[str, ...] | None:
    """Labels of the direction: x, y, z of the vector, else zenith and azimuth; None: no such."""
    names = [name for name in reconstruction.table.label_names if name in events.labels]
    found = [
        tuple(names[column] for column in columns)
        for columns in metrics.direction_columns(names, reconstruction.keys)
    ]
    return found[-1] if found else None


def label_residual(
    reconstruction: Reconstruction, events: TrueEvents, label: str, log: bool
) -> Values | None:
    """Reconstructed minus true value [n] of a label; None: it is not reconstructed.

    Parameters
    ----------
    reconstruction, events
        The reconstruction and the truth.
    label
        Name of the label. Residuals of the azimuth are in -π … π.
    log
        Whether to take log10(reconstructed / true) instead; values below 1 count as 1.
    """
    if label not in reconstruction.table.label_names or label not in events.labels:
        return None
    found, true = reconstruction.table[label], events.labels[label]
    if log:
        return energy_residual(found, true)
    return uncertainty_residual(found, true, False, label == reconstruction.keys.azimuth)


def label_pull(reconstruction: Reconstruction, events: TrueEvents, label: str) -> Values | None:
    """Residual over uncertainty [n] of a label, in the space of the uncertainty.

    That is ln(1 + x) for labels that are predicted with logarithm. NaN where the reconstruction
    gives no uncertainty; None: it does not reconstruct the label.
    """
    table = reconstruction.table
    if label not in table.label_names or label not in events.labels:
        return None
    column = table.label_names.index(label)
    is_azimuth = label == reconstruction.keys.azimuth
    residual = uncertainty_residual(
        table.labels[:, column], events.labels[label], table.has_log[column], is_azimuth
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(residual / table.uncertainty[:, column])


def true_zenith(evaluation: Evaluation) -> Values | None:
    """True zenith angle [n] of where the particle comes from [rad]; None: it is not known."""
    labels = evaluation.events.labels
    for keys in (each.keys for each in evaluation.reconstructions):
        if keys.zenith is not None and keys.zenith in labels:
            return labels[keys.zenith]
        vector = (keys.dir_x, keys.dir_y, keys.dir_z)
        if all(name in labels for name in vector):
            vectors = np.stack([labels[name] for name in vector if name is not None], axis=1)
            return angles_of(vectors)[0]
    return labels.get(usual_particle_keys(labels).get("zenith", ""))


def true_vertex(evaluation: Evaluation) -> Values | None:
    """True vertex [n, 3] in m; None: it is not known."""
    labels = evaluation.events.labels
    keys = [each.keys.particle for each in evaluation.reconstructions]
    for of_position in (*keys, usual_particle_keys(labels)):
        names = [of_position.get(f"pos_{axis}", "") for axis in "xyz"]
        if all(name in labels for name in names):
            return np.stack([labels[name] for name in names], axis=1)
    return None


def label_keys(evaluation: Evaluation, label: str) -> LabelKeys:
    """Keys of the first reconstruction that gives a label."""
    return next(
        (each.keys for each in evaluation.reconstructions if label in each.table.label_names),
        LabelKeys(),
    )


def _stacked(events: TrueEvents, names: tuple[str, ...]) -> Values:
    return np.stack([events.labels[name] for name in names], axis=1)


def _stacked_found(reconstruction: Reconstruction, names: tuple[str, ...]) -> Values:
    columns = [reconstruction.table.label_names.index(name) for name in names]
    return reconstruction.table.labels[:, columns]
