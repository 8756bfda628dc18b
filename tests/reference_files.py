"""A slow and obvious writer of the files of the TensorFlow version, for small models."""

import pickle
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ruamel.yaml import YAML

from dnn_reco.nn.hexconv import kernel_cells
from dnn_reco.transform import TransformationModel

GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
DATA_TYPES = {
    "float32": 1,
    "float64": 2,
    "int32": 3,
    "uint8": 4,
    "int16": 5,
    "int8": 6,
    "int64": 9,
    "bool": 10,
}


def crc32c(data: bytes) -> int:
    """Bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17) & 0xFFFFFFFF) + 0xA282EAD8) % 2**32


def varint(number: int) -> bytes:
    result = b""
    while number >= 128:
        result += bytes([number % 128 + 128])
        number //= 128
    return result + bytes([number])


def field(number: int, value: int | bytes) -> bytes:
    """A field of a Protocol Buffers message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def block(entries: Iterable[tuple[bytes, bytes]], restart_interval: int) -> bytes:
    """Entries of a table; every so many of them, a key is written out."""
    content, restarts, before = b"", [], b""
    for number, (key, value) in enumerate(entries):
        shared = 0
        if number % restart_interval == 0:
            restarts.append(len(content))
        else:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        content += varint(shared) + varint(len(key) - shared) + varint(len(value))
        content += key[shared:] + value
        before = key
    restarts = restarts or [0]
    return content + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def with_trailer(content: bytes, kind: int = 0) -> bytes:
    content += bytes([kind])
    return content + struct.pack("<I", masked(content))


def table(entries: Mapping[bytes, bytes], per_block: int = 20, restart_interval: int = 16) -> bytes:
    """A table file."""
    data, index = b"", []
    ordered = sorted(entries.items())
    for start in range(0, len(ordered), per_block):
        chosen = ordered[start : start + per_block]
        content = block(chosen, restart_interval)
        index.append((chosen[-1][0], varint(len(data)) + varint(len(content))))
        data += with_trailer(content)
    handles = b""
    for content in (block([], 1), block(index, 1)):
        handles += varint(len(data)) + varint(len(content))
        data += with_trailer(content)
    return data + handles.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")


def entry(
    dtype: int, shape: Sequence[int], shard: int, offset: int, data: bytes, crc: int
) -> bytes:
    axes = b"".join(field(2, field(1, length)) for length in shape)
    message = field(1, dtype) + field(2, axes) + field(3, shard) + field(4, offset)
    return message + field(5, len(data)) + varint(6 << 3 | 5) + struct.pack("<I", crc)


def object_graph(names: Mapping[str, str]) -> bytes:
    """The names that variables have in their program, by key."""
    return b"".join(
        field(1, field(2, field(1, b"VALUE") + field(2, name.encode()) + field(3, key.encode())))
        for key, name in names.items()
    )


def write_bundle(
    prefix: Path,
    arrays: Mapping[str, NDArray[Any]],
    names: Mapping[str, str] | None = None,
    num_shards: int = 1,
) -> None:
    """A checkpoint; the arrays go to the data files in turn."""
    shards = [b""] * num_shards
    entries = {b"": field(1, num_shards) + field(3, field(1, 1))}
    for number, (key, array) in enumerate(arrays.items()):
        data, shard = array.tobytes(), number % num_shards
        crc, offset = masked(data), len(shards[shard])
        dtype = DATA_TYPES[array.dtype.name]
        entries[key.encode()] = entry(dtype, array.shape, shard, offset, data, crc)
        shards[shard] += data
    if names is not None:
        graph = object_graph(names)
        start = struct.pack("<I", len(graph))
        data = struct.pack("<I", masked(start)) + graph
        crc, data = masked(start + data), varint(len(graph)) + data
        entries[GRAPH_KEY.encode()] = entry(7, (), 0, len(shards[0]), data, crc)
        shards[0] += data
    Path(f"{prefix}.index").write_bytes(table(entries))
    for shard, data in enumerate(shards):
        Path(f"{prefix}.data-{shard:05d}-of-{num_shards:05d}").write_bytes(data)


def write_checkpoint(
    prefix: Path, variables: Sequence[tuple[str, NDArray[Any]]], iterations: int
) -> None:
    """A checkpoint of a model with these variables (name, value), and the file that names it."""
    arrays = {f"model/{number}{VALUE}": array for number, (_, array) in enumerate(variables)}
    names = {f"model/{number}{VALUE}": name for number, (name, _) in enumerate(variables)}
    step = f"step{VALUE}"
    arrays[step], names[step] = np.array(iterations), "step"
    write_bundle(prefix, arrays, names)
    (prefix.parent / "checkpoint").write_text(f'model_checkpoint_path: "{prefix.name}"\n')


