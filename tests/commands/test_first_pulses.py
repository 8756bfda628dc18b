"""From frames with pulses to predictions of a network that reads the first pulses of each DOM."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from i3_files import PULSES
from small_run import ON_CPU, SmallRun, make_small_run
from workspace import invoke

from dnn_reco import Reconstructor
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train
from dnn_reco.data.hdf5 import InputTables, read_events, read_record
from dnn_reco.data.pulses import Pulses
from dnn_reco.detector.geometry import dom_index
from dnn_reco.errors import ConfigError
from dnn_reco.i3.reader import read_i3

FORMAT = "pulse_summary_and_first_pulses_4"
OPTIONS = replace(ON_CPU, allow_overlap=True)
VECTOR = [f"PrimaryDirection{axis}" for axis in "XYZ"]
CHANGES = {
    "label_keys_to_load": VECTOR,
    "label_weight_dict": dict.fromkeys(VECTOR, 1.0),
    "trafo_log_label_bins": False,
    "data_handler_num_bins": 17,
    "trafo_log_dom_bins": False,
    "trafo_num_batches": 2,
    "num_training_iterations": 2,
    "validation_frequency": 1,
    "save_frequency": 2,
    "model_class": "dnn_reco.modules.models.dom_transformer.DomTransformer",
    "model_kwargs": {
        "width": 16,
        "num_layers": 1,
        "augmentation": {"noise_hits": 2.0, "jitter_times": 5.0},
    },
    "model_optimizer_dict": {
        "likelihood": {
            "optimizer": "Adam",
            "optimizer_settings": {"learning_rate": 0.001},
            "loss_class": "dnn_reco.modules.loss.density_loss.negative_log_likelihood",
        }
    },
}


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with frames of simulated events."""
    folder = tmp_path_factory.mktemp("frames")
    options = ("--events", "25", "--seed", "3", "--format", "i3", "-j", "1", "--out", folder)
    assert invoke("simulate", *options).exit_code == 0
    (file,) = folder.glob("*.i3.zst")
    return file


@pytest.fixture(scope="module")
def event_file(frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The event file that create-data makes of it."""
    out = tmp_path_factory.mktemp("event_file")
    options = ("--pulses", PULSES, "--format", FORMAT, "--out", out, "-j", "1")
    result = invoke("create-data", "--input", frames, *options)
    assert result.exit_code == 0, result.err
    (file,) = out.glob("*.hdf5")
    return file


def run_on(folder: Path, file: Path, **changes: object) -> SmallRun:
    lists = ("training_data_file", "trafo_data_file", "validation_data_file", "test_data_file")
    return make_small_run(folder, 1, **{key: [str(file)] for key in lists}, **CHANGES, **changes)


def rows_of(frames: Path) -> list[np.ndarray]:
    """One row for each pulse of each event."""
    return [frame[PULSES].to_numpy() for frame in read_i3(frames) if frame.stop == "P"]


def in_memory(frames: Path) -> Pulses:
    rows = rows_of(frames)
    all_rows = np.concatenate(rows)
    return Pulses(
        len(rows),
        np.repeat(np.arange(len(rows)), [len(each) for each in rows]),
        dom_index(all_rows["string"], all_rows["om"]),
        all_rows["time"].astype(float),
        all_rows["charge"].astype(float),
        all_rows["flags"].astype(np.uint8),
    )


def test_features_of_a_file_are_those_of_its_frames(frames: Path, event_file: Path) -> None:
    """The first pulses, DOM by DOM."""
    record = read_record(event_file)
    assert record is not None
    assert (record.data_format, record.num_bins) == (FORMAT, 17)
    events = read_events(event_file, InputTables(), 17, dtype=np.float64)
    rows = rows_of(frames)
    assert len(rows) == len(events.ids) == 25
    num_pulses = []
    for dom, event, features in zip(
        events.hits.dom, events.hits.event, events.hits.features, strict=True
    ):
        string, om = int(dom) // 60 + 1, int(dom) % 60 + 1
        pulses = [
            (float(row["time"]) - events.time_offset[event], float(row["charge"]))
            for row in rows[event]
            if (row["string"], row["om"]) == (string, om)
        ]
        kept = [(time, charge) for time, charge in sorted(pulses) if -5000 <= time <= 14000]
        num_pulses.append(len(kept))
        listed = [*kept[:4], *[(kept[0][0], 0.0)] * (4 - len(kept))]
        assert features[9:].tolist() == [*(t for t, _ in listed), *(q for _, q in listed)]
    assert min(num_pulses) == 1 and max(num_pulses) > 4


def test_predictions_of_files_and_pulses_agree(
    frames: Path, event_file: Path, tmp_path: Path
) -> None:
    run = run_on(tmp_path, event_file, data_handler_data_format=FORMAT)
    run_trafo(run.config(), OPTIONS, overwrite=False)
    assert run_train(run.config(), OPTIONS) == 0
    out = tmp_path / "exported"
    result = invoke("export", run.config_file, "--output", out, "--golden-events", "4")
    assert result.exit_code == 0, result.err
    model = Reconstructor(out)
    assert model.data_settings is not None and model.data_settings.data_format == FORMAT
    of_file = model.predict(event_file)
    for others in (model.predict(frames), model.predict(in_memory(frames))):
        for name in VECTOR:
            np.testing.assert_allclose(others[name], of_file[name], rtol=1e-6)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (None, f"have the format '{FORMAT}', but data_handler_data_format is empty: set it"),
        ("pulse_summary_and_first_pulses_3", "data_handler_data_format is 'pulse_summary_and_f"),
        ("pulse_summary_and_first_pulses", "unknown data format 'pulse_summary_and_first_pulses'"),
    ],
)
def test_a_training_that_does_not_know_the_format(
    event_file: Path, tmp_path: Path, named: str | None, message: str
) -> None:
    """Otherwise all features would be charges."""
    no_augmentation = {"width": 16, "num_layers": 1}
    run = run_on(tmp_path, event_file)
    run_trafo(run.config(), OPTIONS, overwrite=False)
    config = run.config(model_kwargs=no_augmentation, data_handler_data_format=named)
    with pytest.raises(ConfigError, match=message):
        run_train(config, OPTIONS)
