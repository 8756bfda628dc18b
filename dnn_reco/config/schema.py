"""Every key of the config, in the newer spelling: its type, default, meaning and unit.

The keys are in groups, each a frozen class; the name of an attribute is the key in the YAML file.
A key without a sensible default may be missing from the files, since each command needs only some:
reading such an attribute raises a `ConfigError` that names the key and shows how to set it.
"""

from typing import Annotated

from pydantic import Field
from pydantic.fields import FieldInfo

from dnn_reco.config.i3_data import I3DataSettings
from dnn_reco.config.keys import SettingsGroup, key, needed, of_module
from dnn_reco.config.value_types import (
    Allowed,
    AutoFlag,
    BatchSize,
    ColumnsByTable,
    CutsByName,
    DomLogBins,
    DottedName,
    DottedNames,
    Flag,
    Fraction,
    FreeSettings,
    LogBins,
    NameByName,
    Names,
    NetworkPrecision,
    NotEmptyNames,
    NotNegativeNumber,
    Number,
    NumberByName,
    Numbers,
    NumBins,
    OpenFraction,
    OptimizerArguments,
    PartOptimizerArguments,
    PositiveNumber,
    PositiveWholeNumber,
    Precision,
    ScoresByTable,
    Seed,
    Settings,
    Smoothing,
    Stages,
    Text,
    ValueByName,
    Verification,
    WeightByName,
    WholeNumber,
    WholeNumbers,
)

_MODULES = "dnn_reco.modules"


class GeneralGroup(SettingsGroup):
    """Name of the run, input pipeline, random seed, and log folder."""

    title = "General"
    unique_name: Text = needed("Name of the model; often part of its paths.", "my_first_model")
    float_precision: Precision = key("float32", "Precision of the network's numbers.")
    num_jobs: PositiveWholeNumber = key(1, "Number of processes that read data files.")
    batch_size: BatchSize = key(32, "Number of events in a batch.")
    log_path: Text = needed(
        "Folder of the TensorBoard logs (`train`, `val` and `validation_set` below it).",
        "../logs/{unique_name}",
    )
    seed: Seed | None = key(
        None, "Seed of all random numbers; empty: `model_kwargs.random_seed`, else 42."
    )
    data_cache_dir: Text | None = key(
        None,
        "Folder of the event store; empty: `event_store` next to the folder of `trafo_model_path`.",
    )
    shuffle_window_files: WholeNumber = key(
        0, "Shuffle events within windows of this number of files; 0: over all files."
    )
    file_capacity: PositiveWholeNumber | None = key(
        None, "Formerly the length of a queue of files; without effect."
    )
    batch_capacity: PositiveWholeNumber | None = key(
        None, "Formerly the length of a queue of batches; without effect."
    )
    num_add_files: WholeNumber | None = key(
        None, "Biased selection chooses from pools of 1 + this number of files; empty: 0."
    )
    num_repetitions: PositiveWholeNumber | None = key(
        None, "How often each event selected from such a pool is used; empty: once."
    )


class DataFilesGroup(SettingsGroup):
    """Glob patterns of the input files; a list may be empty if no command reads it."""

    title = "Data files"
    training_data_file: Names = needed(
        "Glob patterns of the files to train on.", "['/data/training/*.hdf5']"
    )
    validation_data_file: Names = needed(
        "Glob patterns of the files to validate on.", "['/data/validation/*.hdf5']"
    )
    test_data_file: Names = needed("Glob patterns of the test files.", "['/data/test/*.hdf5']")
    trafo_data_file: Names = needed(
        "Glob patterns of the files to fit the transformation model to.",
        "['/data/training/*.hdf5']",
    )


