"""Options that several commands share."""

import click

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

config_files_argument = click.argument(
    "config_files", nargs=-1, required=True, metavar="CONFIG...", type=click.Path()
)
log_level_option = click.option(
    "--log_level",
    "--log-level",
    default="INFO",
    show_default=True,
    type=click.Choice(LOG_LEVELS, case_sensitive=False),
    help="How much is told besides results.",
)
num_threads_option = click.option(
    "--num_threads",
    "--num-threads",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="CPU threads and processes to use at most; 0: all that the machine, the container or the "
    "slot of the batch system grants.",
)
cache_dir_option = click.option(
    "--cache_dir",
    "--cache-dir",
    type=click.Path(file_okay=False),
    help="Folder of the event store [key data_cache_dir, else event_store beside the folder of "
    "trafo_model_path]. It may be deleted at any time.",
)
device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="Where to compute: cpu, cuda, cuda:1, …; auto takes a GPU if there is one.",
)
checkpoint_exit_code_option = click.option(
    "--checkpoint_exit_code",
    "--checkpoint-exit-code",
    type=click.IntRange(0, 255),
    help="Exit code after SIGTERM, once all is saved (HTCondor: 85) [143].",
)
