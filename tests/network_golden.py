"""The shared golden files of the reference, read with `parity/golden.py`."""

from collections.abc import Iterable
from pathlib import Path

from golden import LABEL_KEYS, GoldenFolder, parameters

from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.modules.models.general_IC86_cnn import GeneralIC86CNN
from dnn_reco.nn.interface import NetworkSpec
from dnn_reco.transform import TransformationModel

__all__ = ["LABEL_KEYS", "parameters"]


def opened(folder: Path) -> GoldenFolder:
    """The folder, with the inputs and the transformation model that its networks use."""
    return GoldenFolder(folder, "data_numu_medium_inputs9", "trafo_inputs9_5files")


def transformation(folder: Path, name: str | None = None) -> TransformationModel:
    return opened(folder).read_transformation(name)


def spec(folder: Path) -> NetworkSpec:
    return opened(folder).spec()


def hits(folder: Path, events: Iterable[int] = range(32)) -> HitBatch:
    return opened(folder).hits(events)


def model(folder: Path, name: str, transformation: str | None = None) -> GeneralIC86CNN:
    """A golden network with its weights, in inference mode, errors of the reference included."""
    return opened(folder).network(name, legacy=True, transformation=transformation)