class DataHandlerGroup(SettingsGroup):
    """Tables of the input files and the functions that load labels, misc data and filters."""

    title = "Data handler"
    data_handler_bin_values_name: Text = key(
        "dnn_data_bin_values", "Table of the bin values of the DOMs."
    )
    data_handler_bin_indices_name: Text = key(
        "dnn_data_bin_indices", "Table of the bin numbers of the DOMs."
    )
    data_handler_time_offset_name: Text = key(
        "dnn_data_global_time_offset", "Table of the time offset [ns]; it defines the events."
    )
    data_handler_num_bins: NumBins = needed("Number of input features (bins) of a DOM.", "9")
    data_handler_data_format: Text | None = key(
        None,
        "Format of the input features, from which networks know what each is; empty: from their "
        "number. Needed for `pulse_summary_and_first_pulses_N`.",
    )
    DOM_init_values: Numbers = key(
        (0.0,), "Value of a bin that is not listed in the file: one number, or one per bin."
    )
    data_handler_verify: Verification = key(
        "samples",
        "How much of the table of bin numbers is compared with that of the values where each DOM "
        "lists all bins: samples of it, or all rows, which takes twice as long.",
    )
    data_handler_nan_fill_value: Number | None = key(
        None, "Replaces non-finite labels and misc data; empty: drop the event."
    )
    data_handler_label_class: DottedName = key(
        f"{_MODULES}.data.labels.default_labels.simple_label_loader", "Function that loads labels."
    )
    data_handler_misc_class: DottedName = key(
        f"{_MODULES}.data.misc.default_misc.general_misc_loader", "Function that loads misc data."
    )
    data_handler_filter_class: DottedName = key(
        f"{_MODULES}.data.filter.default_filter.general_filter", "Function that selects events."
    )
    data_handler_label_key: Text | None = key(None, "Table of the labels.")
    i3_data: I3DataSettings | None = key(
        None, "How the data files that hold frames (.i3) are made into event files."
    )
    data_handler_relative_time_keys: Names = key(
        (), "Labels and misc data [ns] that are made relative to the event's time offset."
    )
    data_handler_relative_time_key_pattern: Text | None = key(
        "time", "The same for all with this text in their lower-case name; empty: none."
    )
    data_handler_num_splits: PositiveWholeNumber | None = key(
        None, "Formerly the number of parts of a file in a queue; without effect."
    )
    data_handler_max_events_per_file: PositiveWholeNumber | None = key(
        None,
        "Events of a file that an epoch uses at most, other random ones in each; empty: all. It "
        "balances files of very different size.",
    )
    data_handler_max_file_chunk_size: PositiveWholeNumber | None = key(
        None, "Formerly the number of events put into a queue together; without effect."
    )


class MiscGroup(SettingsGroup):
    """Further values of each event, for filters and event weights."""

    title = "Misc data"
    misc_load_dict: ColumnsByTable = key(
        {}, "Columns to load from each table; their names become `<table>_<column>`."
    )
    misc_fill_values: NumberByName = key(
        {}, "Values for `<table>_<column>` where a file does not have it."
    )


class FilterGroup(SettingsGroup):
    """Selection of events by their misc data; an event must pass all cuts."""

    title = "Filter"
    filter_equal: ValueByName = key({}, "Keep events whose misc value equals this.")
    filter_greater_than: NumberByName = key({}, "Keep events whose misc value is greater.")
    filter_less_than: NumberByName = key({}, "Keep events whose misc value is less.")
    filter_apply_on_pdg_encodings: WholeNumbers | None = key(
        None, "Filter only events of these primary particles (PDG codes); others pass."
    )


class LabelsGroup(SettingsGroup):
    """Which labels are trained and how they are prepared."""

    title = "Labels"
    label_weight_initialization: NotNegativeNumber = key(
        0.0, "Weight in the loss of labels that `label_weight_dict` does not name; 0: not trained."
    )
    label_weight_dict: WeightByName = key({}, "Weight in the loss of single labels.")
    label_particle_keys: NameByName = key(
        {}, "Labels of the output particle; track losses take pos_x, pos_y, pos_z and time."
    )
    label_update_weights: Flag = key(
        True, "Adapt the label weights during training to the residuals of each label."
    )
    label_scale_tukey: Flag = key(False, "Update the scale of Tukey and Huber losses.")
    label_zenith_key: Text | None = key(None, "Label that holds the zenith [rad].")
    label_azimuth_key: Text | None = key(None, "Label that holds the azimuth [rad].")
    label_dir_x_key: Text | None = key(None, "Label that holds x of the direction vector.")
    label_dir_y_key: Text | None = key(None, "Label that holds y of the direction vector.")
    label_dir_z_key: Text | None = key(None, "Label that holds z of the direction vector.")
    label_add_dir_vec: Flag = key(
        False, "Add labels direction_x, _y, _z, computed from zenith and azimuth."
    )
    label_position_at_rel_time: Number | None = key(
        None, "Add labels rel_pos_x, _y, _z: position at this time [ns] after the time offset."
    )
    label_pid_keys: Names = key((), "Labels that are probabilities, for classification.")
    label_pid_smooth_labels: Smoothing | None = key(
        None, "Smoothing s of those labels y: y (1 - s) + s / 2."
    )
    label_nan_fill_value: NumberByName | None = key(
        None, "Replaces non-finite values of single labels."
    )
    label_keys_to_load: Names | None = of_module(
        "Columns of the label table to use, in this order; empty: all."
    )
    labels_muon_scattering_defs: CutsByName | None = of_module(
        "Labels of the muon-scattering loader: 1 where all named labels pass their cuts."
    )
    labels_starting_cascades_lengths: Numbers | None = of_module(
        "Longest lengths [m] for the labels of starting cascades."
    )
    labels_starting_cascades_distances: Numbers | None = of_module(
        "Distances [m] to the detector's hull for the labels of starting cascades."
    )
    labels_biased_selection_filter_keys: Names | None = of_module(
        "Filters that become labels of the biased MuonGun loader."
    )
    labels_biased_selection_dnn_label_names: ScoresByTable | None = of_module(
        "Stored predictions, and cuts on them, that become labels of that loader."
    )


