"""`apply` on files with frames: all frames are written back, P frames with predictions."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from applied_models import contents, model_of_run, rows
from i3_files import PULSES, events, frame, header, om_keys, pulse_map, write
from small_run import SmallRun
from workspace import Result, invoke

from dnn_reco import Reconstructor, open_events
from dnn_reco.data.data_settings import DataSettings
from dnn_reco.errors import DataError
from dnn_reco.i3.frame import Frame
from dnn_reco.i3.reader import read_i3

SETTINGS = DataSettings(
    num_bins=3,
    relative_time_method="time_range",
    data_format="charge_bins",
    time_bins=(0.0, 500.0, 1000.0, 1500.0),
    pulse_key=PULSES,
    dom_exclusions=("BadDomsList",),
    partial_exclusion=True,
)
NAME = "DeepLearningReco_model"
PARTICLE = f"{NAME}_I3Particle"


@pytest.fixture(scope="module")
def model(trained_run: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    particle = {"energy": "EnergyVisible"}
    return model_of_run(
        trained_run, folder / "model", data_settings=SETTINGS, label_particle_keys=particle
    )


@pytest.fixture(scope="module")
def unknown(trained_run: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that does not record its pulses."""
    settings = DataSettings(3, "time_range", "charge_bins", (0.0, 500.0, 1000.0, 1500.0))
    folder = tmp_path_factory.mktemp("models")
    return model_of_run(trained_run, folder / "model", data_settings=settings)


def apply(model: Path, source: Path | str, output: Path, *arguments: str | Path) -> Result:
    line = ["--input", source, "--output", output, "--jobs", "1", "--device", "cpu"]
    return invoke("apply", model, *line, "--num_threads", "1", *arguments)


def done(result: Result) -> Result:
    assert result.exit_code == 0, result.err
    return result


def event_file(source: Path, folder: Path) -> Path:
    """The event file that create-data makes of a file with frames."""
    made = ["--input", source, "--pulses", PULSES, "--format", "charge_bins", "--exclude"]
    made += ["BadDomsList", "--time-bins", "0,500,1000,1500", "--out", folder]
    done(invoke("create-data", *made))
    return folder / f"{source.stem}.hdf5"


def p_frames(path: Path) -> list[Frame]:
    return [each for each in read_i3(path) if each.stop == "P"]


def test_frames_come_back_with_predictions(model: Path, tmp_path: Path) -> None:
    source, output = events(tmp_path / "x.i3.gz", 40), tmp_path / "y.i3.zst"
    result = done(apply(model, source, output, "--batch_size", "16"))
    assert "40 events in 1 file" in result.out
    before, after = list(read_i3(source)), list(read_i3(output, verify=True))
    assert [each.stop for each in after] == [each.stop for each in before]
    for old, new in zip(before, after, strict=True):
        for key, stored in old.own.items():
            assert new.own[key].content == stored.content
            assert new.own[key].type_name == stored.type_name
        added = set(new.own) - set(old.own)
        assert added == ({NAME, PARTICLE} if new.stop == "P" else set())
    ids = [each[PARTICLE] for each in p_frames(output)]
    assert [each.minor_id for each in ids] == list(range(1, 41))
    assert len({each.major_id for each in ids}) == 1


def test_predictions_equal_those_of_event_files(model: Path, tmp_path: Path) -> None:
    """The longer way: create-data, and the model applied to its HDF5 file."""
    source = events(tmp_path / "i3" / "x.i3", 30)
    done(apply(model, event_file(source, tmp_path / "hdf5"), tmp_path / "expected.hdf5"))
    also = ["--hdf5", tmp_path / "y.hdf5", "--parquet", tmp_path / "y.parquet"]
    done(apply(model, source, tmp_path / "y.i3.zst", *also))
    for table in (NAME, PARTICLE):
        found, expected = rows(tmp_path / "y.hdf5", table), rows(tmp_path / "expected.hdf5", table)
        assert found.tobytes() == expected.tobytes()
    expected = rows(tmp_path / "expected.hdf5", NAME)
    particles = rows(tmp_path / "expected.hdf5", PARTICLE)
    for number, each in enumerate(p_frames(tmp_path / "y.i3.zst")):
        values = each[NAME]
        assert set(values) == set(expected.dtype.names[5:])
        for name, value in values.items():
            np.testing.assert_equal(value, float(expected[name][number]))
        np.testing.assert_equal(each[PARTICLE].energy, particles["energy"][number])
        np.testing.assert_equal(each[PARTICLE].zenith, particles["zenith"][number])
    parquet = pytest.importorskip("pyarrow.parquet").read_table(tmp_path / "y.parquet")
    label = expected.dtype.names[5]
    np.testing.assert_equal(parquet[label].to_numpy(), expected[label])


