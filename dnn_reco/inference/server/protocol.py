"""Requests and responses of the Open Inference Protocol V2, which KServe and Triton speak.

JSON, and Triton's extension for binary tensors: the body is JSON, of the length that the header
`Inference-Header-Content-Length` states, then the little-endian numbers of all binary tensors in
the order of the JSON. What tensors mean is known elsewhere
(:mod:`dnn_reco.inference.server.endpoints`).

JSON has no NaN: missing numbers are null there, in both directions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dnn_reco.errors import DataError

MAX_JSON_SIZE = 2**22
"""Largest JSON of a request in bytes: empty lists in lists take 60 times as much memory, read."""

VERSION = "1"
"""The one version that each model has."""

DTYPES = {
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (4, 8)},
}
"""NumPy type, as on the wire, of each datatype in use."""

_DATATYPES = {dtype: name for name, dtype in DTYPES.items()}
_NOT_SUPPORTED = ("shared_memory_region", "classification")  # parameters that change the meaning


class RequestError(DataError):
    """A request that cannot be answered.

    Attributes
    ----------
    code
        Status code of the HTTP response.
    """

    def __init__(self, reason: str, code: int = 400) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True)
class TensorSpec:
    """A tensor that a model reads or returns.

    Attributes
    ----------
    name
        Its name.
    datatypes
        The datatypes that it may have; the first is the one to recommend.
    shape
        Its shape; -1: any length.
    is_optional
        Whether a request may leave it out.
    """

    name: str
    datatypes: tuple[str, ...]
    shape: tuple[int, ...] = (-1,)
    is_optional: bool = False

    def metadata(self) -> dict[str, Any]:
        """Description of the tensor in the metadata of a model."""
        described = {"name": self.name, "datatype": self.datatypes[0], "shape": list(self.shape)}
        return described | ({"parameters": {"optional": True}} if self.is_optional else {})


@dataclass(frozen=True)
class OutputChoice:
    """An output that a request asks for."""

    name: str
    is_binary: bool


@dataclass(frozen=True)
class InferRequest:
    """A request for predictions, valid as far as the protocol goes.

    Attributes
    ----------
    id
        What the client calls it; None: nothing.
    tensors
        Its input tensors by name, in native byte order.
    outputs
        The outputs that it asks for.
    """

    id: str | None
    tensors: Mapping[str, NDArray[Any]]
    outputs: tuple[OutputChoice, ...]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Input(_Part):
    name: str
    datatype: str
    shape: list[Annotated[int, Field(ge=0)]]
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class _Output(_Part):
    name: str
    parameters: dict[str, Any] = {}


class _Header(_Part):
    """The JSON of a request."""

    id: str | None = None
    parameters: dict[str, Any] = {}
    inputs: list[_Input]
    outputs: list[_Output] | None = None


def parse_request(
    body: bytes | bytearray,
    header_length: str | None,
    inputs: Sequence[TensorSpec],
    output_names: Sequence[str],
) -> InferRequest:
    """Parse a request for predictions.

    Parameters
    ----------
    body
        Body of the HTTP request.
    header_length
        Its header `Inference-Header-Content-Length`; None: the body is JSON alone.
    inputs
        Input tensors of the model.
    output_names
        Names of its outputs.

    Raises
    ------
    RequestError
        If the request does not follow the protocol, or has other tensors than the model.
    """
    json_part, binary_part = _split(body, header_length)
    header = _parse_header(json_part)
    for part in (header, *header.inputs, *(header.outputs or ())):
        for name in _NOT_SUPPORTED:
            if name in part.parameters:
                raise RequestError(f"the parameter '{name}' is not supported")
    return InferRequest(
        header.id,
        _tensors(header.inputs, binary_part, inputs),
        _chosen_outputs(header, output_names),
    )


def _split(
    body: bytes | bytearray, header_length: str | None
) -> tuple[bytes | bytearray, memoryview]:
    """The JSON and the binary part of a body."""
    length = len(body)
    if header_length is not None:
        is_number = (
            header_length.isascii() and header_length.isdecimal() and len(header_length) < 20
        )
        if not is_number or int(header_length) > len(body):
            raise RequestError(
                "Inference-Header-Content-Length must be the number of bytes of JSON at the start "
                f"of the body, at most {len(body)}"
            )
        length = int(header_length)
    if length > MAX_JSON_SIZE:
        raise RequestError(
            f"{length} bytes of JSON, at most {MAX_JSON_SIZE} are accepted: send tensors as binary "
            "data, or fewer events",
            413,
        )
    return body[:length], memoryview(body)[length:]


def _parse_header(text: bytes | bytearray) -> _Header:
    try:
        return _Header.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])[:100]
        raise RequestError(f"{place}: {first['msg']}" if place else first["msg"]) from error


def _tensors(
    given: Sequence[_Input], binary: memoryview, specs: Sequence[TensorSpec]
) -> dict[str, NDArray[Any]]:
    """The arrays of all inputs, by name."""
    known = {spec.name: spec for spec in specs}
    arrays: dict[str, NDArray[Any]] = {}
    for tensor in given:
        if tensor.name not in known:
            raise RequestError(
                f"there is no input '{tensor.name[:100]}': the inputs are {', '.join(known)}"
            )
        if tensor.name in arrays:
            raise RequestError(f"the input '{tensor.name}' is given twice")
        arrays[tensor.name], used = _array(tensor, binary, known[tensor.name])
        binary = binary[used:]
    if len(binary):
        raise RequestError(f"{len(binary)} bytes of binary data belong to no input")
    missing = [name for name, spec in known.items() if not (spec.is_optional or name in arrays)]
    if missing:
        raise RequestError(f"inputs are missing: {', '.join(missing)}")
    return arrays


def _array(tensor: _Input, binary: memoryview, spec: TensorSpec) -> tuple[NDArray[Any], int]:
    """The array of an input, and how many bytes of the binary part it takes."""
    _check_type_and_shape(tensor, spec)
    dtype, size = DTYPES[tensor.datatype], math.prod(tensor.shape)
    num_bytes = tensor.parameters.get("binary_data_size")
    if (num_bytes is None) == (tensor.data is None):
        raise RequestError(
            f"'{tensor.name}' needs either 'data' or the parameter 'binary_data_size'"
        )
    if tensor.data is not None:
        values = _values(tensor.name, tensor.data, tensor.shape)
        return _array_of_json(tensor.name, values, dtype).reshape(tensor.shape), 0
    if type(num_bytes) is not int or num_bytes != size * dtype.itemsize:
        raise RequestError(
            f"'{tensor.name}' of shape {tensor.shape} has {size * dtype.itemsize} bytes, its "
            "'binary_data_size' differs"
        )
    if num_bytes > len(binary):
        raise RequestError(f"the body ends before the binary data of '{tensor.name}'")
    array = np.frombuffer(binary[:num_bytes], dtype)
    # A copy is aligned and may be written to, as PyTorch wants it.
    return array.astype(dtype.newbyteorder("=")).reshape(tensor.shape), num_bytes


def _check_type_and_shape(tensor: _Input, spec: TensorSpec) -> None:
    if tensor.datatype not in spec.datatypes:
        raise RequestError(
            f"'{tensor.name}' must have the datatype {' or '.join(spec.datatypes)}, not "
            f"'{tensor.datatype[:20]}'"
        )
    fits = len(tensor.shape) == len(spec.shape) and all(
        wanted in (-1, length) for wanted, length in zip(spec.shape, tensor.shape, strict=True)
    )
    if not fits:
        raise RequestError(
            f"'{tensor.name}' must have the shape {list(spec.shape)} (-1: any length), not "
            f"{str(tensor.shape)[:100]}"
        )


def _values(name: str, data: list[Any], shape: Sequence[int]) -> list[Any]:
    """The numbers of a tensor in JSON, which are a flat list or lists in lists."""
    values = data
    for length in shape[1:]:
        if not values or type(values[0]) is not list:
            break
        if not all(type(row) is list and len(row) == length for row in values):
            raise RequestError(f"the nested lists of '{name}' do not have the shape {list(shape)}")
        values = list(chain.from_iterable(values))
    if len(values) != math.prod(shape):
        raise RequestError(
            f"'{name}' of shape {str(shape)[:100]} has {math.prod(shape)} values, its 'data' have "
            f"{len(values)}"
        )
    return values


def _array_of_json(name: str, values: list[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array of JSON numbers; null is NaN."""
    is_real = dtype.kind == "f"
    wanted = {int, float, type(None)} if is_real else {int}
    if not set(map(type, values)) <= wanted:
        kind = "numbers or null" if is_real else "whole numbers"
        raise RequestError(f"the data of '{name}' must be {kind}")
    try:
        wide = np.array(values, np.float64 if is_real else np.int64)
    except OverflowError as error:
        raise RequestError(f"the data of '{name}' have a number out of range") from error
    if not is_real and len(wide):
        limits = np.iinfo(dtype)
        if int(wide.min()) < limits.min or int(wide.max()) > limits.max:
            raise RequestError(f"the data of '{name}' have a number out of range")
    with np.errstate(over="ignore"):
        return wide.astype(dtype.newbyteorder("="))


