"""The tray segment: its defaults, several models, and what it refuses."""

import inspect
import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from ic3_frames import SETTINGS, I3Tray, Network, Sink, Source, direct, p_frame, write_model

from dnn_reco.errors import ConfigError, DataError, ModelError
from dnn_reco.ic3.modules import DeepLearningReco, DNNContainerHandler
from dnn_reco.ic3.segments import ApplyDNNRecos


def apply(number_of_frames: int, models_dir: Path, names: Any, **arguments: Any) -> list[Any]:
    """The frames behind the segment."""
    tray, found = I3Tray(), list[Any]()
    tray.AddModule(Source, "source", Frames=[p_frame(i) for i in range(number_of_frames)])
    tray.AddSegment(ApplyDNNRecos, "reco", model_names=names, models_dir=models_dir, **arguments)
    tray.AddModule(Sink, "sink", Frames=found)
    tray.Execute()
    return found


class Recorded:
    """A tray that only records what is added to it."""

    def __init__(self) -> None:
        self.added: list[tuple[type, str, dict[str, Any]]] = []

    def AddModule(self, kind: type, name: str, **parameters: Any) -> None:
        self.added.append((kind, name, parameters))


def test_arguments_are_those_of_the_reference() -> None:
    parameters = inspect.signature(ApplyDNNRecos).parameters
    assert [f"{name}={p.default}" for name, p in parameters.items()][3:] == [
        "pulse_key=None",
        "dom_exclusions=None",
        "partial_exclusion=None",
        "output_keys=None",
        "models_dir=.",
        "cascade_key=MCCascade",
        "ignore_misconfigured_settings_list=None",
        "measure_time=True",
        "batch_size=1",
        "num_cpus=1",
        "verbose=False",
    ]
    assert list(parameters)[:3] == ["tray", "name", "model_names"]


def test_models_by_name(models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DNN_RECO_PRETRAINED", str(models))
    by_name = apply(3, tmp_path, ["pretrained:first", "pretrained:second"], measure_time=False)
    by_path = apply(3, models, ["first", "second"], measure_time=False)
    for one, other in zip(by_name, by_path, strict=True):
        for key in ("DeepLearningReco_first", "DeepLearningReco_second"):
            assert dict(one[key]) == dict(other[key])
    with pytest.raises(ModelError, match=r"Did you mean 'first'\?"):
        apply(1, models, "pretrained:frist")


def test_several_models(models: Path) -> None:
    frames = apply(5, models, ["first", "second"], batch_size=3)
    assert len(frames) == 5
    for frame in frames:
        for model in ("first", "second"):
            result = frame[f"DeepLearningReco_{model}"]
            for name, value in direct(frame, models / model).items():
                assert result[name] == pytest.approx(value, rel=1e-4, abs=1e-3)
            assert {"runtime_prediction", "runtime_preprocess", "runtime_write"} < result.keys()
            assert f"DeepLearningReco_{model}_I3Particle" in frame


def test_none_is_the_setting_of_the_model(models: Path) -> None:
    tray = Recorded()
    ApplyDNNRecos(tray, "_x", "first", models_dir=str(models))
    (kind, name, parameters), (reco, reco_name, reco_parameters) = tray.added
    assert (kind, name) == (DNNContainerHandler, "DNNContainerHandler__x")
    assert (reco, reco_name) == (DeepLearningReco, "DeepLearningReco_first_x")
    container = parameters["DNNDataContainer"]
    assert container.config == asdict(SETTINGS)
    assert container.batch_size == 1
    assert reco_parameters == {
        "ModelPath": str(models / "first"),
        "DNNDataContainer": container,
        "OutputBaseName": "DeepLearningReco_first",
        "MeasureTime": True,
        "ParallelismThreads": 1,
        "IgnoreMisconfiguredSettingsList": None,
    }


def test_other_settings_must_be_allowed(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    tray = Recorded()
    ApplyDNNRecos(tray, "", "first", models_dir=models, pulse_key="Mask")
    assert tray.added[0][2]["DNNDataContainer"].config["pulse_key"] == "Mask"
    for setting, value in (
        ("pulse_key", "Other"),
        ("dom_exclusions", ["BrightDOMs"]),
        ("partial_exclusion", False),
    ):
        with pytest.raises(DataError, match=setting):
            ApplyDNNRecos(tray, "", "first", models_dir=models, **{setting: value})
        allowed = {setting: value, "ignore_misconfigured_settings_list": [setting]}
        with caplog.at_level(logging.WARNING):
            apply(1, models, "first", **allowed)
        assert setting in caplog.text


def test_a_second_model_of_other_settings(models: Path, network: Network, tmp_path: Path) -> None:
    (tmp_path / "first").symlink_to(models / "first")
    write_model(network, tmp_path / "other", replace(SETTINGS, pulse_key="X", num_bins=10))
    with pytest.raises(DataError, match="num_bins"):
        apply(1, tmp_path, ["first", "other"])


def test_output_keys(models: Path) -> None:
    (frame,) = apply(1, models, "first", output_keys="mine", measure_time=False)
    assert "mine" in frame and "mine_I3Particle" in frame
    with pytest.raises(ConfigError, match="2 models and 1 output_keys"):
        apply(1, models, ["first", "second"], output_keys=["mine"])
    with pytest.raises(ConfigError, match="model_names is empty"):
        apply(1, models, [])


def test_models_that_cannot_set_up_the_features(network: Network, tmp_path: Path) -> None:
    write_model(network, tmp_path / "unknown", None)
    with pytest.raises(ModelError, match="does not hold the settings of its training data"):
        apply(1, tmp_path, "unknown")
    write_model(network, tmp_path / "nameless", replace(SETTINGS, pulse_key=None))
    with pytest.raises(ConfigError, match="give pulse_key"):
        apply(1, tmp_path, "nameless")
    write_model(network, tmp_path / "encoder", replace(SETTINGS, data_format="autoencoder"))
    with pytest.raises(ConfigError, match="autoencoder"):
        apply(1, tmp_path, "encoder")