class EventWeightsGroup(SettingsGroup):
    """Weight of each event in the loss."""

    title = "Event weights"
    event_weight_class: DottedName | None = key(
        None, "Function that returns the weight of each event; empty: equal weights."
    )
    event_weights_corsika_keys: Names | None = of_module("Misc weights of CORSIKA to sum.")
    event_weights_muongun_keys: Names | None = of_module("Misc weights of MuonGun to sum.")
    event_weights_nugen_keys: Names | None = of_module("Misc weights of NuGen to sum.")
    event_weights_num_corsika_files: PositiveNumber | None = of_module("Number of CORSIKA files.")
    event_weights_num_muongun_files: PositiveNumber | None = of_module("Number of MuonGun files.")
    event_weights_num_nugen_files: PositiveNumber | None = of_module("Number of NuGen files.")
    event_weights_nugen_astro_weight: Text | None = of_module("Misc weight, astrophysical flux.")
    event_weights_nugen_conv_weight: Text | None = of_module("Misc weight, conventional flux.")
    nersc_gnn_weight_num_nugen_files: PositiveNumber | None = of_module("Number of NuGen files.")
    nersc_gnn_weight_num_corsika_files: PositiveNumber | None = of_module(
        "Number of CORSIKA files."
    )


class BiasedSelectionSettings(Settings):
    """Which events are interesting, and how many of them to train on."""

    apply_biased_selection: Flag = key(True, "Enables the selection.")
    biased_fraction: Fraction = key(
        0.1, "Target fraction of interesting events in the sample; larger if more are available."
    )
    reload_frequency: PositiveWholeNumber | None = key(
        100,
        "Number of pools between updates of the predicting network's weights; empty: no updates.",
    )
    max_size: PositiveWholeNumber = key(32, "Batch size of its predictions.")
    max_imbalance: WholeNumber = key(
        100, "Maximum number of random events beyond that fraction, one per pool."
    )
    label_greater: NumberByName = key({}, "Interesting if the label is greater.")
    label_less: NumberByName = key({}, "Interesting if the label is less.")
    label_equal: NumberByName = key({}, "Interesting if the label is equal.")
    label_unequal: NumberByName = key({}, "Interesting if the label is not equal.")
    true_minus_pred_greater: NumberByName = key({}, "… if true - predicted is greater.")
    true_minus_pred_less: NumberByName = key({}, "… if true - predicted is less.")
    true_minus_pred_trafo_greater: NumberByName = key({}, "The same, transformed: greater.")
    true_minus_pred_trafo_less: NumberByName = key({}, "The same, transformed: less.")
    cut_abs_diff: NumberByName = key({}, "… if |true - predicted| is at least this.")
    cut_abs_diff_trafo: NumberByName = key({}, "The same, transformed.")
    cut_unc_weighted_diff_trafo: NumberByName = key(
        {}, "The same, transformed and divided by the predicted uncertainty."
    )
    GPU_device_count: WholeNumber | None = key(
        None, "Formerly the number of GPUs for it; without effect."
    )
    tf_parallelism_threads: WholeNumber | None = key(
        None, "Maximum number of CPU threads of its predictions; empty or 0: those of the training."
    )


