"""Length bucketing of the tokens of a batch, so that attention wastes little on padding.

Events are sorted by their number of tokens and divided into buckets of similar length. All buckets
are concatenated in one tensor [rows, width]: operations on single tokens use it directly, and
attention handles each bucket [events, length, width] separately, padded to its longest event. The
first token of each event is its summary token; the tokens of its hits follow.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dnn_reco.data.hit_batch import HitBatch, count_hits
from dnn_reco.errors import ModelError

# An event joins the bucket of a longer one if it has at least this fraction of its length. On a
# GPU, where launching the kernels of a bucket costs as much as computing them, buckets are fewer.
_SHARE_OF_LONGEST = {"cpu": 0.8}
_SHARE_ON_ACCELERATOR = 0.5


@dataclass(frozen=True)
class LengthBucket:
    """Events of similar length, padded to the longest.

    Attributes
    ----------
    num_events, length
        Number of events G, and of tokens N of the longest.
    bias
        What is added to the attention logits [G, 1, 1, N]: 0 for tokens, -inf for padding; None
        where there is no padding.
    """

    num_events: int
    length: int
    bias: Tensor | None

    @property
    def num_rows(self) -> int:
        """Number of rows of this bucket, padding included."""
        return self.num_events * self.length


@dataclass(frozen=True)
class TokenLayout:
    """Rows of the tokens of B events with k hits.

    Attributes
    ----------
    buckets
        The buckets, longest events first.
    order
        The events in the order of the buckets [B].
    summary
        Row of the summary token of each event [B], in the order of the batch.
    hits
        Row of the token of each hit [k].
    """

    buckets: tuple[LengthBucket, ...]
    order: Tensor
    summary: Tensor
    hits: Tensor

    @property
    def num_rows(self) -> int:
        """Number of rows, padding included."""
        return sum(self.sizes)

    @property
    def sizes(self) -> list[int]:
        """Number of rows of each bucket, padding included."""
        return [bucket.num_rows for bucket in self.buckets]


def bucket_by_length(
    hits: HitBatch, dtype: torch.dtype, share_of_longest: float | None = None
) -> TokenLayout:
    """Assign the tokens of a batch to buckets and rows.

    Parameters
    ----------
    hits
        The hits. Without `counts` a GPU is waited for.
    dtype
        Type of the tokens.
    share_of_longest
        Minimum length of the events of a bucket, as a fraction of its longest event. None: the
        default of the device.

    Raises
    ------
    ModelError
        If the hits are not in the order of their events (on CPUs; others are not waited for).
    """
    event = hits.event
    if share_of_longest is None:
        share_of_longest = _SHARE_OF_LONGEST.get(event.device.type, _SHARE_ON_ACCELERATOR)
    counts = count_hits(event, hits.num_events)
    if torch.compiler.is_exporting():
        return _one_bucket(event, counts, dtype)
    if event.device.type == "cpu" and not hits.is_in_order:
        raise ModelError(
            "the hits of a batch are not in the order of their events: sort them by 'event'"
        )
    lengths, order = (counts + 1).sort(descending=True, stable=True)
    on_host = _lengths_on_host(hits)
    ends = _bucket_ends(on_host, share_of_longest)
    buckets, first_rows, row = [], [], 0
    for start, end in zip([0, *ends], ends, strict=False):
        bucket = _bucket(lengths[start:end], on_host[start], on_host[end - 1], dtype)
        steps = torch.arange(bucket.num_events, device=event.device) * bucket.length
        first_rows.append(row + steps)
        buckets.append(bucket)
        row += bucket.num_rows
    summary = torch.empty_like(counts)
    summary[order] = torch.cat(first_rows) if first_rows else order
    return TokenLayout(
        tuple(buckets), order, summary, summary[event] + 1 + _rank_in_event(event, counts)
    )


def _one_bucket(event: Tensor, counts: Tensor, dtype: torch.dtype) -> TokenLayout:
    """All events in one bucket, in their order: for exported graphs, whose shapes are symbolic."""
    num_events = counts.shape[0]
    length: int = counts.max().item() + 1  # type: ignore[assignment]  # int() cannot be exported
    torch._check(length > 0)  # type: ignore[no-untyped-call]
    order = torch.arange(num_events, device=event.device)
    bucket = _padded_bucket(counts + 1, length, dtype)
    summary = order * length
    return TokenLayout(
        (bucket,), order, summary, summary[event] + 1 + _rank_in_event(event, counts)
    )


def _lengths_on_host(hits: HitBatch) -> list[int]:
    """Number of tokens of each event, descending."""
    counts = hits.with_counts().counts
    assert counts is not None
    lengths: list[int] = (np.sort(counts)[::-1] + 1).tolist()
    return lengths


def _rank_in_event(event: Tensor, counts: Tensor) -> Tensor:
    """Number of each hit among those of its event [k], from 0."""
    first_hit = counts.cumsum(0) - counts
    return torch.arange(event.shape[0], device=event.device) - first_hit[event]


def _bucket_ends(lengths: Sequence[int], share_of_longest: float) -> list[int]:
    """End of each bucket in descending lengths."""
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
    return _padded_bucket(lengths, longest, dtype)


def _padded_bucket(lengths: Tensor, longest: int, dtype: torch.dtype) -> LengthBucket:
    is_padding = torch.arange(longest, device=lengths.device) >= lengths[:, None]
    bias = torch.zeros(is_padding.shape, dtype=dtype, device=lengths.device)
    return LengthBucket(
        lengths.shape[0], longest, bias.masked_fill_(is_padding, -torch.inf)[:, None, None]
    )
