"""Plans of files that are given directly."""

from pathlib import Path

import pytest
from plan_files import touch

from dnn_reco.data.data_settings_file import settings_of_segment
from dnn_reco.data_creation.plan import CREATE_DATA, DirectOptions, plan_from_options
from dnn_reco.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    touch(["a/one.i3.zst", "a/two.i3.gz", "a/GCD.i3.gz", "b/three.i3", "b/one.i3.bz2"])


def options(*inputs: str, **further: object) -> DirectOptions:
    return DirectOptions(inputs, Path("out"), "InIceDSTPulses", **further)  # type: ignore[arg-type]


def test_each_input_gives_a_file() -> None:
    plan = plan_from_options(options("a/*.i3.*", "b/three.i3", gcd=Path("a/GCD.i3.gz")))
    found = {str(plan.outputs.paths(f.output)[0]): list(map(str, f.inputs)) for f in plan.files}
    assert found == {
        "out/one.hdf5": ["a/one.i3.zst"],
        "out/two.hdf5": ["a/two.i3.gz"],
        "out/three.hdf5": ["b/three.i3"],
    }
    assert {file.gcd for file in plan.files} == {Path("a/GCD.i3.gz")}
    assert (plan.outputs.hdf5, plan.outputs.i3) == (True, False)
    assert [segment.only_simulation for segment in plan.steps] == [True, True, False]
    assert plan.files[0].segments == plan.steps


def test_features() -> None:
    plan = plan_from_options(options("b/three.i3"))
    assert plan.steps[-1].module_class == CREATE_DATA
    made = settings_of_segment(plan.steps[-1].kwargs, "here")
    assert made.num_bins == 9
    assert made.data_format == "pulse_summmary_clipped"
    assert made.relative_time_method == "time_range"
    assert made.pulse_key == "InIceDSTPulses"
    assert made.dom_exclusions == ("SaturationWindows", "BadDomsList", "CalibrationErrata")
    assert made.partial_exclusion is True
    bins = options("b/three.i3", data_format="charge_bins", time_bins=(0, 5, 10), exclusions=())
    made = settings_of_segment(plan_from_options(bins).steps[-1].kwargs, "here")
    assert (made.num_bins, made.time_bins, made.dom_exclusions) == (2, (0.0, 5.0, 10.0), ())


def test_mistakes() -> None:
    with pytest.raises(DataError, match="no file matches --input"):
        plan_from_options(options("c/*.i3"))
    with pytest.raises(DataError, match="the GCD file 'x' does not exist"):
        plan_from_options(options("b/three.i3", gcd=Path("x")))
    with pytest.raises(DataError, match="--input matches only the GCD file"):
        plan_from_options(options("a/GCD.i3.gz", gcd=Path("a/GCD.i3.gz")))
    with pytest.raises(ConfigError, match=r"two runs would write 'out/one'.*a/one.*b/one"):
        plan_from_options(options("a/one*", "b/one*"))
    with pytest.raises(ConfigError, match="unknown data format 'charge'"):
        plan_from_options(options("b/three.i3", data_format="charge"))
    with pytest.raises(ConfigError, match="add --num-bins"):
        plan_from_options(options("b/three.i3", data_format="mine.charge"))
    with pytest.raises(ConfigError, match=r"'time_bins' has no effect .* \(charge_bins, "):
        plan_from_options(options("b/three.i3", time_bins=(0.0, 100.0)))
    with pytest.raises(ConfigError, match=r"'time_quantiles' has no effect on .* 'charge_bins'"):
        quantiles = options(
            "b/three.i3",
            data_format="charge_bins",
            time_bins=(0.0, 100.0),
            time_quantiles=(0.5,),
        )
        plan_from_options(quantiles)
    with pytest.raises(ConfigError, match="'TimeBins'"):
        plan_from_options(options("b/three.i3", time_bins=(3, 1)))