class BiasedSelectionGroup(SettingsGroup):
    """Training on a sample enriched in interesting events."""

    title = "Biased selection"
    nn_biased_selection: BiasedSelectionSettings | None = key(
        None, "Which events are interesting, and their fraction; empty: no selection."
    )


class TrainingGroup(SettingsGroup):
    """Length of the training, validation, early stopping, and precision."""

    title = "Training"
    num_training_iterations: PositiveWholeNumber = needed(
        "Total number of training iterations (batches).", "1000000"
    )
    training_stages: Stages = key(
        (), "Parts of the training: the iterations of each, and the keys that change in it."
    )
    validation_frequency: PositiveWholeNumber = key(100, "Iterations between validations.")
    save_frequency: PositiveWholeNumber = key(500, "Iterations between checkpoints.")
    evaluation_class: DottedName | None = key(
        None, "Function called at each validation; empty: none."
    )
    validation_events: WholeNumber = key(
        1000, "Maximum number of events of the (fixed) validation set; 0: no set."
    )
    validation_set_frequency: PositiveWholeNumber | None = key(
        None, "Iterations between evaluations of the validation set; empty: `save_frequency`."
    )
    early_stopping_patience: PositiveWholeNumber | None = key(
        None,
        "Early stopping after this number of evaluations of that set without a smaller loss; "
        "empty: no early stopping.",
    )
    log_untrained_labels: Flag = key(False, "Also print and log the RMSE of labels of weight 0.")
    ema_decay: OpenFraction | None = key(
        None,
        "Decay d of an exponential moving average of the weights, for validation and prediction, "
        "over about 1 / (1 - d) iterations; empty: none.",
    )
    precision: NetworkPrecision = key(
        "tf32",
        "Precision of matrix products and convolutions in training: `float32`; `tf32`, which is "
        "float32 except on GPUs (11 bits of mantissa); `bf16`, autocast to bfloat16 on all "
        "devices.",
    )
    compile: AutoFlag = key(
        False,
        "Whether the network is compiled with `torch.compile` for training, which takes a minute "
        "at the start; `auto`: on GPUs.",
    )
    data_on_device: AutoFlag = key(
        "auto",
        "Whether all training events are kept in the memory of the device; `auto`: on a GPU, if "
        "they take less than a quarter of its free memory.",
    )


class TrafoGroup(SettingsGroup):
    """The data transformation model."""

    title = "Transformation model"
    trafo_num_jobs: PositiveWholeNumber = key(1, "Number of processes that read its files.")
    trafo_num_batches: PositiveWholeNumber = needed(
        "Number of batches of `batch_size` events to fit it to.", "100"
    )
    trafo_model_path: Text = needed(
        "File of the transformation model.", "'../data/trafo_models/my_trafo_model.npy'"
    )
    trafo_normalize_dom_data: Flag = key(
        True, "Normalise inputs to mean 0 and standard deviation 1."
    )
    trafo_normalize_label_data: Flag = key(
        True, "Normalise labels to mean 0 and standard deviation 1."
    )
    trafo_normalize_misc_data: Flag = key(
        False, "Normalise misc data to mean 0 and standard deviation 1."
    )
    trafo_log_dom_bins: DomLogBins = key(False, "Take ln(1 + x) of inputs, before normalisation.")
    trafo_log_label_bins: LogBins = key(False, "Take ln(1 + x) of labels.")
    trafo_log_misc_bins: LogBins = key(False, "Take ln(1 + x) of misc data.")
    trafo_treat_doms_equally: Flag = key(
        True, "One mean and standard deviation for all DOMs of an array."
    )
    trafo_norm_constant: NotNegativeNumber = key(
        1e-6, "Constant added to the standard deviation before dividing by it."
    )


class CheckpointManagerSettings(Settings):
    """Which checkpoints are kept."""

    max_to_keep: PositiveWholeNumber | None = key(3, "Number of checkpoints; empty: keep all.")


class PartOptimizerSettings(Settings):
    """An optimizer of some of the variables of an entry of `model_optimizer_dict`."""

    vars: NotEmptyNames = Field(
        description="What it trains: names as in `vars` of the entry, or patterns of parameter "
        "names such as `trunk.*`."
    )
    matrices_only: Flag = key(
        False, "Of these only parameters with two dimensions: no biases, no convolutions."
    )
    optimizer: Text = key("Adam", "Name of the optimizer in Keras or PyTorch (AdamW, Muon …).")
    optimizer_settings: PartOptimizerArguments = key(
        {}, "Its arguments; `learning_rate` is a number or a schedule of its own."
    )


