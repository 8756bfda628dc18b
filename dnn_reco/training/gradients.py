"""What happens to a gradient before an optimizer takes it: cleaning, accumulation, clipping.

No function here changes a gradient in place: where two parameters enter a network in the same way,
autograd gives both the very same tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

# Of each parameter; None where the loss does not depend on it.
Gradient = Sequence[Tensor | None]


@dataclass(frozen=True)
class Clipping:
    """Limits of a gradient; None: no limit. They are applied in this order.

    Attributes
    ----------
    global_norm
        Greatest norm of the whole gradient, which keeps its direction.
    norm
        Greatest norm of the gradient of each parameter tensor.
    value
        Greatest absolute value of each entry.
    """

    global_norm: float | None = None
    norm: float | None = None
    value: float | None = None

    def at_most(self, global_norm: float | None) -> Clipping:
        """The same limits, with this one added."""
        norms = [norm for norm in (self.global_norm, global_norm) if norm is not None]
        return replace(self, global_norm=min(norms, default=None))

    def clip(self, gradient: Gradient, norm: Tensor) -> list[Tensor | None]:
        """The gradient within its limits; `norm` is its global norm."""
        parts = _parts(gradient)
        if self.global_norm is not None:
            scale = (self.global_norm / (norm + 1e-6)).clamp(max=1.0)
            parts = list(torch._foreach_mul(parts, scale))
        if self.norm is not None:
            lengths = [torch.linalg.vector_norm(part).clamp(min=self.norm) for part in parts]
            parts = [part * (self.norm / n) for part, n in zip(parts, lengths, strict=True)]
        if self.value is not None:
            parts = [part.clamp(-self.value, self.value) for part in parts]
        return _replaced(gradient, parts)


class NonFiniteGradientFilter:
    """Sets gradient entries that are not finite to 0, and counts them.

    The count stays on the device, so that no step waits for it.

    Attributes
    ----------
    counts
        Entries set to 0, and batches with any, since the last :meth:`take_counts` [2], int64.
    """

    def __init__(self, device: torch.device) -> None:
        self.counts = torch.zeros(2, dtype=torch.int64, device=device)

    def clean(self, gradient: Gradient) -> list[Tensor | None]:
        """The gradient without the entries that are not finite."""
        parts = _parts(gradient)
        flat = torch.cat([part.reshape(-1) for part in parts])
        finite = flat.isfinite()
        removed = (~finite).sum()
        self.counts += torch.stack([removed, (removed > 0).to(removed.dtype)])
        sizes = [part.numel() for part in parts]
        pieces = torch.split_with_sizes(torch.where(finite, flat, 0.0), sizes)
        return _replaced(gradient, [p.view_as(q) for p, q in zip(pieces, parts, strict=True)])

    def take_counts(self) -> tuple[int, int]:
        """The counts, which then start again at 0."""
        entries, batches = self.counts.tolist()
        self.counts.zero_()
        return entries, batches


class GradientAccumulator:
    """Mean gradient of successive batches: a step of the optimizer on more events than fit at once.

    Parameters
    ----------
    parameters
        What the gradient is taken by, by name.
    num_batches
        Batches of a step.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], num_batches: int = 1) -> None:
        self._names = tuple(parameters)
        self._num_batches = num_batches
        self._count = 0
        self._sum: list[Tensor | None] = [None] * len(parameters)

    def add(self, gradient: Gradient) -> Tensor:
        """Take note of the gradient of one batch; returns the global norm of the mean so far."""
        self._count += 1
        if self._count == 1 and self._num_batches > 1:
            # a network that plays CUDA graphs writes the next gradient to the same place
            gradient = _replaced(gradient, [part.clone() for part in _parts(gradient)])
        self._sum = [
            old if new is None else new if old is None else old + new
            for old, new in zip(self._sum, gradient, strict=True)
        ]
        norm = torch.nn.utils.get_total_norm(_parts(self._sum))
        return norm if self._count == 1 else norm / self._count

    def take(self) -> list[Tensor | None] | None:
        """The mean, once there are enough batches; the next one then starts from nothing."""
        if self._count < self._num_batches:
            return None
        mean = self._sum
        if self._count > 1:
            mean = _replaced(mean, torch._foreach_div(_parts(mean), self._count))
        self._count, self._sum = 0, [None] * len(mean)
        return mean

    def state(self) -> dict[str, Tensor]:
        """The unfinished sum, for a checkpoint."""
        parts = zip(self._names, self._sum, strict=True)
        gradients = {f"gradient/{name}": part for name, part in parts if part is not None}
        return {"count": torch.tensor(self._count), **gradients} if gradients else {}

    def restore(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Take over what :meth:`state` gave."""
        parts = [state.get(f"gradient/{name}") for name in self._names]
        self._count = int(state.get("count", 0))
        self._sum = [None if part is None else part.to(device) for part in parts]


def _parts(gradient: Gradient) -> list[Tensor]:
    return [part for part in gradient if part is not None]


def _replaced(gradient: Gradient, parts: Iterable[Tensor]) -> list[Tensor | None]:
    """A gradient with other tensors where it has any."""
    rest = iter(parts)
    return [None if part is None else next(rest) for part in gradient]