def _chosen_outputs(header: _Header, names: Sequence[str]) -> tuple[OutputChoice, ...]:
    """The outputs that a request asks for; all of them if it does not choose."""
    by_default = _flag(header.parameters, "binary_data_output", False)
    if not header.outputs:
        return tuple(OutputChoice(name, by_default) for name in names)
    chosen: dict[str, OutputChoice] = {}
    for output in header.outputs:
        if output.name not in names:
            raise RequestError(
                f"there is no output '{output.name[:100]}': the outputs are {', '.join(names)}"
            )
        if output.name in chosen:
            raise RequestError(f"the output '{output.name}' is requested twice")
        is_binary = _flag(output.parameters, "binary_data", by_default)
        chosen[output.name] = OutputChoice(output.name, is_binary)
    return tuple(chosen.values())


def _flag(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise RequestError(f"the parameter '{name}' must be true or false")
    return value


def encode_response(
    model: str, request: InferRequest, columns: Mapping[str, NDArray[Any]]
) -> tuple[bytes, int | None]:
    """The body of a response, and the length of its JSON if binary data follow it.

    Parameters
    ----------
    model
        Name of the model.
    request
        What is answered.
    columns
        Values [n] of each output.
    """
    outputs: list[dict[str, Any]] = []
    binary: list[bytes] = []
    for choice in request.outputs:
        array = columns[choice.name]
        wire = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        output = {"name": choice.name, "datatype": _DATATYPES[wire.dtype], "shape": [*array.shape]}
        if choice.is_binary:
            binary.append(wire.tobytes())
            outputs.append(output | {"parameters": {"binary_data_size": wire.nbytes}})
        else:
            outputs.append(output | {"data": _json_values(array)})
    about_request = {} if request.id is None else {"id": request.id}
    text = json.dumps(
        {"model_name": model, "model_version": VERSION, **about_request, "outputs": outputs},
        allow_nan=False,
    ).encode()
    return b"".join([text, *binary]), len(text) if binary else None


def _json_values(array: NDArray[Any]) -> list[Any]:
    """Values for JSON: null where they are not finite."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return [value if math.isfinite(value) else None for value in array.tolist()]
    values: list[Any] = array.tolist()
    return values
