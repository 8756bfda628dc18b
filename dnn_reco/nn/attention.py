"""Transformer layers over the tokens of events, without waste on padding.

Pre-norm layers (Xiong et al., arXiv:2002.04745): x + attention(norm(x)), then x + mlp(norm(x)).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dnn_reco.nn.length_buckets import TokenLayout
from dnn_reco.nn.predictor import autocast_disabled

# Distances [m] that count as far and near.
_FAR, _NEAR = 500.0, 20.0


class TransformerLayer(nn.Module):
    """Attention among the tokens of each event, and a small dense network on each token.

    Parameters
    ----------
    width
        Numbers of a token.
    num_heads
        Heads of attention, a divisor of the width.
    hidden
        Width inside of the dense network.
    """

    def __init__(self, width: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, hidden)
        self.mlp_out = nn.Linear(hidden, width)
        for dense in (self.qkv, self.mlp_in):
            start_at_variance_one(dense)
        # at first a layer adds nothing to what it is given
        for dense in (self.out, self.mlp_out):
            nn.init.zeros_(dense.weight)
            nn.init.zeros_(dense.bias)

    def forward(
        self,
        tokens: Tensor,
        layout: TokenLayout,
        biases: Sequence[Tensor | None],
    ) -> Tensor:
        """All tokens after this layer [rows, width].

        Parameters
        ----------
        tokens
            Tokens before [rows, width].
        layout
            Where the tokens of each event lie.
        biases
            For each group what is added to the logits of attention.
        """
        parts = torch.split(self.qkv(self.norm_attention(tokens)), layout.sizes)
        attended = [
            self._attend_all(part.view(group.num_events, group.length, -1), bias)
            for part, group, bias in zip(parts, layout.groups, biases, strict=True)
        ]
        tokens = tokens + self.out(torch.cat(attended))
        return tokens + self._mlp(tokens)

    def summarise(
        self,
        tokens: Tensor,
        layout: TokenLayout,
        biases: Sequence[Tensor | None],
    ) -> Tensor:
        """The first token of each event alone after this layer [B, width], in order of the batch.

        The same numbers as from :meth:`forward`, at a fraction of the cost.
        """
        width = tokens.shape[1]
        normed = self.norm_attention(tokens)
        weight, bias = self.qkv.weight, self.qkv.bias
        of_groups = normed[layout.summary[layout.order]]
        queries = functional.linear(of_groups, weight[:width], bias[:width])
        keys_values = functional.linear(normed, weight[width:], bias[width:])
        attended = [
            self._attend_first(query, part.view(group.num_events, group.length, -1), mask)
            for query, part, group, mask in zip(
                torch.split(queries, [group.num_events for group in layout.groups]),
                torch.split(keys_values, layout.sizes),
                layout.groups,
                biases,
                strict=True,
            )
        ]
        added = self.out(torch.cat(attended)[layout.order.argsort()])
        summary: Tensor = tokens[layout.summary] + added
        return summary + self._mlp(summary)

    def _mlp(self, tokens: Tensor) -> Tensor:
        hidden = functional.gelu(self.mlp_in(self.norm_mlp(tokens)))
        out: Tensor = self.mlp_out(hidden)
        return out

    def _attend_all(self, qkv: Tensor, bias: Tensor | None) -> Tensor:
        """[G, N, 3 width] -> [G N, width]."""
        num_events, length, _ = qkv.shape
        parts = qkv.view(num_events, length, 3, self.num_heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        out = _attend(query, key, value, bias)
        return out.transpose(1, 2).reshape(num_events * length, -1)

    def _attend_first(self, query: Tensor, keys_values: Tensor, bias: Tensor | None) -> Tensor:
        """[G, width] and [G, N, 2 width] -> [G, width]."""
        num_events, length, _ = keys_values.shape
        parts = keys_values.view(num_events, length, 2, self.num_heads, -1)
        key, value = parts.permute(2, 0, 3, 1, 4)
        heads = query.view(num_events, self.num_heads, 1, -1)
        of_first = None if bias is None else bias[:, :, :1]
        out = _attend(heads, key, value, of_first)
        return out.flatten(1)


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """Attention of all heads [G, heads, N, width / heads].

    Trained in bfloat16, CPUs still take float32 here: the gradient takes four times as long in
    bfloat16.
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16 or not query.requires_grad:
        return functional.scaled_dot_product_attention(query, key, value, bias)
    with autocast_disabled(query.device):
        return functional.scaled_dot_product_attention(
            query.float(), key.float(), value.float(), bias
        )


def start_at_variance_one(dense: nn.Linear, variance: float = 1.0) -> None:
    """Random weights that turn inputs of mean square 1 into outputs of that variance.

    Far larger than what PyTorch begins with (a third of the variance): a transformer of few layers
    begins to learn the direction after half as many events.
    """
    nn.init.normal_(dense.weight, std=(variance / dense.in_features) ** 0.5)
    nn.init.zeros_(dense.bias)


class RelativeBias(nn.Module):
    """How attention between two hits depends on where and when they are to each other.

    A small network turns distance, time difference, and by how much the later hit is after, or
    before, the light of the earlier one, into a number that is added to the logits of each head; 0
    from and to the token that sums up the event.

    Parameters
    ----------
    num_heads
        Heads of attention.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.dense = nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Linear(16, num_heads))

    def forward(self, places: Tensor, layout: TokenLayout) -> list[Tensor]:
        """For each group what to add to the logits [G, num_heads, N, N].

        Parameters
        ----------
        places
            Position and time of each hit [k, 4] in m (time: the way of light in ice).
        layout
            Where the tokens of each event lie.
        """
        # the fifth column tells hits from all else
        places = torch.cat([places, torch.ones_like(places[:, :1])], dim=1)
        rows = places.new_zeros(layout.num_rows, 5).index_copy(0, layout.hits, places)
        biases = []
        for part, group in zip(torch.split(rows, layout.sizes), layout.groups, strict=True):
            of_group = part.view(group.num_events, group.length, 5)
            is_hit = of_group[:, :, 4]
            difference = of_group[:, :, None, :4] - of_group[:, None, :, :4]
            distance = (difference[..., :3].square().sum(dim=3) + 1).sqrt()
            time = difference[..., 3]
            delay = time.abs() - distance
            inputs = torch.stack(
                [distance / _FAR, time / _FAR, delay / _FAR, torch.asinh(delay / _NEAR)], dim=3
            )
            both = (is_hit[:, :, None] * is_hit[:, None])[:, None]
            bias = self.dense(inputs).permute(0, 3, 1, 2) * both
            biases.append(bias if group.bias is None else bias + group.bias)
        return biases


class Trunk(nn.Module):
    """Layers one after the other; from the last one only the first token of each event is taken.

    Parameters
    ----------
    width, num_heads, hidden
        See :class:`TransformerLayer`.
    num_layers
        How many layers there are.
    """

    def __init__(self, width: int, num_layers: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerLayer(width, num_heads, hidden) for _ in range(num_layers - 1)
        )
        self.last = TransformerLayer(width, num_heads, hidden)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, tokens: Tensor, layout: TokenLayout, biases: Sequence[Tensor | None]
    ) -> Tensor:
        """What the layers make of the first token of each event [B, width]; see the layers."""
        for layer in self.layers:
            tokens = layer(tokens, layout, biases)
        summary: Tensor = self.norm(self.last.summarise(tokens, layout, biases))
        return summary
