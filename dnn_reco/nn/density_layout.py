"""Which densities a network predicts beside labels and uncertainties, and where: without torch.

A density is a mixture of components, each given by a few numbers. For labels these are relative to
the label and its uncertainty σ, so that they describe the *shape* of the density alone: it shifts
and widens with the label and σ, such as by a time offset or a calibration. That of a direction is
complete in itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

import numpy as np
from numpy.typing import NDArray

DIRECTION = "direction"
"""Name of the direction beside those of labels."""

MIN_KAPPA, MAX_KAPPA = 1e-3, 1e7
"""Least and greatest concentration κ: almost uniform, and cones of a hundredth of a degree."""

DensityKind = Literal["von_mises_fisher", "flow", "student", "normal"]

NUM_BINS = 8
"""Number of bins of each spline of a flow."""

_NUM_PARAMETERS = {"von_mises_fisher": 4, "flow": 4 + 6 * NUM_BINS + 1, "student": 4, "normal": 3}


@dataclass(frozen=True)
class DensityShape:
    """The shape of one density: a mixture of components of one kind.

    Attributes
    ----------
    label
        Name of the label, or `direction`.
    kind
        Kind of the components, each with the logarithm of its weight (the weights sum to 1), and

        - `von_mises_fisher`: its mean direction times its concentration κ;
        - `flow`: the same of the distribution that is deformed, then widths, heights and slopes of
          the bins of two splines (:mod:`dnn_reco.nn.sphere_flow`);
        - `normal`: its mean minus the label, and its standard deviation, both in units of the
          label's σ, in the space of σ (ln(1 + x) for labels with logarithm);
        - `student`: the same for the median and the scale of Student's t distribution, and its
          degrees of freedom.
    num_components
        Number K of components.
    """

    label: str
    kind: DensityKind
    num_components: int

    @property
    def num_parameters(self) -> int:
        """Number of parameters of a component."""
        return _NUM_PARAMETERS[self.kind]

    @property
    def width(self) -> int:
        """Number of columns that it takes: the components, one after the other."""
        return self.num_components * self.num_parameters


@dataclass(frozen=True)
class PredictedShapes:
    """The shapes of the densities of n events.

    Attributes
    ----------
    layout
        The densities, in the order of their columns.
    values
        Their parameters [n, P], NaN for events that could not be reconstructed.
    """

    layout: tuple[DensityShape, ...]
    values: NDArray[np.float64]

    def kind(self, label: str) -> DensityKind | None:
        """Kind of the components of a label, or of `direction`; None: it has no shape."""
        return next((shape.kind for shape in self.layout if shape.label == label), None)

    def of(self, label: str) -> NDArray[np.float64] | None:
        """Components [n, K, parameters] of a label, or of `direction`; None: it has no shape."""
        found = columns_of(self.layout, label)
        if found is None:
            return None
        shape, columns = found
        return self.values[:, columns].reshape(
            len(self.values), shape.num_components, shape.num_parameters
        )

    def with_components(self, label: str, components: NDArray[np.float64]) -> PredictedShapes:
        """The same with other components [n, K, parameters] of a label that has a shape."""
        found = columns_of(self.layout, label)
        assert found is not None
        values = self.values.copy()
        values[:, found[1]] = components.reshape(len(values), -1)
        return replace(self, values=values)

    def rows(self, events: NDArray[np.integer] | NDArray[np.bool_]) -> PredictedShapes:
        """The same for some of the events only, by their numbers or a mask."""
        return replace(self, values=self.values[events])


def predicted_shapes(
    layout: tuple[DensityShape, ...], values: NDArray[np.floating]
) -> PredictedShapes | None:
    """Shapes of n events by their parameters [n, P]; None: there are none."""
    return PredictedShapes(layout, values.astype(np.float64)) if layout else None


def total_width(layout: Sequence[DensityShape]) -> int:
    """Number P of columns of all shapes."""
    return sum(shape.width for shape in layout)


def columns_of(layout: Sequence[DensityShape], label: str) -> tuple[DensityShape, slice] | None:
    """The shape of a label, or of `direction`, and its columns; None: it has none."""
    ends = accumulate(shape.width for shape in layout)
    for shape, end in zip(layout, ends, strict=True):
        if shape.label == label:
            return shape, slice(end - shape.width, end)
    return None


def mixed_layout(layouts: Sequence[Sequence[DensityShape]]) -> tuple[DensityShape, ...]:
    """The shapes of the mixture of several predictions: all components of all of them.

    A label has one if it has a shape of the same kind in each of them.
    """
    first, *others = [{shape.label: shape for shape in layout} for layout in layouts]
    return tuple(
        replace(shape, num_components=sum(each[label].num_components for each in (first, *others)))
        for label, shape in first.items()
        if all(label in each and each[label].kind == shape.kind for each in others)
    )