def test_bins_that_are_not_listed_have_their_initial_value_from_any_source(
    trained_run: SmallRun, tmp_path: Path
) -> None:
    changes = {"data_settings": SETTINGS, "DOM_init_values": [0.5, 2.0, 1.5]}
    model = model_of_run(trained_run, tmp_path / "model", **changes)
    source = events(tmp_path / "i3" / "x.i3", 30)
    file = event_file(source, tmp_path / "hdf5")
    done(apply(model, source, tmp_path / "y.hdf5"))
    reco = Reconstructor(model, "cpu", 1)
    expected = reco.predict(file)["EnergyVisible"]
    written = open_events(file, num_bins=3)
    assert (written.hits.features == 0).any()
    assert np.isfinite(expected).sum() > 10
    for found in (
        rows(tmp_path / "y.hdf5", NAME),
        reco.predict(source),
        reco.predict(written),
        reco.predict(written.hits),
        reco.predict(reco.read_file(file)[0].hits),
    ):
        np.testing.assert_allclose(found["EnergyVisible"], expected, rtol=1e-6)


def test_only_predictions_in_a_table(model: Path, tmp_path: Path) -> None:
    source = events(tmp_path / "x.i3", 5)
    done(apply(model, source, tmp_path / "y.hdf5"))
    assert len(rows(tmp_path / "y.hdf5", NAME)) == 5
    assert sorted(contents(tmp_path)) == ["x.i3", "y.hdf5"]


def test_events_without_input_and_frames_that_are_no_events(model: Path, tmp_path: Path) -> None:
    hits = {(3, 4): [(9000.0, 1.5)], (50, 60): [(9100.0, 1.0)]}
    source = write(
        tmp_path / "x.i3",
        [
            frame("D", BadDomsList=om_keys([(3, 4)])),
            frame("Q", **{PULSES: pulse_map(hits)}),
            frame("P", I3EventHeader=header(1, "NullSplit")),
            frame("P", I3EventHeader=header(1)),
            frame("P", note="no header"),
            frame("Q", **{PULSES: pulse_map({})}),
            frame("P", I3EventHeader=header(2)),
            frame("Q"),
            frame("P", I3EventHeader=header(3)),
        ],
    )
    result = done(apply(model, source, tmp_path / "y.i3"))
    assert "3 events in 1 file" in result.out
    assert "1 OK, 1 NO_INPUT, 1 NO_HITS" in result.out
    null, first, bare, empty, missing = p_frames(tmp_path / "y.i3")
    assert not any(NAME in each for each in (null, bare))
    assert [each[NAME]["status"] for each in (first, empty, missing)] == [0.0, 2.0, 1.0]
    label = next(iter(first[NAME]))
    assert np.isfinite(first[NAME][label])
    assert np.isnan([empty[NAME][label], missing[NAME][label]]).all()
    assert [each[PARTICLE].fit_status for each in (first, empty, missing)] == [0, 20, 10]


def test_options_without_effect_on_frames(model: Path, tmp_path: Path) -> None:
    source, output = events(tmp_path / "in" / "x.i3.gz", 3), tmp_path / "out"
    message = "--tables is for HDF5 files, but all files of --input are .i3 files"
    assert message in apply(model, source, output, "--tables", "dnn_data").err
    settings = tmp_path / "settings.yaml"
    settings.write_text(replace(SETTINGS, relative_time_method="wrt_median").to_json())
    refused = apply(model, source, output, "--data-settings", settings)
    assert refused.exit_code == 1
    assert "--data-settings contradicts the settings that the model 'model' reco" in refused.err
    assert "relative_time_method is 'wrt_median', there 'time_range'" in refused.err
    settings.write_text(SETTINGS.to_json())
    done(apply(model, source, output, "--data-settings", settings))
    # one file of each kind: both options concern a file
    made = ["--pulses", PULSES, "--format", "charge_bins", "--exclude", "BadDomsList"]
    made += ["--time-bins", "0,500,1000,1500", "--out", tmp_path / "in"]
    done(invoke("create-data", "--input", source, *made))
    line = (tmp_path / "in" / "x.*", tmp_path / "both")
    done(apply(model, *line, "--tables", "dnn_data", "--pulses", PULSES))


