"""Where the tokens of a batch lie, so that attention wastes little on padding.

Events are sorted by their number of tokens and cut into groups of similar length. All groups lie
behind one another in one tensor [rows, width]: what acts on single tokens takes it as it is, and
attention takes each group [events, length, width] by itself, padded only to its own longest event.
The first token of each event is the one that sums it up; those of its hits follow.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# An event joins the group of a longer one if it is at least so many times as long. On a GPU, where
# each group costs as much to start as to compute, groups are fewer.
_SHARE_OF_LONGEST = {"cpu": 0.8}
_SHARE_ON_ACCELERATOR = 0.5


@dataclass(frozen=True)
class LengthBucket:
    """Events that attention takes together.

    Attributes
    ----------
    num_events, length
        Number of events G, and of tokens N of the longest.
    bias
        What is added to the logits of attention [G, 1, 1, N]: 0 for tokens, -inf for padding; None
        where there is no padding.
    """

    num_events: int
    length: int
    bias: Tensor | None

    @property
    def num_rows(self) -> int:
        """Rows of the tensor of all tokens that this group takes."""
        return self.num_events * self.length


@dataclass(frozen=True)
class TokenLayout:
    """Rows of the tokens of B events with k hits.

    Attributes
    ----------
    groups
        The groups, longest events first.
    order
        The events in the order of the groups [B].
    summary
        Row of the first token of each event [B], in the order of the batch.
    hits
        Row of the token of each hit [k].
    """

    groups: tuple[LengthBucket, ...]
    order: Tensor
    summary: Tensor
    hits: Tensor

    @property
    def num_rows(self) -> int:
        """Number of rows, padding included."""
        return sum(group.num_rows for group in self.groups)

    @property
    def sizes(self) -> list[int]:
        """Rows of each group."""
        return [group.num_rows for group in self.groups]


def bucket_by_length(
    event: Tensor, num_events: int, dtype: torch.dtype, share_of_longest: float | None = None
) -> TokenLayout:
    """Find a place for all tokens of a batch.

    Parameters
    ----------
    event
        Event of each hit [k], ascending.
    num_events
        Number of events B.
    dtype
        Type of the tokens.
    share_of_longest
        How long the events of a group are at least, in terms of the longest. None: what suits the
        device.
    """
    if share_of_longest is None:
        share_of_longest = _SHARE_OF_LONGEST.get(event.device.type, _SHARE_ON_ACCELERATOR)
    counts = torch.bincount(event, minlength=num_events)
    lengths, order = (counts + 1).sort(descending=True, stable=True)
    on_host = lengths.tolist()
    ends = _bucket_ends(on_host, share_of_longest)
    groups, first_rows, row = [], [], 0
    for start, end in zip([0, *ends], ends, strict=False):
        group = _bucket(lengths[start:end], on_host[start], on_host[end - 1], dtype)
        steps = torch.arange(group.num_events, device=event.device) * group.length
        first_rows.append(row + steps)
        groups.append(group)
        row += group.num_rows
    summary = torch.empty_like(counts)
    summary[order] = torch.cat(first_rows) if first_rows else order
    first_hit = counts.cumsum(0) - counts
    within = torch.arange(len(event), device=event.device) - first_hit[event]
    return TokenLayout(tuple(groups), order, summary, summary[event] + 1 + within)


def _bucket_ends(lengths: Sequence[int], share_of_longest: float) -> list[int]:
    """Where each group ends, in lengths that descend."""
    ends: list[int] = []
    longest = 0
    for i, length in enumerate(lengths):
        if i == 0:
            longest = length
        elif length < share_of_longest * longest:
            ends.append(i)
            longest = length
    return [*ends, len(lengths)] if lengths else []


def _bucket(lengths: Tensor, longest: int, shortest: int, dtype: torch.dtype) -> LengthBucket:
    if longest == shortest:
        return LengthBucket(len(lengths), longest, None)
    is_padding = torch.arange(longest, device=lengths.device) >= lengths[:, None]
    bias = torch.zeros(is_padding.shape, dtype=dtype, device=lengths.device)
    return LengthBucket(
        len(lengths), longest, bias.masked_fill_(is_padding, -torch.inf)[:, None, None]
    )
