"""Lists of config keys: keys without effect, keys of records, keys that a command requires."""

WITHOUT_EFFECT = (
    "file_capacity",
    "batch_capacity",
    "data_handler_num_splits",
    "data_handler_max_file_chunk_size",
)
BIASED_SELECTION_WITHOUT_EFFECT = ("GPU_device_count",)
ONLY_BIASED_SELECTION = ("num_add_files", "num_repetitions")

# Keys of former generations without any effect.
DEAD_KEYS = frozenset(
    {
        "dom_response_shape",
        "hypothesis_smearing",
        "keep_global_count",
        "trafo_load_model",
        "trafo_save_model",
    }
)
# Keys that a record of a training adds to its config, which are not settings.
RECORD_KEYS = frozenset(
    {
        "command",
        "config_name",
        "dnn_reco_version",
        "git_changed_files",
        "git_origin",
        "git_sha",
        "git_short_sha",
        "git_uncommited_changes",
        "np_float_precision",
        "machine",
        "pip_installed_packages",
        "python_version",
        "tf_float_precision",
    }
)

TRAFO_KEYS = (
    "trafo_data_file",
    "trafo_num_batches",
    "trafo_model_path",
    "data_handler_num_bins",
)
TRAINING_KEYS = (
    "unique_name",
    "training_data_file",
    "validation_data_file",
    "data_handler_num_bins",
    "trafo_model_path",
    "num_training_iterations",
    "log_path",
    "model_class",
    "model_checkpoint_path",
    "model_optimizer_dict",
)