def test_a_gcd_file_excludes_doms(model: Path, tmp_path: Path) -> None:
    source = events(tmp_path / "x.i3", 6)
    gcd = write(tmp_path / "gcd.i3.gz", [frame("D", BadDomsList=om_keys([(1, 1), (80, 30)]))])
    every = [(string, om) for string in range(1, 87) for om in range(1, 61)]
    all_bad = write(tmp_path / "bad.i3", [frame("D", BadDomsList=om_keys(every))])
    result = done(apply(model, source, tmp_path / "plain.i3"))
    assert "'x.i3': no frame has 'BadDomsList'" in result.err
    done(apply(model, source, tmp_path / "some.i3", "--gcd", gcd))
    result = done(apply(model, source, tmp_path / "none.i3", "--gcd", all_bad))
    assert "6 NO_HITS" in result.out
    stops = "".join(each.stop for each in read_i3(tmp_path / "some.i3"))
    assert stops == "QP" * 6  # frames of the GCD file are not written
    result = apply(model, source, tmp_path / "some.i3", "--gcd", all_bad)
    assert result.exit_code == 1
    assert "--gcd was gcd.i3.gz, is bad.i3" in result.err


# --------------------------------------------------------------------------------------------------
# Which pulses
# --------------------------------------------------------------------------------------------------
def test_pulses_that_the_model_does_not_record(unknown: Path, tmp_path: Path) -> None:
    source = events(tmp_path / "x.i3", 3)
    result = apply(unknown, source, tmp_path / "y.i3")
    assert result.exit_code == 1
    assert "give --pulses" in result.err
    done(apply(unknown, source, tmp_path / "y.i3", "--pulses", PULSES))


def test_other_pulses_than_those_of_the_training(model: Path, tmp_path: Path) -> None:
    pulses = pulse_map({(3, 4): [(9000.0, 1.5)]})
    source = write(
        tmp_path / "x.i3", [frame("Q", Other=pulses), frame("P", I3EventHeader=header(1))]
    )
    result = apply(model, source, tmp_path / "y.i3", "--pulses", "Other")
    assert result.exit_code == 1
    assert "pulse_key is 'InIceDSTPulses' for the model, 'Other' in" in result.err
    ignoring = ["--pulses", "Other", "--ignore-mismatch", "pulse_key"]
    result = done(apply(model, source, tmp_path / "y.i3", *ignoring))
    assert "this difference is ignored" in result.err
    assert p_frames(tmp_path / "y.i3")[0][NAME]["status"] == 0.0


def test_misspelt_pulses_are_a_warning(unknown: Path, tmp_path: Path) -> None:
    source = events(tmp_path / "x.i3", 3)
    result = done(apply(unknown, source, tmp_path / "y.i3", "--pulses", "InIceDSTPulse"))
    assert "'x.i3': no event has input" in result.err
    assert "Did you mean 'InIceDSTPulses'?" in result.err


# --------------------------------------------------------------------------------------------------
# Files
# --------------------------------------------------------------------------------------------------
def test_a_folder_of_files(model: Path, tmp_path: Path) -> None:
    for number in range(3):
        events(tmp_path / "in" / f"x_{number}.i3.gz", 4, seed=number)
    out = tmp_path / "out"
    done(apply(model, tmp_path / "in" / "*.gz", out, "--hdf5", tmp_path / "tables"))
    shown = [name for name in sorted(contents(out)) if not name.startswith(".")]
    assert shown == [f"x_{number}.i3.zst" for number in range(3)]
    assert sorted(contents(tmp_path / "tables")) == [f"x_{number}.hdf5" for number in range(3)]
    again = done(apply(model, tmp_path / "in" / "*.gz", out, "--hdf5", tmp_path / "tables"))
    assert "12 events in 3 files, 3 of them already existing" in again.out


def test_tables_beside_the_files_are_no_input_of_the_next_call(model: Path, tmp_path: Path) -> None:
    source, out = events(tmp_path / "in" / "x.i3.gz", 4), tmp_path / "out"
    also = ["--hdf5", source.parent, "--parquet", source.parent]
    for kept in ("", ", 1 of them already existing"):
        result = done(apply(model, source.parent / "*", out, *also))
        assert result.out.startswith(f"4 events in 1 file{kept}")
    assert sorted(contents(source.parent)) == ["x.hdf5", "x.i3.gz", "x.parquet"]
    assert "'x.hdf5'" in result.err.replace(f"{source.parent}/", "")