def plain_variables(network: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """Names and values of a network's variables, in the TensorFlow version's order.

    For networks of plain and untilted hexagonal kernels, without batch norm.
    """
    scopes = {"upper": "upper_deepcore", "lower": "lower_deepcore"}
    for branch in ("upper", "lower", "ic78", "fc", "fc_unc"):
        for number, layer in enumerate(getattr(network, branch)):
            prefix = f"GeneralIC86CNN__{scopes.get(branch, branch)}_{number:03d}"
            weighted = layer if branch.startswith("fc") else layer.convolution
            yield f"{prefix}_biases", weighted.bias.detach().numpy()
            weight = weighted.weight.detach().numpy()
            if branch == "ic78":
                cells = kernel_cells(layer.settings.filter_size[0], 0)
                for (a, b), values in zip(cells, weight, strict=True):
                    yield f"{prefix}_hex_conv_kernel_weights_{a}_{b}", values
            else:
                yield f"{prefix}_weights", weight
            if layer.residual_scale is not None:
                yield "weights", layer.residual_scale.detach().numpy()


def older_variables(network: Any) -> dict[str, NDArray[Any]]:
    """A network's variables by their names in the older generation.

    For networks of plain and untilted hexagonal kernels, without batch norm, and with activations
    that have no weights.
    """
    variables: dict[str, NDArray[Any]] = {}

    def add(name: str, tensor: Any) -> None:
        count = sum(re.fullmatch(rf"{name}(_\d+)?", other) is not None for other in variables)
        variables[f"{name}_{count}" if count else name] = tensor.detach().numpy()

    for branch in ("upper", "lower", "ic78", "fc", "fc_unc"):
        scope = "model_unc" if branch == "fc_unc" else "model_pred"
        for layer in getattr(network, branch):
            weighted = layer if branch.startswith("fc") else layer.convolution
            for kernel in weighted.weight if branch == "ic78" else [weighted.weight]:
                add(f"{scope}/weights", kernel)
            add(f"{scope}/biases", weighted.bias)
            if layer.residual_scale is not None:
                add(f"{scope}/weights", layer.residual_scale)
    return variables


def trafo_dictionary(model: TransformationModel) -> dict[str, Any]:
    """What the pickle of a transformation model holds."""
    settings = model.settings
    num_bins, has_misc = settings.num_bins, bool(settings.misc_names)
    content: dict[str, Any] = {
        "num_bins": num_bins,
        "label_shape": [len(settings.label_names)],
        "misc_shape": [len(settings.misc_names)] if has_misc else None,
        "label_names": list(settings.label_names),
        "misc_names": list(settings.misc_names) if has_misc else None,
        "log_dom_bins": list(settings.log_dom_bins),
        "log_label_bins": np.array(settings.log_label_bins),
        "log_misc_bins": list(settings.log_misc_bins),
        "normalize_dom_data": settings.normalize_dom_data,
        "normalize_label_data": settings.normalize_label_data,
        "normalize_misc_data": settings.normalize_misc_data,
        "treat_doms_equally": settings.treat_doms_equally,
        "norm_constant": settings.norm_constant,
    }
    for kind in ("mean", "std"):
        cells = getattr(model, f"dom_{kind}")
        content[f"ic78_{kind}"] = cells[:6000].reshape(10, 10, 60, num_bins)
        content[f"deepcore_{kind}"] = cells[6000:].reshape(8, 60, num_bins)
        content[f"label_{kind}"] = getattr(model, f"label_{kind}")
        if has_misc:
            content[f"misc_{kind}"] = getattr(model, f"misc_{kind}")
    return content


def write_trafo(path: Path, model: TransformationModel) -> None:
    path.write_bytes(pickle.dumps(trafo_dictionary(model), protocol=2))


def write_config(path: Path, settings: Mapping[str, Any]) -> None:
    with path.open("w") as file:
        YAML(typ="safe", pure=True).dump(dict(settings), file)


def write_reference_model(
    folder: Path, network: Any, transformation: TransformationModel, settings: Mapping[str, Any]
) -> None:
    """A model as the TensorFlow version exports it, of a network of plain kernels."""
    folder.mkdir(parents=True)
    num_labels = len(transformation.settings.label_names)
    label_weights = np.ones(num_labels, dtype=np.float32)
    variables = [("label_weights", label_weights), *plain_variables(network)]
    write_checkpoint(folder / "ckpt-300", variables, iterations=300)
    write_trafo(folder / "trafo_model.npy", transformation)
    write_config(folder / "config_training_0000.yaml", settings)
    (folder / "training_steps.yaml").write_text("0: 300\n")


def write_older_model(
    folder: Path,
    variables: Mapping[str, NDArray[Any]],
    transformation: TransformationModel,
    settings: Mapping[str, Any],
) -> None:
    """A model as the TensorFlow version's older generation exports it."""
    folder.mkdir(parents=True)
    write_bundle(folder / "model-500", variables)
    (folder / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/run/model-500"\n')
    write_trafo(folder / "trafo_model.npy", transformation)
    write_config(folder / "config_training_0000.yaml", settings)
    (folder / "training_steps.yaml").write_text("0: 500\n")
