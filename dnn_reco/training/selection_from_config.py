"""From `nn_biased_selection` to the object that chooses training events."""

from __future__ import annotations

import logging

from dnn_reco.config import BiasedSelectionSettings, Config
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.from_config import label_weight
from dnn_reco.data.selection import CRITERIA, SelectionCriterion, pool_size
from dnn_reco.errors import ConfigError
from dnn_reco.nn.interface import Network, NetworkSpec
from dnn_reco.nn.label_transform import LabelTransform
from dnn_reco.nn.misc_data import MiscTransform
from dnn_reco.suggestions import nearest
from dnn_reco.training.biased_selection import BiasedSelection, SelectionSettings, Snapshot

_log = logging.getLogger(__name__)

_KEY = "nn_biased_selection"
_SWITCH_OFF = f"set {_KEY}.apply_biased_selection: False to train without it"


def selection_criteria(config: Config, spec: NetworkSpec) -> tuple[SelectionCriterion, ...]:
    """What makes an event interesting; () where the config does not ask for biased selection.

    Raises
    ------
    ConfigError
        If there is nothing that could mark an event, or a mark cannot do so sensibly.
    """
    settings = _settings(config)
    if settings is None:
        return ()
    criteria = []
    for key in CRITERIA:
        for name, value in getattr(settings, key).items():
            if name not in spec.label_names:
                raise ConfigError(
                    f"{_KEY}.{key}: the data have no label '{name}'; the nearest is "
                    f"'{nearest(name, list(spec.label_names))}'. Available: "
                    f"{', '.join(spec.label_names)}"
                )
            criterion = SelectionCriterion(key, spec.label_names.index(name), value)
            _check_criterion(config, criterion, name)
            criteria.append(criterion)
    if not criteria:
        raise ConfigError(
            f"{_KEY} does not define which events are interesting: give at least one of "
            f"{', '.join(CRITERIA)} (such as label_greater: {{{spec.label_names[0]}: 1.0}}), or "
            f"{_SWITCH_OFF}"
        )
    return tuple(criteria)


def _settings(config: Config) -> BiasedSelectionSettings | None:
    """The settings of biased selection, if it is on."""
    settings = config.biased_selection.nn_biased_selection
    return settings if settings is not None and settings.apply_biased_selection else None


def _check_criterion(config: Config, criterion: SelectionCriterion, name: str) -> None:
    if criterion.needs_prediction and label_weight(config, name) == 0:
        raise ConfigError(
            f"{_KEY}.{criterion.key} compares with predictions of '{name}', but this label has the "
            "weight 0, so the network does not learn it. Give it a weight in label_weight_dict, or "
            "mark events by a label that is trained, or by label_greater, label_less …, which need "
            "no prediction"
        )
    smoothing = config.labels.label_pid_smooth_labels
    if (
        smoothing
        and name in config.labels.label_pid_keys
        and criterion.key in ("label_equal", "label_unequal")
    ):
        raise ConfigError(
            f"{_KEY}.{criterion.key}: '{name}' is smoothed (label_pid_smooth_labels: "
            f"{smoothing:g}), so that 0 becomes {smoothing / 2:g} and 1 becomes "
            f"{1 - smoothing / 2:g}: use label_greater: {{{name}: 0.5}} for "
            "those that are true, label_less for the others"
        )


def make_selection(
    config: Config,
    criteria: tuple[SelectionCriterion, ...],
    network: Network,
    label_transform: LabelTransform,
    spec: NetworkSpec,
    events: EventDataset,
) -> BiasedSelection | None:
    """The selection of events to train on; None where the config does not ask for it.

    Parameters
    ----------
    criteria
        From :func:`selection_criteria`.
    network, label_transform
        The network in training and its labels' transformation, on their device.
    spec
        The network's labels.
    events
        The training events.
    """
    wanted = _settings(config)
    if wanted is None:
        return None
    general = config.general
    order = events.order(config.seed, "biased selection", general.shuffle_window_files)
    num_files = 1 + (general.num_add_files or 0)
    settings = SelectionSettings(
        criteria=criteria,
        fraction=wanted.biased_fraction,
        max_imbalance=wanted.max_imbalance,
        pool_size=pool_size(order.events_per_visit, num_files),
        num_repetitions=general.num_repetitions or 1,
        reload_frequency=wanted.reload_frequency,
        prediction_batch_size=wanted.max_size,
    )
    snapshot = None
    if settings.needs_predictions:
        period = label_transform.azimuth_period(spec.label_names, spec.label_keys.azimuth)
        misc_transform = MiscTransform(spec.transformation).to(period.device)
        threads = wanted.tf_parallelism_threads
        snapshot = Snapshot(network, label_transform, period, misc_transform, threads)
    _announce(settings, general.batch_size)
    return BiasedSelection(settings, events, order, general.batch_size, snapshot)


def _announce(settings: SelectionSettings, batch_size: int) -> None:
    _log.info(
        "Biased selection: at least %.0f%% interesting events, from pools of %d events that are "
        "used %d times each.",
        100 * settings.fraction,
        settings.pool_size,
        settings.num_repetitions,
    )
    if not settings.needs_predictions:
        return
    if settings.reload_frequency is None:
        _log.warning(
            "%s.reload_frequency is empty: events are selected throughout the training with the "
            "weights that the network has when the selection begins.",
            _KEY,
        )
    else:
        used = settings.pool_size * settings.num_repetitions / batch_size
        _log.info(
            "The network that selects events is updated with the current weights every %d pools, "
            "at most every %d iterations.",
            settings.reload_frequency,
            round(settings.reload_frequency * used),
        )