def test_a_file_in_the_place_of_one_of_several_outputs_is_kept(model: Path, tmp_path: Path) -> None:
    source, output, table = events(tmp_path / "x.i3", 4), tmp_path / "y.i3.zst", tmp_path / "y.hdf5"
    table.write_text("of somebody else")
    result = apply(model, source, output, "--hdf5", table, "--overwrite")
    assert result.exit_code == 1
    assert f"'{table}' already exists and is not an output of this command" in result.err
    assert table.read_text() == "of somebody else"
    table.unlink()
    done(apply(model, source, output, "--hdf5", table))
    output.unlink()
    os.utime(source, (1, 1))
    result = apply(model, source, output, "--hdf5", table)
    assert f"'{table}': the input file has changed since" in result.err


def test_a_second_call_makes_only_what_is_missing_or_has_changed(
    model: Path, tmp_path: Path
) -> None:
    source, output = events(tmp_path / "x.i3", 4), tmp_path / "y.i3.zst"
    done(apply(model, source, output))
    first = output.read_bytes()
    output.unlink()
    done(apply(model, source, output))
    assert output.read_bytes() == first
    os.utime(source, (1, 1))
    result = apply(model, source, output)
    assert result.exit_code == 1
    assert "the input file has changed since" in result.err
    done(apply(model, source, output, "--overwrite"))
    assert output.read_bytes() == first


def test_a_file_that_is_no_output_is_not_replaced(model: Path, tmp_path: Path) -> None:
    source = events(tmp_path / "x.i3", 4)
    other = events(tmp_path / "y.i3", 2)
    before = other.read_bytes()
    result = apply(model, source, other, "--overwrite")
    assert result.exit_code == 1
    assert "is not an output of this command" in result.err
    assert other.read_bytes() == before


def test_predictions_are_not_put_into_a_file_twice(model: Path, tmp_path: Path) -> None:
    source = events(tmp_path / "x.i3", 4)
    done(apply(model, source, tmp_path / "y.i3"))
    result = apply(model, tmp_path / "y.i3", tmp_path / "z.i3")
    assert result.exit_code == 1
    assert f"has an object '{NAME}' already" in result.err
    assert not (tmp_path / "z.i3").exists()


def test_a_damaged_file_stops_no_other(model: Path, tmp_path: Path) -> None:
    for number in range(3):
        events(tmp_path / "in" / f"x_{number}.i3", 4, seed=number)
    damaged = tmp_path / "in" / "x_1.i3"
    damaged.write_bytes(damaged.read_bytes()[:-5])
    result = apply(model, tmp_path / "in" / "*.i3", tmp_path / "out")
    assert result.exit_code == 1
    assert "x_1.i3' is skipped: " in result.err
    shown = [name for name in sorted(contents(tmp_path / "out")) if not name.startswith(".")]
    assert shown == ["x_0.i3.zst", "x_2.i3.zst"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "i3"], "must end in .i3"),
        (["--hdf5", "y.hdf5"], "--hdf5 needs frames as output"),
    ],
)
def test_outputs_that_do_not_go_together(
    model: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    source = events(tmp_path / "x.i3", 2)
    result = apply(model, source, tmp_path / "y.parquet", *arguments)
    assert result.exit_code == 1
    assert message in result.err


# --------------------------------------------------------------------------------------------------
# In Python
# --------------------------------------------------------------------------------------------------
def test_reconstructor_reads_files_and_frames(model: Path, tmp_path: Path) -> None:
    source = events(tmp_path / "x.i3.zst", 120)
    done(apply(model, source, tmp_path / "y.hdf5"))
    expected = rows(tmp_path / "y.hdf5", NAME)
    reco = Reconstructor(model, "cpu", 1)
    for table in (reco.predict(source), reco.predict_frames(p_frames(source))):
        for name, values in table.columns().items():
            np.testing.assert_allclose(values, expected[name], rtol=1e-5)
    assert reco.predict(source).ids["Event"].tolist() == list(range(120))
    with pytest.raises(DataError, match=r"frame 0 has the stop '\w'.*in P frames"):
        reco.predict_frames(read_i3(source))


def test_frames_that_do_not_fit_their_checksum(model: Path, tmp_path: Path) -> None:
    source = events(tmp_path / "x.i3", 3)
    content = bytearray(source.read_bytes())
    charge = p_frames(source)[1][PULSES].items["charge"][:1].tobytes()
    content[content.index(charge)] ^= 1
    source.write_bytes(content)
    with pytest.raises(DataError, match="checksum"):
        Reconstructor(model, "cpu", 1).predict(source)
