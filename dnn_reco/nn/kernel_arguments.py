"""Arguments of the compiled functions that compute layers on CPUs (:mod:`dnn_reco.nn.cpu_kernels`).

All arrays are flat; shapes in brackets are those of their values.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float32]
Shape: TypeAlias = tuple[int, ...]


class Matrix(NamedTuple):
    """A matrix in flat memory.

    Attributes
    ----------
    values
        The memory.
    start, row, column
        Place of the first element, and distances from one row and column to the next.
    """

    values: Array
    start: int
    row: int
    column: int


class Layer(NamedTuple):
    """What a layer does, and the geometry of its padded buffer.

    Attributes
    ----------
    num_inputs, num_outputs
        Number of channels.
    shape, pooled_shape
        Lengths along x, y, z of input and output.
    strides
        Distances in the input between events, channels, and along x, y, z.
    window
        Lengths of the windows of the average pooling.
    elu, residual
        Whether there is an activation (ELU), and whether the input is added to the output.
    origin, row, plane, channel
        Index of the first position in the buffer, and distances between rows (along y), planes
        (along x) and channels.
    length
        Values of a plane in the buffer, with their padding: a multiple of TILE.
    """

    num_inputs: int
    num_outputs: int
    shape: Shape
    pooled_shape: Shape
    strides: tuple[int, ...]
    window: Shape
    elu: bool
    residual: bool
    origin: int
    row: int
    plane: int
    channel: int
    length: int


class Weights(NamedTuple):
    """Weights of a layer.

    Attributes
    ----------
    kernel
        [blocks, steps, 5, 3]. Steps are cells, input channels, and groups of 3 taps.
    steps
        Distance in the buffer from a position to the first input of each step.
    bias, scale
        Bias, and factor of the activated values next to the residual [C out].
    """

    kernel: Array
    steps: NDArray[np.int64]
    bias: Array
    scale: Array


class Gradients(NamedTuple):
    """Where the gradients of a layer go.

    Attributes
    ----------
    x
        Of the input [B, C in, x, y, z], to be written; empty if it is not needed.
    kernel
        Sums that make up the gradient of the kernel, to be added to [blocks, steps, 5, 3, WIDTH].
    bias, scale
        Of bias and scale, to be added to.
    """

    x: Array
    kernel: Array
    bias: Array
    scale: Array


class Part(NamedTuple):
    """A part of the detector as the input [C, x, y, z] of a stack of layers.

    Attributes
    ----------
    background
        Values of an event without hits [C, x, y, z].
    first_cell
        Cell of the first position of each channel [C]; the others follow.
    target
        Index in the input of the first feature of each cell; -1 for cells of other parts.
    step
        Distance in the input from one feature to the next.
    shape
        Lengths along x, y, z.
    """

    background: Array
    first_cell: NDArray[np.int64]
    target: NDArray[np.int64]
    step: int
    shape: Shape


class PlacedHits(NamedTuple):
    """Hits of a batch in cells of the detector.

    Attributes
    ----------
    first_hit
        Number of the first hit of each event, and of all hits [B + 1].
    cell
        Cell of each hit [k].
    values
        Transformed features [k, F].
    keep
        Factor of the background of each cell [B, cells]; empty: 1.
    """

    first_hit: NDArray[np.int64]
    cell: NDArray[np.int64]
    values: Array
    keep: Array


class TransformerShape(NamedTuple):
    """Dimensions of a transformer (:mod:`dnn_reco.nn.token_kernels`).

    Attributes
    ----------
    width, num_heads, hidden, num_layers
        Dimension of a token; number of heads; hidden width of the MLPs; number of layers.
    dense
        For each dense layer the index of its kernel [inputs, outputs] in the weights, that of its
        bias, and its numbers of inputs and outputs. The layers are: two for the tokens of hits, two
        for those of events, and for each transformer layer that of queries, keys and values, the
        one after the attention, and the two of the MLP.
    """

    width: int
    num_heads: int
    hidden: int
    num_layers: int
    dense: NDArray[np.int64]


class KeptLayer(NamedTuple):
    """Where values begin that are kept of a transformer layer, for the gradient.

    Attributes
    ----------
    normed, deviation
        Normalised tokens [rows, width], and one over their standard deviation [rows].
    qkv
        Queries, keys and values [rows, 3 width].
    scales
        The largest logit of each row and head, and one over the sum of its exponentials [rows,
        heads, 2].
    attended
        Results of the attention [rows, width].
    normed_mlp, deviation_mlp
        As the first two, before the MLP.
    hidden
        Hidden values before the activation [rows, hidden].
    """

    normed: int
    deviation: int
    qkv: int
    scales: int
    attended: int
    normed_mlp: int
    deviation_mlp: int
    hidden: int


class Tokens(NamedTuple):
    """Inputs of the tokens of E events with k hits.

    Attributes
    ----------
    hits
        Inputs of each hit [k, inputs], ordered by event.
    events
        Inputs of each event [E, inputs].
    first_hit
        Number of the first hit of each event, and of all hits [E + 1].
    """

    hits: Array
    events: Array
    first_hit: NDArray[np.int64]


class RawHits(NamedTuple):
    """Hits of E events, ordered by event.

    Attributes
    ----------
    features
        Features [k, F].
    dom
        DOM index of each hit [k].
    first_hit
        Number of the first hit of each event, and of all hits [E + 1].
    rotation
        Angle in radian by which each event is rotated [E]; empty: none.
    """

    features: Array
    dom: NDArray[np.int64]
    first_hit: NDArray[np.int64]
    rotation: Array


class InputConstants(NamedTuple):
    """What the inputs of hits and events are computed with (:class:`dnn_reco.nn.tokens.HitInputs`).

    Attributes
    ----------
    positions
        Position of each DOM [DOMs, 3], in m.
    is_efficient
        1 for DOMs with a high quantum efficiency, 0 for others [DOMs].
    axis
        Position of the axis of rotations [3], in m.
    waves
        Wave numbers, in 1/m, and zeros up to a multiple of the length of vectors.
    is_time
        1 for features that are times, 0 for others [F].
    charges
        Features whose sum is the charge; none: the charge is 1.
    num_features, num_waves
        Numbers of features F and of wave numbers.
    time
        The feature that is the time of the first pulse, in ns; -1: none.
    speed, per_length
        Speed of light in ice, in m/ns, and one over the unit of length, in 1/m.
    """

    positions: Array
    is_efficient: Array
    axis: Array
    waves: Array
    is_time: Array
    charges: NDArray[np.int64]
    num_features: int
    num_waves: int
    time: int
    speed: np.float32
    per_length: np.float32