PartOptimizers = Annotated[
    dict[str, PartOptimizerSettings],
    Allowed("a mapping of names to the vars and settings of optimizers"),
]


class OptimizerSettings(Settings):
    """A loss, its optimizer, and the variables that it trains."""

    optimizer: Text = key(
        "Adam", "Name of the optimizer in Keras or PyTorch (Adam, AdamW, SGD, RMSprop …)."
    )
    optimizer_settings: OptimizerArguments = key(
        {}, "Its arguments in Keras or PyTorch; `learning_rate` is a number or a schedule."
    )
    accumulate_steps: PositiveWholeNumber = key(
        1, "Gradient accumulation: iterations per step of this optimizer, with their mean gradient."
    )
    vars: NotEmptyNames = key(
        ("pred", "unc"),
        "Parts of the network: `pred`, `unc`, or patterns of parameter names such as `trunk.*`.",
    )
    learning_rate_factors: WeightByName = key(
        {},
        "Factors of the learning rate by part of the network: a name as in `vars`, or a pattern of "
        "parameter names such as `embedding.*`; 0 freezes it. The last that fits counts.",
    )
    other_optimizers: PartOptimizers = key(
        {},
        "Optimizers of some of the variables, by a name of your choice; `optimizer` trains the "
        "rest. All of them take their steps on the same gradient of the loss.",
    )
    loss_class: DottedNames = Field(description="Loss function, or a list of losses to sum.")
    l1_regularization: NotNegativeNumber = key(0.0, "Strength of Σ|v| over the variables v.")
    l2_regularization: NotNegativeNumber = key(0.0, "Strength of Σv² over the variables v.")
    clip_gradients_value: PositiveNumber | None = key(
        None, "Maximum global norm of the gradients; empty: no clipping."
    )
    remove_nan_gradients: Flag = key(False, "Set non-finite gradient entries to 0, and count them.")


Optimizers = Annotated[
    dict[str, OptimizerSettings],
    Field(min_length=1),
    Allowed("a mapping of at least one name to the settings of an optimizer"),
]


class ModelGroup(SettingsGroup):
    """The network, its checkpoints and its optimizers."""

    title = "Model"
    model_class: DottedName = needed(
        "Class or function that creates the network.",
        f"{_MODULES}.models.general_IC86_cnn.GeneralIC86CNN",
    )
    model_kwargs: FreeSettings = key({}, "Its arguments.")
    model_initial_weights: Text | None = key(
        None,
        "Model whose weights and transformation a new training begins with: a model folder, or "
        "`pretrained:NAME` for a model of the package; empty: random weights.",
    )
    model_checkpoint_path: Text = needed(
        "Folder of the checkpoints.", '"../checkpoints/{unique_name}/model"'
    )
    model_checkpoint_manager_kwargs: CheckpointManagerSettings = key(
        CheckpointManagerSettings(), "Which checkpoints are kept."
    )
    model_restore_model: Flag = key(
        True, "Resume from the latest checkpoint; false: start again, and rename existing folders."
    )
    model_save_model: Flag = key(
        True, "Save checkpoints. If not, the TensorBoard logs are in `<log_path>/unsaved`."
    )
    model_optimizer_dict: Optimizers = needed(
        "Optimizers by a name of your choice; all of them run in each step.",
        "{Adam: {loss_class: dnn_reco.modules.loss.default_loss.gaussian_likelihood}}",
    )


GROUPS: dict[str, type[SettingsGroup]] = {
    "general": GeneralGroup,
    "data_files": DataFilesGroup,
    "data_handler": DataHandlerGroup,
    "misc": MiscGroup,
    "filter": FilterGroup,
    "labels": LabelsGroup,
    "event_weights": EventWeightsGroup,
    "biased_selection": BiasedSelectionGroup,
    "training": TrainingGroup,
    "trafo": TrafoGroup,
    "model": ModelGroup,
}

FIELDS: dict[str, FieldInfo] = {
    key: field for group in GROUPS.values() for key, field in group.model_fields.items()
}
