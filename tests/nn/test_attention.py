"""Layers over buckets of events, against attention written out for one event."""

import math

import pytest
import torch
from torch import Tensor

from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.nn.attention import RelativeBias, TransformerLayer
from dnn_reco.nn.length_buckets import TokenLayout, bucket_by_length

COUNTS = torch.tensor([3, 12, 0, 11, 5, 12])
WIDTH, HEADS = 8, 2


def layer_by_hand(layer: TransformerLayer, tokens: Tensor, bias: Tensor | None) -> Tensor:
    """One event: tokens [N, WIDTH], bias [HEADS, N, N]."""
    normed = layer.norm_attention(tokens)
    weights, offsets = layer.qkv.weight, layer.qkv.bias
    outputs = []
    size = WIDTH // HEADS
    for head in range(HEADS):
        query, key, value = (
            normed @ weights[start : start + size].T + offsets[start : start + size]
            for start in (part * WIDTH + head * size for part in range(3))
        )
        logits = query @ key.T / math.sqrt(size)
        if bias is not None:
            logits = logits + bias[head]
        outputs.append(torch.softmax(logits, dim=1) @ value)
    tokens = tokens + layer.out(torch.cat(outputs, dim=1))
    hidden = torch.nn.functional.gelu(layer.mlp_in(layer.norm_mlp(tokens)))
    return tokens + layer.mlp_out(hidden)


def some_tokens() -> tuple[TokenLayout, Tensor, list[Tensor]]:
    """Layout, tokens, and the rows of each event."""
    event = torch.arange(len(COUNTS)).repeat_interleave(COUNTS)
    hits = HitBatch(len(COUNTS), event, event, torch.zeros(len(event), 1))
    layout = bucket_by_length(hits, torch.float64)
    assert 1 < len(layout.buckets) < len(COUNTS)
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(layout.num_rows, WIDTH, generator=generator, dtype=torch.float64)
    rows = [
        torch.cat([layout.summary[number, None], layout.hits[event == number]])
        for number in range(len(COUNTS))
    ]
    return layout, tokens, rows


def bias_by_hand(bias: RelativeBias, coordinates: Tensor) -> Tensor:
    """Hits of one event with coordinates [n, 4] -> [HEADS, n + 1, n + 1]."""
    num_hits = len(coordinates)
    result = torch.zeros(HEADS, num_hits + 1, num_hits + 1, dtype=torch.float64)
    for i, first in enumerate(coordinates):
        for j, second in enumerate(coordinates):
            distance = math.sqrt(float((first - second)[:3].square().sum()) + 1)
            time = float(first[3] - second[3])
            delay = abs(time) - distance
            inputs = [distance / 500, time / 500, delay / 500, math.asinh(delay / 20)]
            result[:, i + 1, j + 1] = bias.dense(torch.tensor(inputs, dtype=torch.float64))
    return result


@pytest.mark.parametrize("relative", [False, True])
@torch.no_grad()
def test_layer(relative: bool) -> None:
    torch.manual_seed(2)
    layer, bias = TransformerLayer(WIDTH, HEADS, 12).double(), RelativeBias(HEADS).double()
    for parameter in layer.parameters():  # some begin with 0
        parameter.normal_(std=0.5)
    layout, tokens, rows = some_tokens()
    coordinates = 200 * torch.randn(int(COUNTS.sum()), 4, dtype=torch.float64)
    of_events = torch.split(coordinates, COUNTS.tolist())
    biases = bias(coordinates, layout) if relative else [bucket.bias for bucket in layout.buckets]
    found = layer(tokens, layout, biases)
    summary = layer.summarise(tokens, layout, biases)
    for number, of_event in enumerate(rows):
        by_hand = bias_by_hand(bias, of_events[number]) if relative else None
        expected = layer_by_hand(layer, tokens[of_event], by_hand)
        torch.testing.assert_close(found[of_event], expected)
        torch.testing.assert_close(summary[number], expected[0])
