"""Building the event store in the jobs of a cluster, before a command reads it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from dnn_reco.cluster.farm import on_farm
from dnn_reco.cluster.farm_settings import FarmSettings
from dnn_reco.commands.stop import stop_signals_interrupt
from dnn_reco.config import Config
from dnn_reco.data.store_in_jobs import build_shard, missing_shards
from dnn_reco.errors import DataError
from dnn_reco.event_sources import event_store
from dnn_reco.files import find_files
from dnn_reco.progress import Progress

_log = logging.getLogger(__name__)


def fill_store(
    config: Config, keys: Sequence[str], cache_dir: str | None, farm: FarmSettings
) -> None:
    """Build what the event store lacks of the files of some config keys, in jobs.

    Files that cannot be built are left to the command, which reports why. Ctrl-C cancels the jobs;
    what is built is kept.

    Parameters
    ----------
    config
        What decides about the store.
    keys
        Config keys of the files; those without any file are left to the command, too.
    cache_dir
        Folder of the store; None: that of the config.
    farm
        The jobs.
    """
    config.require("data_handler_num_bins", *keys)
    store = event_store(config, cache_dir)
    sources = _files_of(config, keys)
    if not sources:
        return
    missing = missing_shards(store, sources)
    work = partial(build_shard, missing.settings, missing.names)
    failed = 0
    with (
        stop_signals_interrupt(),
        Progress(len(missing.sources), "Building the event store", "files") as progress,
        closing(on_farm(work, missing.sources, farm, store.folder)) as results,
    ):
        for done in results:
            failed += bool(done.error)
            if done.error:
                _log.debug("'%s' was not built: %s", done.item, done.error)
            progress.update()
    if missing.sources:
        _log.info(
            "Event store '%s': %d file(s) were built in jobs%s.",
            store.folder,
            len(missing.sources) - failed,
            f", {failed} failed and are tried again here" if failed else "",
        )


def _files_of(config: Config, keys: Sequence[str]) -> list[Path]:
    found: dict[Path, None] = {}
    for key in keys:
        try:
            found |= dict.fromkeys(find_files(getattr(config.data_files, key), key))
        except DataError:
            continue  # the command reports it
    return list(found)
