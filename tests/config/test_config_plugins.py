"""Users' functions: import of their dotted names, and the config that is passed to them."""

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from dnn_reco import ConfigError
from dnn_reco.config import PluginConfig, load_config, resolve, source_hash
from dnn_reco.detector import grid

WriteConfig = Callable[..., Path]


@pytest.fixture
def user_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of a user: one good module, one that fails, one that lacks a library."""
    package = tmp_path / "my_reco_plugins"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "labels.py").write_text(
        "class Loaders:\n    @staticmethod\n    def energies(): return 7\n\n"
        "def directions(): return 8\n"
    )
    (package / "failing.py").write_text("raise RuntimeError('no detector')\n")
    (package / "lacking.py").write_text("import a_library_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield package
    for name in [name for name in sys.modules if name.startswith("my_reco_plugins")]:
        del sys.modules[name]


def test_resolve_functions_and_nested_names(user_package: Path) -> None:
    assert resolve("my_reco_plugins.labels.directions", "k")() == 8
    assert resolve("my_reco_plugins.labels.Loaders.energies", "k")() == 7
    assert resolve("dnn_reco.detector.grid.main_array", "k") is grid.main_array


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("my_reco_plugins.labels.direction", "'my_reco_plugins.labels' has no 'direction'"),
        ("my_reco_plugins.labels.direction", "nearest name there is 'directions'"),
        ("my_reco_plugins.label.directions", "'my_reco_plugins' has no 'label'"),
        ("my_reco_plugins.label.directions", "nearest name there is 'labels'"),
        ("my_reco_plugins.labels.Loaders.energy", "'my_reco_plugins.labels.Loaders' has no"),
        ("my_reco_plugins_absent.labels.f", "no module 'my_reco_plugins_absent'"),
        ("my_reco_plugins.failing.f", "cannot be imported: RuntimeError: no detector"),
        ("my_reco_plugins.lacking.f", "needs 'a_library_nobody_has', which is not installed"),
        ("no-name.at all", "not a dotted name"),
        ("single", "not a dotted name"),
    ],
)
def test_resolve_names_the_part_that_fails(user_package: Path, name: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(name, "evaluation_class")
    assert expected in str(caught.value)
    assert f"'evaluation_class' is '{name}'" in str(caught.value)


def test_source_hash_follows_the_code(user_package: Path) -> None:
    before = source_hash(resolve("my_reco_plugins.labels.directions", "k"))
    assert source_hash(resolve("my_reco_plugins.labels.Loaders", "k")) == before
    assert source_hash(grid.main_array) != before
    with (user_package / "labels.py").open("a") as file:
        file.write("# changed\n")
    assert source_hash(resolve("my_reco_plugins.labels.directions", "k")) != before
    with pytest.raises(ConfigError, match="not defined in a Python source file"):
        source_hash(len)


def test_view_offers_both_spellings(production_style: Path) -> None:
    view = load_config([production_style]).plugin_view()
    assert view["data_handler_label_class"].endswith("muon_scattering_labels.muon_scattering")
    assert view["data_handler_label_file"] == "muon_scattering_labels"
    assert view["data_handler_label_name"] == "muon_scattering"
    assert view["conv_IC78_settings"] == view["model_kwargs"]["conv_ic78_settings"]
    assert view["keep_probability_list"] == [0.95, 1.0, 1.0, 1.0]
    assert view["tf_random_seed"] == 17
    assert view["unique_name"] == "cascade_classifier"
    assert view["config_name"] == "production_style"


def test_view_holds_plain_values_as_in_the_file(production_style: Path) -> None:
    view = load_config([production_style]).plugin_view()
    assert view["misc_load_dict"] == {
        "Tag": "value",
        "FilterMask": ["MuonFilter", "CascadeFilter"],
    }
    assert isinstance(view["misc_load_dict"]["FilterMask"], list)
    assert view["label_pid_keys"] == ["p_b300"]
    assert view["nn_biased_selection"]["label_equal"] == {"p_neutrino": 1.0}
    assert view["np_float_precision"] is np.float64


def test_view_lacks_module_keys_that_are_not_set(write: WriteConfig) -> None:
    view = load_config([write("label_keys_to_load:\nmine: 3\n")]).plugin_view()
    assert "label_keys_to_load" not in view
    assert "labels_muon_scattering_defs" not in view
    assert view.get("event_weights_nugen_keys", "absent") == "absent"
    assert view["label_position_at_rel_time"] is None
    assert view["mine"] == 3
    view = load_config([write("label_keys_to_load: [a, b]\n")]).plugin_view()
    assert view["label_keys_to_load"] == ["a", "b"]


def test_view_records_which_keys_were_read(write: WriteConfig) -> None:
    view = load_config([write("label_zenith_key: Z\n")]).plugin_view()
    assert view.keys_read == frozenset()
    assert view["label_zenith_key"] == "Z"
    assert "my_switch" not in view
    assert view.get("label_add_dir_vec") is False
    assert view.keys_read == {"label_zenith_key", "my_switch", "label_add_dir_vec"}


def test_private_copy_of_a_view_can_be_changed(write: WriteConfig) -> None:
    view = load_config([write("label_zenith_key: Z\nmine: [1]\n")]).plugin_view()
    private = view.private_copy()
    private["label_zenith_key"] = "A"
    private["mine"].append(2)
    del private["batch_size"]
    assert (private["label_zenith_key"], private["mine"]) == ("A", [1, 2])
    assert (view["label_zenith_key"], view["mine"], view["batch_size"]) == ("Z", [1], 32)


def test_view_names_the_nearest_key(write: WriteConfig) -> None:
    view = load_config([write("label_zenith_key: Z\n")]).plugin_view()
    with pytest.raises(KeyError, match="nearest that is set is 'label_zenith_key'"):
        view["label_zenit_key"]


def test_view_can_be_pickled_for_worker_processes(production_style: Path) -> None:
    view = load_config([production_style]).plugin_view()
    copy = pickle.loads(pickle.dumps(view))
    assert dict(copy) == dict(view)
    assert copy["np_float_precision"] is np.float64


def test_config_can_be_pickled_for_worker_processes(write: WriteConfig) -> None:
    config = load_config([write("batch_size: 8\n")])
    copy = pickle.loads(pickle.dumps(config))
    assert copy.values() == config.values()
    with pytest.raises(ConfigError, match="'unique_name' is not set"):
        _ = copy.general.unique_name


def test_the_configuration_that_functions_see_is_a_mapping() -> None:
    """One that notes what was read, for a stored result depends on it."""
    values = {"a": 1, "b": [2]}
    view = PluginConfig(values)
    assert list(view) == ["a", "b", "np_float_precision"]
    assert len(view) == 3
    assert view["np_float_precision"] is np.float64
    assert view.keys_read == {"np_float_precision"}
    assert "a" in view
    assert "c" not in view
    assert (view.get("c"), view.get("d", 5), view.get("b")) == (None, 5, [2])
    with pytest.raises(KeyError, match=r"'e' is not set; the nearest that is set is"):
        view["e"]
    assert view.keys_read == {"a", "b", "c", "d", "e", "np_float_precision"}
    assert view.fresh().keys_read == frozenset()

    private = view.private_copy()
    private["c"] = 3
    private["b"].append(4)
    del private["a"]
    assert [*private.items()] == [("b", [2, 4]), ("np_float_precision", np.float64), ("c", 3)]
    assert "a" in view
    assert values == {"a": 1, "b": [2]}
    assert "c" not in view
    private.get("f")
    assert "f" in view.keys_read
